"""A download that is not finished: the bytes received so far, and what is needed to go on after a kill.

    val2017.zip.part          the first N bytes of the file, exactly as the server sent them
    val2017.zip.part.json     where they came from: the address, the server's validator and the size it announced

The record is written before the first byte, and bytes are appended without buffering, so that whenever the process
dies, `.part` holds a true prefix of the file that the record describes. Whether the server still has that same file is
for the server to say: `If-Range` with the validator makes it send the rest, or everything anew.

The process that fetches locks `.part` itself: a lock file of its own would stay behind, beside a finished file, where a
process is killed between naming the file and releasing the lock.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.file_locks import is_file_of, try_lock, unlock
from cosmos_core.files import atomic_write_text
from cosmos_core.text_files import read_text

MAX_RECORD_BYTES = 100_000


@dataclass(frozen=True)
class Validator:
    """What identifies one version of a remote file: its entity tag, or else its date, and its size."""

    etag: str = ""
    last_modified: str = ""
    size: int | None = None

    @classmethod
    def of(cls, headers: Any, size: int | None) -> "Validator":
        """Of the headers of a response. A weak tag (`W/"..."`) only promises a similar file, and is left out."""
        etag = headers.get("ETag", "")
        return cls("" if etag.startswith("W/") else etag, headers.get("Last-Modified", ""), size)

    @property
    def if_range(self) -> str:
        """The value of `If-Range`; empty where the server gave nothing that identifies the file."""
        return self.etag or self.last_modified


class Partial:
    """The unfinished download that belongs to `path`.

    Args:
        path: the final name of the file.
        url: the address that was asked for (before redirects, which differ from call to call).
    """

    def __init__(self, path: Path, url: str) -> None:
        self.url = url
        self.content = path.with_name(path.name + ".part")
        self.record = path.with_name(path.name + ".part.json")

    @contextmanager
    def locked(self) -> Iterator[bool]:
        """Hold the lock of the unfinished file while the block runs; yields whether it could be had.

        Creates `.part` if it is absent, and removes it in the end if nothing was received. On a file system without
        locks there is none, and the block runs.
        """
        self.content.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.content, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        held = False
        try:
            held = try_lock(descriptor) is not False and is_file_of(self.content, descriptor)
            yield held
        finally:
            if held and is_file_of(self.content, descriptor) and not os.fstat(descriptor).st_size:
                self.content.unlink()
            unlock(descriptor)

    def read(self) -> tuple[int, Validator]:
        """The number of bytes there are and the validator they belong to; (0, no validator) to start from nothing.

        Bytes of another address, or without a readable record, are not used: two mirrors may have different files.
        """
        try:
            record = json.loads(read_text(self.record, MAX_RECORD_BYTES))
            validator = Validator(**record["validator"])
            size = self.content.stat().st_size
            texts_are_texts = isinstance(validator.etag, str) and isinstance(validator.last_modified, str)
            if record["url"] != self.url or not texts_are_texts or not isinstance(validator.size, int | None):
                return 0, Validator()
        except (OSError, RequestError, ValueError, KeyError, TypeError, RecursionError):
            return 0, Validator()
        return size, validator

    def begin(self, validator: Validator) -> None:
        """Start from nothing with the file that the server has now."""
        self.content.parent.mkdir(parents=True, exist_ok=True)
        # emptied first: a new record beside old bytes would vouch for them
        self.content.write_bytes(b"")
        atomic_write_text(self.record, json.dumps({"url": self.url, "validator": asdict(validator)}) + "\n")

    def clear(self) -> None:
        """Give up what was received. The file stays until `locked` ends, since it carries the lock."""
        self.record.unlink(missing_ok=True)
        self.content.write_bytes(b"")
