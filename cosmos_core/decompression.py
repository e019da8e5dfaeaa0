"""Streams that are decompressed while they are read; checksums and lengths are checked at their end."""

import bz2
import gzip
import lzma
from typing import Any

from cosmos_core.tar_files import compression

DECOMPRESSORS = {"gzip": gzip.GzipFile, "bzip2": bz2.BZ2File, "xz": lzma.LZMAFile}
"""Python's own classes: they check everything they decompress, and read files of several compressed pieces."""


class PeekableStream:
    """A stream whose first bytes can be looked at before reading."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.start = b""
        while len(self.start) < 8 and (part := stream.read(8 - len(self.start))):
            self.start += part
        self.peeked = self.start

    def read(self, size: int) -> bytes:
        if self.peeked:
            part, self.peeked = self.peeked[:size], self.peeked[size:]
            return part
        content: bytes = self.stream.read(size)
        return content


def decompress(stream: PeekableStream) -> Any:
    """The stream, decompressed if it is compressed."""
    compressed_by = compression(stream.start)
    if compressed_by not in DECOMPRESSORS:
        return stream
    file: Any = ForwardOnlyFile(stream)
    return gzip.GzipFile(fileobj=file) if compressed_by == "gzip" else DECOMPRESSORS[compressed_by](file)


class ForwardOnlyFile:
    """Adapts a stream to the file interface that Python's decompressors need."""

    def __init__(self, stream: Any) -> None:
        self.read = stream.read

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False
