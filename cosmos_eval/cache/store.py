"""Rows on disk: what a model made of an image or a text, kept for later benchmarks, later runs and after a kill.

    STORE/fp32-cpu-<id>/space.json                     the model, and all else that decides the numbers of its rows
                        pictures-<sha256>.safetensors  rows of whole batches, and the keys of their items
                        texts-<sha256>.safetensors
                        pairs-<sha256>.safetensors     scores of whole batches of pairs, of models that score pairs
                        picture_names-<sha256>.json    what datasets call these items (`store_names`)
                        text_names-<sha256>.json

There is no index file: what is known is read from the shards. A shard appears whole or not at all, is never changed and
is checked against the SHA-256 in its name whenever rows are taken from it. So a process may be killed at any moment,
and several may use one store.
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
    SUFFIX,
    Damaged,
    Shard,
    files_of,
    read_keys,
    read_shard,
    shard_bytes,
    spaces_of,
    write_named,
)
from cosmos_eval.profiling import phase
from cosmos_eval.progress import Reporter, Silent

FOLDER = ".embeddings"
"""Where a run keeps its store below its results."""
LIMIT = 10 * 10**9
"""Bytes that a store may hold unless another limit is asked for."""
RESERVE = 64 * 2**20
"""Bytes of the disk that are left to results."""
SHARD_BYTES = 64 * 2**20
SECONDS = 5.0
"""Rows wait so long, and at most until `SHARD_BYTES` are together, before they are written."""
SHARE = 50
"""Writing may take one part in so many of the time."""
STALE = 3600.0
"""Seconds after which a temporary file is one that a killed process left."""
ROWS = 1
"""Raised when our own code makes other rows of the same model and input."""
PACKAGES = ("torch", "torchvision", "open_clip_torch", "transformers", "timm", "pillow")
"""Packages whose versions decide the numbers of a row: towers, and the pixels that they see."""


@dataclass
class Store:
    """A folder of rows, of any models.

    Args:
        folder: made when the first row is written.
        limit: bytes; what was used least recently goes first.
    """

    folder: Path
    limit: int = LIMIT

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise RequestError(f"the size limit of stored embeddings must be above 0, got {self.limit} bytes")
        if self.folder.exists() and not self.folder.is_dir():
            raise RequestError(f"{self.folder} is no folder; give another place for stored embeddings (--cache)")
        for space in spaces_of(self.folder):
            remove_leftovers(space)
            for path in files_of(space, temporary=True):  # of another host, or as older versions called them
                with suppress(OSError):
                    if time.time() - path.stat().st_mtime > STALE:
                        path.unlink()

    def space(self, about: Mapping[str, Any], reporter: Reporter | None = None) -> "Space":
        """The rows of one model in one precision; `about` as `about_rows` gives it."""
        return Space(self, about, reporter or Silent())

    def files(self) -> list[tuple[float, int, Path]]:
        """When each file was last used, its size, and its path; the least recently used first."""
        found = []
        for path in (file for space in spaces_of(self.folder) for file in files_of(space)):
            with suppress(OSError):  # another process removed it
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        return sorted(found)

    def size(self) -> int:
        """Bytes of all rows and names."""
        return sum(size for _, size, _ in self.files())

    def shrink(self) -> None:
        """Remove what was used least recently until the rest keeps within the limit."""
        files = self.files()
        total = sum(size for _, size, _ in files)
        for _, size, path in files:
            if total <= self.limit:
                return
            with suppress(OSError):
                path.unlink()
            total -= size


def about_rows(model: Any, precision: str, device: torch.device) -> dict[str, Any]:
    """What decides the numbers of a row, besides its item; and, for people, which model it was."""
    versions = {}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {
        "digest": model.digest,
        "precision": precision,
        "device": device.type,
        "rows": ROWS,
        "packages": versions,
        "spec": model.spec,
        "model": model.describe(),
    }


def space_name(about: Mapping[str, Any]) -> str:
    """The folder of a space: precision, kind of device, and a digest of all that decides the numbers of its rows."""
    decides = json.dumps(
        [FORM, *(about[key] for key in ("digest", "precision", "device", "rows", "packages"))], sort_keys=True
    )
    return f"{about['precision']}-{about['device']}-{hashlib.sha256(decides.encode()).hexdigest()[:32]}"


@dataclass
class Space:
    """The rows of one model in one precision on one kind of device."""

    store: Store
    about: Mapping[str, Any]
    reporter: Reporter = field(default_factory=Silent)
    writing: bool = True
    """False once the disk refused."""
    _keys: dict[Path, bytes] = field(default_factory=dict)
    """Of each shard seen so far; empty of one that is not to be read."""

    def __post_init__(self) -> None:
        self.name = space_name(self.about)
        self.folder = self.store.folder / self.name

    def find(self, kind: str, keys: Sequence[str]) -> Iterator[tuple[list[int], np.ndarray]]:
        """Places in `keys` and their rows (n, D) float32, a shard at a time; keys that are not stored are left out.

        A damaged shard is removed, with a note. Keys are hexadecimal digests of 16 bytes, each once.
        """
        wanted = {bytes.fromhex(key): place for place, key in enumerate(keys)}
        for path in self._shards(kind):
            if not any(key in wanted for key in _split(self._keys[path])):
                continue
            try:
                shard = read_shard(path, self.name)
            except (Damaged, OSError) as error:
                self._refuse(path, error)
                continue
            with suppress(OSError):  # a store that may only be read has no times of use
                os.utime(path)
            hits = [(wanted.pop(key), row) for row, key in enumerate(_split(shard.keys.tobytes())) if key in wanted]
            yield [place for place, _ in hits], shard.rows[[row for _, row in hits]]
            if not wanted:
                return

    def writer(self, kind: str) -> "Writer":
        """Takes the rows of whole batches; what it was given is on disk when its block ends, however that ends."""
        return Writer(self, kind)

    def put(self, kind: str, shard: Shard) -> None:
        """Write a shard."""
        path = self.write(FILE_PREFIX[kind], SUFFIX, shard_bytes(kind, self.name, shard))
        if path is not None:
            self._keys[path] = shard.keys.tobytes()

    def write(self, kind: str, suffix: str, content: bytes) -> Path | None:
        """Write a file of this space and make room for it by the limit; returns its path.

        A disk that refuses, or is nearly full, costs a note and all further writing: None, from there on.
        """
        if not self.writing:
            return None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.folder).free
            if free < RESERVE + len(content):
                raise OSError(f"the disk has {free / 2**20:,.0f} MiB left, which results may need")
            about = self.folder / "space.json"
            if not about.exists():
                atomic_write_text(about, json.dumps(self.about, indent=1) + "\n")
            path = write_named(self.folder, kind, suffix, content)
            self.store.shrink()
            return path
        except OSError as error:
            self.writing = False
            self.reporter.note(
                f"embeddings are not stored from here on, and the run goes on: {error.strerror or error}: {self.folder}"
            )
            return None

    def _shards(self, kind: str) -> list[Path]:
        """The shards that are there now, also those of other processes, with their keys in `_keys`."""
        found = []
        for path in sorted(self.folder.glob(f"{FILE_PREFIX[kind]}-*{SUFFIX}")):
            if path not in self._keys:
                try:
                    self._keys[path] = read_keys(path, self.name).tobytes()
                except (Damaged, OSError) as error:
                    self._refuse(path, error)
            if self._keys.get(path):
                found.append(path)
        return found

    def _refuse(self, path: Path, error: Exception) -> None:
        self._keys.pop(path, None)
        if isinstance(error, FileNotFoundError):
            return  # another process had no more room for it
        if isinstance(error, Damaged):
            with suppress(OSError):
                path.unlink()
        if path.exists():  # it cannot be read, or not be removed
            self._keys[path] = b""
        self.reporter.note(f"stored embeddings are dropped and computed again, {error}: {path}")


class Writer:
    """Gathers the rows of whole batches and writes them as shards every few seconds."""

    def __init__(self, space: Space, kind: str) -> None:
        self.space, self.kind = space, kind
        self.keys: list[str] = []
        self.rows: list[Tensor] = []
        self.due = time.monotonic() + SECONDS

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.flush()
        else:
            with suppress(Exception):  # what ended the work is what is told
                self.flush()

    def add(self, keys: Sequence[str], rows: Tensor) -> None:
        """The (B, D) rows of a whole batch, on any device; they are copied when they are written."""
        if not self.space.writing:
            return
        self.keys += keys
        self.rows.append(rows)
        if time.monotonic() >= self.due or sum(some.nbytes for some in self.rows) >= SHARD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting."""
        if not self.rows:
            return
        start = time.monotonic()
        keys = np.frombuffer(bytes.fromhex("".join(self.keys)), dtype=np.uint8).reshape(len(self.keys), -1)
        with phase("store"):
            self.space.put(self.kind, Shard(keys, torch.cat(self.rows).cpu().numpy()))
        self.keys, self.rows = [], []
        now = time.monotonic()
        self.due = now + max(SECONDS, SHARE * (now - start))


def _split(keys: bytes) -> list[bytes]:
    return [keys[start : start + 16] for start in range(0, len(keys), 16)]
