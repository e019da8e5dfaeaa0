"""The feature cache on disk: features of images and texts, stored for later benchmarks, later runs and after a kill.

    CACHE/fp32-cpu-<digest>/space.json                     the model, and everything else that determines its features
                            pictures-<sha256>.safetensors  features of whole batches, and the keys of their images
                            texts-<sha256>.safetensors     the same for texts
                            pairs-<sha256>.safetensors     scores of whole batches of pairs, of models that score pairs
                            picture_names-<sha256>.json    names of these images in their datasets, for `cache export`
                            text_names-<sha256>.json

There is one folder for each model, precision, device type and set of package versions (a *model folder*): features of
two folders are never mixed. Within it, an item is found by its key, the digest of what the model is given for it.

There is no index file. Which keys are stored is read from the headers of the shards, so nothing can contradict them. A
shard is on disk whole or not at all, is never changed, and is compared with the SHA-256 in its name when its features
are used. Therefore a process may be killed at any moment, several processes may use one cache at the same time, and any
file may be deleted or copied by hand.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_core.files import atomic_write_text, remove_leftovers
from cosmos_eval.cache.shard import (
    FILE_PREFIX,
    FORM,
    KEY_BYTES,
    SUFFIX,
    DamagedFileError,
    Shard,
    list_files,
    list_model_folders,
    list_temporary_files,
    read_keys,
    read_shard,
    shard_bytes,
    write_checksummed,
)
from cosmos_eval.profiling import phase
from cosmos_eval.progress import Reporter, Silent

FOLDER = ".embeddings"
"""Name of the cache folder inside the results folder of a run."""
LIMIT = 10 * 10**9
"""Default size limit of a cache, in bytes."""
RESERVED_BYTES = 64 * 2**20
"""Bytes of free disk space that the cache never uses: results need them."""
SHARD_BYTES = 64 * 2**20
"""Features are written to a new shard when this many bytes are waiting, or after `WRITE_INTERVAL`."""
WRITE_INTERVAL = 5.0
"""Seconds between two writes of features; a killed process loses what it has encoded since the last one."""
WRITE_PAUSE_FACTOR = 50
"""On a slow disk, features wait longer: writing takes at most 1 / WRITE_PAUSE_FACTOR of the time."""
STALE_SECONDS = 3600.0
"""Age from which a temporary file counts as left by a killed process."""
FEATURES_VERSION = 1
"""Raised when a change of our code changes the features that a model gives for the same input."""
PACKAGES = ("torch", "torchvision", "open_clip_torch", "transformers", "timm", "pillow")
"""Packages that compute features or the pixels they are computed from; another version may give other numbers. An
adapter of another package names it in `packages`."""


@dataclass
class FeatureCache:
    """The feature cache: a folder with the features of any number of models.

    Args:
        folder: created when the first features are written.
        limit: size limit in bytes; beyond it, the least recently used files are removed.
        is_writable: False only reads: nothing is stored, shrunk or removed, whatever its limit was when it was filled.

    Raises:
        RequestError: the limit is not positive, or `folder` is a file.
    """

    folder: Path
    limit: int = LIMIT
    is_writable: bool = True

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise RequestError(f"the size limit of the feature cache must be above 0, got {self.limit} bytes")
        if self.folder.exists() and not self.folder.is_dir():
            raise RequestError(f"{self.folder} is not a folder; give another path for the feature cache (--cache)")
        if not self.is_writable:
            return
        for model_folder in list_model_folders(self.folder):
            # Removes temporary files of killed processes of this host. Those of other hosts and of older versions,
            # whose process cannot be checked, are removed by age.
            remove_leftovers(model_folder)
            for path in list_temporary_files(model_folder):
                with suppress(OSError):
                    if time.time() - path.stat().st_mtime > STALE_SECONDS:
                        path.unlink()

    def for_model(self, info: Mapping[str, Any], reporter: Reporter | None = None) -> "ModelCache":
        """Return the part of the cache for one model; `info` is what `model_cache_info` returns for it."""
        return ModelCache(self, info, reporter or Silent(), self.is_writable)

    def files(self) -> list[tuple[float, int, Path]]:
        """Return (time of last use, size in bytes, path) of each file, the least recently used first."""
        files = []
        for model_folder in list_model_folders(self.folder):
            for path in list_files(model_folder):
                with suppress(OSError):  # another process removed it
                    status = path.stat()
                    files.append((status.st_mtime, status.st_size, path))
        return sorted(files)

    def size(self) -> int:
        """Return the size of all files in bytes."""
        return sum(size for _, size, _ in self.files())

    def shrink(self) -> None:
        """Remove the least recently used files until the cache is within its limit."""
        files = self.files()
        total = sum(size for _, size, _ in files)
        for _, size, path in files:
            if total <= self.limit:
                return
            with suppress(OSError):
                path.unlink()
            total -= size


def model_cache_info(model: Any, precision: str, device: torch.device) -> dict[str, Any]:
    """Return everything besides the item that determines a feature, and, for people, the model's spec and description.

    `space.json` holds this dictionary.
    """
    versions = {}
    for name in (*PACKAGES, *getattr(model, "packages", ())):
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {
        "digest": model.digest,
        "precision": precision,
        "device": device.type,
        "rows": FEATURES_VERSION,  # hashed under this name: another one would make every existing cache unreadable
        "packages": versions,
        "spec": model.spec,
        "model": model.describe(),
    }


def model_cache_name(info: Mapping[str, Any]) -> str:
    """Return the name of a model folder: precision, device type, and a digest of everything that determines features.

    The model's spec is not part of it: the same weights under another path are the same model.
    """
    hashed = json.dumps(
        [FORM, *(info[key] for key in ("digest", "precision", "device", "rows", "packages"))], sort_keys=True
    )
    return f"{info['precision']}-{info['device']}-{hashlib.sha256(hashed.encode()).hexdigest()[:32]}"


@dataclass
class ModelCache:
    """The part of the feature cache for one model in one precision on one device type: reads and writes its shards."""

    cache: FeatureCache
    info: Mapping[str, Any]
    reporter: Reporter = field(default_factory=Silent)
    is_writable: bool = True
    """False in a cache that is only read, and after the first failed write: later writes are not tried."""
    _keys: dict[Path, bytes] = field(default_factory=dict)
    """The keys of each shard seen so far, joined. Shards never change, so their keys are read once. Empty for a shard
    that cannot be used and could not be removed."""

    def __post_init__(self) -> None:
        self.name = model_cache_name(self.info)
        self.folder = self.cache.folder / self.name

    def find(self, kind: str, keys: Sequence[str]) -> Iterator[tuple[list[int], np.ndarray]]:
        """Find stored features.

        A damaged shard is removed, with a note; its features count as missing and are computed again.

        Args:
            kind: a key of `FILE_PREFIX`.
            keys: hexadecimal digests of 16 bytes, each once.

        Yields:
            For each shard that holds any of `keys`: the positions of these keys in `keys`, and their features (n, D) or
            (n, L, D) float32. Keys that are not stored are left out.
        """
        wanted = {bytes.fromhex(key): position for position, key in enumerate(keys)}
        for path in self._usable_shards(kind):
            if not any(key in wanted for key in _split_keys(self._keys[path])):
                continue
            try:
                shard = read_shard(path, self.name)
            except (DamagedFileError, OSError) as error:
                self._drop_shard(path, error)
                continue
            with suppress(OSError):  # a read-only cache: the time of last use cannot be set
                os.utime(path)
            positions: list[int] = []
            positions_in_shard: list[int] = []
            for position, key in enumerate(_split_keys(shard.keys.tobytes())):
                if key in wanted:
                    # Two processes may have stored the same item in two shards: the first one found is used.
                    positions.append(wanted.pop(key))
                    positions_in_shard.append(position)
            yield positions, shard.features[positions_in_shard]
            if not wanted:
                return

    def writer(self, kind: str) -> "ShardWriter":
        """Return a writer for features of one kind, as a context manager.

        What was added to it is on disk when its block ends, also if the block ends by an exception.
        """
        return ShardWriter(self, kind)

    def put(self, kind: str, shard: Shard) -> None:
        """Write a shard."""
        path = self.write(FILE_PREFIX[kind], SUFFIX, shard_bytes(kind, self.name, shard))
        if path is not None:
            self._keys[path] = shard.keys.tobytes()

    def write(self, prefix: str, suffix: str, content: bytes) -> Path | None:
        """Write a file to the model folder, shrink the cache to its limit, and return the path of the file.

        The cache is optional, so a full or read-only disk does not end the run: a note says it once, and this write and
        all later ones return None.
        """
        if not self.is_writable:
            return None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            free_bytes = shutil.disk_usage(self.folder).free
            if free_bytes < RESERVED_BYTES + len(content):
                raise OSError(f"the disk has only {free_bytes / 2**20:,.0f} MiB left, which results may need")
            info_path = self.folder / "space.json"
            if not info_path.exists():
                atomic_write_text(info_path, json.dumps(self.info, indent=1) + "\n")
            path = write_checksummed(self.folder, prefix, suffix, content)
            self.cache.shrink()
            return path
        except OSError as error:
            self.is_writable = False
            self.reporter.note(
                "features are not stored in the cache from now on, and the run goes on: "
                f"{error.strerror or error}: {self.folder}"
            )
            return None

    def _usable_shards(self, kind: str) -> list[Path]:
        """Return the shards that exist now, those of other processes included; their keys are in `_keys` then."""
        usable = []
        for path in sorted(self.folder.glob(f"{FILE_PREFIX[kind]}-*{SUFFIX}")):
            if path not in self._keys:
                try:
                    self._keys[path] = read_keys(path, self.name).tobytes()
                except (DamagedFileError, OSError) as error:
                    self._drop_shard(path, error)
            if self._keys.get(path):
                usable.append(path)
        return usable

    def _drop_shard(self, path: Path, error: Exception) -> None:
        """Forget a shard that cannot be read, and remove it if it is damaged; one note for each."""
        self._keys.pop(path, None)
        if isinstance(error, FileNotFoundError):
            return  # another process removed it, to keep the cache within its limit
        if isinstance(error, DamagedFileError) and self.cache.is_writable:
            with suppress(OSError):
                path.unlink()
        if path.exists():  # unreadable, or in a read-only folder: remember not to try it again
            self._keys[path] = b""
        self.reporter.note(f"cached features are dropped and computed again ({error}): {path}")


class ShardWriter:
    """Collects the features of whole batches and writes them as one shard every `WRITE_INTERVAL`."""

    def __init__(self, model_cache: ModelCache, kind: str) -> None:
        self.model_cache, self.kind = model_cache, kind
        self.keys: list[str] = []
        self.batches: list[Tensor] = []
        self.next_write = time.monotonic() + WRITE_INTERVAL

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.flush()
        else:
            with suppress(Exception):  # an error of this write must not replace the one that ended the work
                self.flush()

    def add(self, keys: Sequence[str], features: Tensor) -> None:
        """Add the features (B, ...) of a whole batch.

        They may be on any device. They are copied only when they are written: do not change them in place.
        """
        if not self.model_cache.is_writable:
            return
        self.keys += keys
        self.batches.append(features)
        if time.monotonic() >= self.next_write or sum(batch.nbytes for batch in self.batches) >= SHARD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write everything that was added and is not on disk yet."""
        if not self.batches:
            return
        start = time.monotonic()
        keys = np.frombuffer(bytes.fromhex("".join(self.keys)), dtype=np.uint8).reshape(len(self.keys), -1)
        with phase("store"):
            self.model_cache.put(self.kind, Shard(keys, torch.cat(self.batches).cpu().numpy()))
        self.keys, self.batches = [], []
        now = time.monotonic()
        self.next_write = now + max(WRITE_INTERVAL, WRITE_PAUSE_FACTOR * (now - start))


def _split_keys(joined: bytes) -> list[bytes]:
    return [joined[start : start + KEY_BYTES] for start in range(0, len(joined), KEY_BYTES)]
