"""Files of the feature cache: shards of features, and files with the names of items.

Every file has a checksum (the first digits of its SHA-256) in its name. It is written under a temporary name and then
renamed, so it is on disk whole or not at all, and it is never changed afterwards. Whenever its content is used, the
checksum is computed again; a file with another checksum is damaged and counts as missing.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from cosmos_core.errors import RequestError
from cosmos_core.files import atomic_path
from cosmos_core.json_text import parse_json
from cosmos_core.text_files import open_regular

FORM = "cosmos-eval rows 1"
"""Name and version of the file format: the key of a shard's metadata, and part of the hash in a folder's name."""
SUFFIX = ".safetensors"
KEY_BYTES = 16
"""Length of a key: the digest of what the model is given for one item."""
NAME_DIGITS = 32
"""Hexadecimal digits of the SHA-256 that are part of a file name."""
FILE_PREFIX = {"images": "pictures", "texts": "texts", "pairs": "pairs"}
"""Kind of item -> prefix of the names of its shards; also the `kind` in their headers. These are the words of the first
release: with other words, no existing cache could be read."""
NAMES_PREFIX = {"images": "picture_names", "texts": "text_names"}
"""Kind of item -> prefix of the files with the names of its items; as old as `FILE_PREFIX`."""
_MODEL_FOLDER = re.compile(r"[a-z0-9+]+-[a-z]+-[0-9a-f]{32}")
_FILE = re.compile(
    rf"((?:{'|'.join(FILE_PREFIX.values())})-[0-9a-f]{{{NAME_DIGITS}}}\.safetensors|"
    rf"(?:{'|'.join(NAMES_PREFIX.values())})-[0-9a-f]{{{NAME_DIGITS}}}\.json)"
)
_MAX_HEADER_BYTES = 2**20


class DamagedFileError(Exception):
    """A cache file does not have the content that was written under its name; the message gives the reason."""


@dataclass(frozen=True)
class Shard:
    """The content of one file: keys (N, 16) uint8 of items and their features (N, D) or (N, L, D) float32.

    The last dimension of the features has unit length. Of kind "pairs", a row holds the scores of one batch of pairs
    (`cosmos_eval.engine.image_text_pairs`).
    """

    keys: np.ndarray
    features: np.ndarray


def shard_bytes(kind: str, folder_name: str, shard: Shard) -> bytes:
    """Return the file content of a shard; equal shards have equal bytes.

    Args:
        kind: a key of `FILE_PREFIX`.
        folder_name: name of the model folder that the shard is written to. It identifies the model, precision, device
            type and package versions; the header repeats it, so that a shard moved to another folder is not used there.
    """
    return save(
        {"keys": np.ascontiguousarray(shard.keys), "rows": np.ascontiguousarray(shard.features, dtype=np.float32)},
        # A single entry: safetensors writes several entries in no fixed order, and the checksum would vary.
        {FORM: json.dumps({"kind": FILE_PREFIX[kind], "space": folder_name})},
    )


def read_shard(path: Path, folder_name: str) -> Shard:
    """Read a whole shard and check it.

    Args:
        folder_name: name of the model folder, as for `shard_bytes`.

    Raises:
        DamagedFileError: the bytes are not those that were written, or the shard was written to another model folder.
        OSError: the file cannot be read; for example another process has removed it.
    """
    content = read_checksummed(path)
    try:
        header_bytes = int.from_bytes(content[:8], "little")
        _check_header(parse_json(content[8 : 8 + header_bytes], path), path, folder_name)
        arrays = load(content)
        shard = Shard(arrays["keys"], arrays["rows"])
    except DamagedFileError:
        raise
    except Exception as error:  # a foreign file that is named by its own checksum can hold anything
        raise DamagedFileError(f"it is not a shard of cosmos-eval ({type(error).__name__})") from error
    keys, features = shard.keys, shard.features
    keys_are_valid = keys.shape == (len(features), KEY_BYTES) and keys.dtype == np.uint8
    if not keys_are_valid or features.ndim < 2 or features.dtype != np.float32:
        raise DamagedFileError(f"its keys have shape {keys.shape} and its features {features.shape}")
    if not np.isfinite(features).all():
        raise DamagedFileError("it holds features that are not finite")
    return shard


def read_keys(path: Path, folder_name: str) -> np.ndarray:
    """Read the keys (N, 16) uint8 of a shard only, without verifying the checksum of the file.

    This is enough to decide whether the shard is needed; `read_shard` verifies it then. The file is not memory-mapped:
    if another process removed a mapped file from a network disk, the next access would kill this process.

    Raises:
        DamagedFileError: not a shard of this model folder, or the file is cut short.
        OSError: the file cannot be read.
    """
    # A safetensors file: 8 bytes with the length of the header, the header (JSON), the arrays.
    with _open_file(path) as stream:
        file_size = os.fstat(stream.fileno()).st_size
        header_bytes = int.from_bytes(stream.read(8), "little")
        if not 0 < header_bytes <= _MAX_HEADER_BYTES:
            raise DamagedFileError("its header is broken")
        try:
            header = parse_json(stream.read(header_bytes), path)
            _check_header(header, path, folder_name)
            start, end = map(int, header["keys"]["data_offsets"])
            count, width = map(int, header["keys"]["shape"])
        except DamagedFileError:
            raise
        except Exception as error:  # a damaged header can hold anything
            raise DamagedFileError("its header is broken") from error
        # The numbers may be wrong. Check them before they decide where to seek and how much memory to allocate.
        offsets_are_wrong = end - start != count * KEY_BYTES or end > file_size - 8 - header_bytes
        if width != KEY_BYTES or min(start, count) < 0 or offsets_are_wrong:
            raise DamagedFileError("it is cut short, or its header is broken")
        stream.seek(8 + header_bytes + start)
        content = stream.read(end - start)
    if len(content) != count * KEY_BYTES:
        raise DamagedFileError("it is cut short")
    return np.frombuffer(content, dtype=np.uint8).reshape(count, KEY_BYTES)


def write_checksummed(folder: Path, prefix: str, suffix: str, content: bytes) -> Path:
    """Write `content` to PREFIX-CHECKSUM.SUFFIX in `folder` and return the path.

    An existing file of this name is replaced: it should have the same content, but it may be damaged.

    Raises:
        OSError: the disk is full or the folder is not writable; no partial file is left.
    """
    path = folder / f"{prefix}-{checksum(content)}{suffix}"
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return path


def read_checksummed(path: Path) -> bytes:
    """Read a file that `write_checksummed` wrote.

    Raises:
        DamagedFileError: the content does not have the checksum in the file name.
        OSError: the file cannot be read.
    """
    with _open_file(path) as stream:
        content = stream.read()
    if path.stem.rpartition("-")[2] != checksum(content):
        raise DamagedFileError("its content does not match the checksum in its name" if content else "it is empty")
    return content


def _open_file(path: Path) -> BufferedReader:
    try:
        return open_regular(path)
    except RequestError as error:  # for example a named pipe, where a read would block forever
        raise DamagedFileError(str(error)) from error


def list_model_folders(cache_folder: Path) -> list[Path]:
    """Return the model folders of a cache, found by the form of their names.

    Other folders in the same place are ignored, with all files in them: they are not ours to count or remove.
    """
    return sorted(path for path in cache_folder.glob("*") if _MODEL_FOLDER.fullmatch(path.name) and path.is_dir())


def list_files(model_folder: Path) -> list[Path]:
    """Return the shards and name files in a model folder."""
    return sorted(path for path in model_folder.glob("*-*") if _FILE.fullmatch(path.name))


def list_temporary_files(model_folder: Path) -> list[Path]:
    """Return the temporary files in a model folder: a process is writing them, or was killed while it did."""
    temporary_files = model_folder.glob(".*.tmp")
    return sorted(path for path in temporary_files if _FILE.match(path.name[1:]) or "space.json" in path.name)


def checksum(content: bytes) -> str:
    """Return the checksum of a file's content as it is written in the file's name."""
    return hashlib.sha256(content).hexdigest()[:NAME_DIGITS]


def _check_header(header: Mapping[str, Any], path: Path, folder_name: str) -> None:
    """Raise DamagedFileError if a shard belongs to another kind of item or to another model folder."""
    entry = parse_json(header["__metadata__"][FORM], path)
    if entry["kind"] != path.name.rpartition("-")[0]:
        raise DamagedFileError("it is a shard of another kind of item")
    if entry["space"] != folder_name:
        raise DamagedFileError("its features are of another model or precision")
