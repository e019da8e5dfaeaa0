"""One file of stored rows: written whole or not at all, named by its own SHA-256, checked whenever rows are taken."""

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
SUFFIX = ".safetensors"
KEY_BYTES = 16
NAME_DIGITS = 32
"""Hexadecimal digits of the SHA-256 that a file's name holds."""
FILE_PREFIX = {"images": "pictures", "texts": "texts", "pairs": "pairs"}
"""Kind of item -> how the names of its shards begin and what their headers say. As the first release wrote them:
another word would make every stored cache unreadable."""
NAMES_PREFIX = {"images": "picture_names", "texts": "text_names"}
"""Kind of item -> how the files begin that say what its items are called; as old as `FILE_PREFIX`."""
_SPACE = re.compile(r"[a-z0-9+]+-[a-z]+-[0-9a-f]{32}")
_FILE = re.compile(
    rf"((?:{'|'.join(FILE_PREFIX.values())})-[0-9a-f]{{{NAME_DIGITS}}}\.safetensors|"
    rf"(?:{'|'.join(NAMES_PREFIX.values())})-[0-9a-f]{{{NAME_DIGITS}}}\.json)"
)
_LONGEST_HEADER = 2**20


class Damaged(Exception):
    """A file that is not, byte for byte, what was written under its name; says what is wrong."""


@dataclass(frozen=True)
class Shard:
    """Keys (N, 16) uint8 of items and their rows (N, D) or (N, L, D) float32, the last dimension of unit length.

    Of pairs, a row holds the scores of a batch (`cosmos_eval.engine.image_text_pairs`).
    """

    keys: np.ndarray
    rows: np.ndarray


def shard_bytes(kind: str, space: str, shard: Shard) -> bytes:
    """The content of a file of one kind (of `FILE_PREFIX`) of a space; equal for equal shards."""
    return save(
        {"keys": np.ascontiguousarray(shard.keys), "rows": np.ascontiguousarray(shard.rows, dtype=np.float32)},
        # one entry: the library writes several in any order
        {FORM: json.dumps({"kind": FILE_PREFIX[kind], "space": space})},
    )


def read_shard(path: Path, space: str) -> Shard:
    """The whole of a shard, checked against its name.

    Raises:
        Damaged: other bytes than were written, or rows of another space.
        OSError: it cannot be read; gone, for one.
    """
    content = read_named(path)
    try:
        _check_header(parse_json(content[8 : 8 + int.from_bytes(content[:8], "little")], path), path, space)
        arrays = load(content)
        shard = Shard(arrays["keys"], arrays["rows"])
    except Damaged:
        raise
    except Exception as error:  # a file that somebody made and named by its checksum may hold anything
        raise Damaged(f"it is no shard of ours ({type(error).__name__})") from error
    keys, rows = shard.keys, shard.rows
    if keys.shape != (len(rows), KEY_BYTES) or keys.dtype != np.uint8 or rows.ndim < 2 or rows.dtype != np.float32:
        raise Damaged(f"it holds keys {keys.shape} and rows {rows.shape}")
    if not np.isfinite(rows).all():
        raise Damaged("it holds rows that are not finite")
    return shard


def read_keys(path: Path, space: str) -> np.ndarray:
    """The keys (N, 16) of a shard alone, without a check of its bytes: enough to know whether to read it.

    No memory map: a file that another process removes from a network disk would end this one.

    Raises:
        Damaged: no shard of this space, or cut short.
        OSError: it cannot be read.
    """
    with _opened(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        length = int.from_bytes(stream.read(8), "little")
        if not 0 < length <= _LONGEST_HEADER:
            raise Damaged("its header is not one")
        try:
            header = parse_json(stream.read(length), path)
            _check_header(header, path, space)
            start, end = map(int, header["keys"]["data_offsets"])
            count, width = map(int, header["keys"]["shape"])
        except Damaged:
            raise
        except Exception as error:  # a header that somebody made may hold anything
            raise Damaged("its header is not one") from error
        # what a header says is not believed before a byte is sought or room is made for it
        if width != KEY_BYTES or min(start, count) < 0 or end - start != count * KEY_BYTES or end > size - 8 - length:
            raise Damaged("it is cut short, or its header is not one")
        stream.seek(8 + length + start)
        content = stream.read(end - start)
    if len(content) != count * KEY_BYTES:
        raise Damaged("it is cut short")
    return np.frombuffer(content, dtype=np.uint8).reshape(count, KEY_BYTES)


def write_named(folder: Path, kind: str, suffix: str, content: bytes) -> Path:
    """Write a file whose name holds the checksum of its content. One that is there is replaced: it may be damaged.

    Raises:
        OSError: no room, or no right to write; nothing is left behind.
    """
    path = folder / f"{kind}-{checksum(content)}{suffix}"
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return path


def read_named(path: Path) -> bytes:
    """The content of a file that `write_named` wrote.

    Raises:
        Damaged: it does not have the checksum that its name says.
        OSError: it cannot be read.
    """
    with _opened(path) as stream:
        content = stream.read()
    if path.stem.rpartition("-")[2] != checksum(content):
        raise Damaged("its checksum is not that of its name" if content else "it is empty")
    return content


def _opened(path: Path) -> BufferedReader:
    try:
        return open_regular(path)
    except RequestError as error:  # a named pipe would be waited on for ever
        raise Damaged(str(error)) from error


def spaces_of(store: Path) -> list[Path]:
    """The folders of a store that are named as ours are. Others, and what lies in them, are somebody else's."""
    return sorted(path for path in store.glob("*") if _SPACE.fullmatch(path.name) and path.is_dir())


def files_of(space: Path, temporary: bool = False) -> list[Path]:
    """The shards and names in a folder; or the temporary files of processes that are writing some, or were killed."""
    if temporary:
        found = (path for path in space.glob(".*.tmp") if _FILE.match(path.name[1:]) or "space.json" in path.name)
    else:
        found = (path for path in space.glob("*-*") if _FILE.fullmatch(path.name))
    return sorted(found)


def checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:NAME_DIGITS]


def _check_header(header: Mapping[str, Any], path: Path, space: str) -> None:
    about = parse_json(header["__metadata__"][FORM], path)
    if about["kind"] != path.name.rpartition("-")[0]:
        raise Damaged("it is a shard of another kind")
    if about["space"] != space:
        raise Damaged("its rows are of another model or precision")
