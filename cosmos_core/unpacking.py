"""Streams that are unpacked as they are read, with their checksums and lengths checked at the end."""

import bz2
import gzip
import lzma
from typing import Any

from cosmos_core.tar_files import compression

UNPACKERS = {"gzip": gzip.GzipFile, "bzip2": bz2.BZ2File, "xz": lzma.LZMAFile}
"""Python's own, which check what they unpack to the last byte, and read what was packed in several pieces."""


class Peeked:
    """A stream whose first bytes were looked at."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.start = b""
        while len(self.start) < 8 and (part := stream.read(8 - len(self.start))):
            self.start += part
        self.waiting = self.start

    def read(self, size: int) -> bytes:
        if self.waiting:
            part, self.waiting = self.waiting[:size], self.waiting[size:]
            return part
        found: bytes = self.stream.read(size)
        return found


def unpacked(stream: Peeked) -> Any:
    """What a stream holds, unpacked where it is compressed; checksums and lengths are checked at its end."""
    packed = compression(stream.start)
    if packed not in UNPACKERS:
        return stream
    file: Any = Forward(stream)
    return gzip.GzipFile(fileobj=file) if packed == "gzip" else UNPACKERS[packed](file)


class Forward:
    """A stream as the file that Python's unpackers ask for."""

    def __init__(self, stream: Any) -> None:
        self.read = stream.read

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False
