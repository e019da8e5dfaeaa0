"""Webdataset tar files, local or remote: the unread samples of one shard, in its order, from any of them on."""

import lzma
import os
import re
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from cosmos_core.data.samples import BrokenSample, Sample
from cosmos_core.data.shard_samples import (
    IMAGE_EXTENSIONS,
    NOT_ADJACENT,
    RECORD_EXTENSIONS,
    SampleLocation,
    ShardSample,
    explain_unreadable_record,
    find_not_adjacent,
    group_members,
    is_complete,
    parse_record,
)
from cosmos_core.decompression import DECOMPRESSORS, PeekableStream, decompress
from cosmos_core.errors import RequestError
from cosmos_core.printable import one_line, printable
from cosmos_core.tar_files import BLOCK, EMPTY, RECORD, LocalBytes, OtherFileKind, StreamBytes, compression
from cosmos_core.text_files import open_regular

UNREADABLE = (ValueError, EOFError, OSError, zlib.error, lzma.LZMAError)
"""Exceptions for a shard that cannot be read; `TarError` and `RequestError` are ValueErrors."""
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
MAX_CACHED_SAMPLES = 200_000
"""Samples of local shards whose positions in their files a process keeps in memory."""


class UnreadSample(Protocol):
    """A sample whose members have not been read, or not been decoded."""

    def read(self) -> Sample:
        """The sample; BrokenSample if it cannot be used."""


@dataclass(frozen=True)
class EncodedSample:
    """A sample in memory, as the encoded content of its members."""

    key: str
    fields: dict[str, bytes]
    fault: str = ""
    """Why it cannot be used, if that is known from the headers of its members."""

    def read(self) -> Sample:
        if self.fault:
            raise BrokenSample("shard", f"{self.key}: {self.fault}")
        if not any(kind in self.fields for kind in RECORD_EXTENSIONS):
            raise BrokenSample("words", f"{self.key}: no member holds a caption (json or txt)")
        image = next((self.fields[kind] for kind in IMAGE_EXTENSIONS if kind in self.fields), None)
        record = parse_record(self.fields)
        if not record and (fault := explain_unreadable_record(self.fields)):
            raise BrokenSample("words", f"{self.key}: {fault}")
        return self.key, image, record


@dataclass(frozen=True)
class LocalSample:
    """A sample of a local shard: where its members are in the file."""

    path: str
    key: str
    members: tuple[tuple[str, int, int], ...]
    """(extension, offset, size in bytes) of each member."""
    fault: str = ""
    identity: tuple[int, int] | None = None
    """Size and modification time (ns) of the file when the locations were read, to detect a change."""

    def read(self) -> Sample:
        fields = {}
        try:
            with open_regular(self.path) as file:
                for extension, offset, size in self.members:
                    file.seek(offset)
                    fields[extension] = file.read(size)
                    if len(fields[extension]) < size:
                        raise OSError("it is shorter than when the run started")
                if self.identity is not None and file_identity(os.fstat(file.fileno())) != self.identity:
                    raise OSError("it was changed after the run had read its index")
        except (OSError, RequestError) as error:
            reason = getattr(error, "strerror", None) or one_line(error)
            raise BrokenSample("shard", f"{self.path} cannot be read at {self.key}: {reason}") from error
        return EncodedSample(self.key, fields, self.fault).read()


def file_identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


@dataclass(frozen=True)
class LostSamples:
    """Stands for the rest of a shard that could not be read."""

    key: str
    reason: str
    samples: int = 1
    """How many samples it would have had, an estimate."""

    def read(self) -> Sample:
        raise BrokenSample("shard", self.reason)


def is_local(url: str) -> bool:
    """Whether it is the path of a file (`file:` URLs have been converted to paths before)."""
    return not url.startswith("pipe:") and _SCHEME.match(url) is None


def entries(
    url: str, name: str, part: int = 0, parts: int = 1, skip: int = 0, expected: int = 0
) -> Iterator[UnreadSample]:
    """The unread samples of one shard, or of one of its interleaved parts, from number `skip` on.

    Nothing is decoded. Of a local shard that is not compressed only headers are read here. If the rest of a shard
    cannot be read, the last entry is a `LostSamples`.

    Args:
        name: prefix of the samples' keys.
        part: samples `part`, `part + parts`, ... are given.
        expected: average number of samples of a part, from which the number of lost samples is estimated; 0: unknown.
    """
    index = read_cached_index(url) if is_local(url) else None
    if index is not None:
        unread, reason, identity = index.samples[part::parts], index.reason, index.identity
        faults = index.faults
        del index  # frees the locations of the other parts
        count = len(unread)
        unread.reverse()
        del unread[count - min(skip, count) :]
        while unread:
            stem, members = unread.pop()
            fault = faults.get(stem, "")
            if fault == NOT_ADJACENT and is_complete([kind for kind, *_ in members]):
                fault = ""  # this sample is complete; other members of its name are not adjacent
            yield LocalSample(url, f"{name}/{stem}", members, fault, identity)
        if reason:
            yield LostSamples(name, reason, max(1, expected - count))
        return
    count_of_part = 0
    try:
        for number, sample in enumerate(read_stream(url)):
            if number % parts == part:
                count_of_part += 1
                if count_of_part > skip:
                    yield EncodedSample(f"{name}/{sample.name}", sample.fields, sample.fault)
    except UNREADABLE as error:
        yield LostSamples(name, explain_unreadable_shard(url, error), max(1, expected - count_of_part))


class ShardIndex(NamedTuple):
    """The content of a local shard by its headers."""

    samples: list[SampleLocation]
    """Name in the shard and locations of the members, of each sample."""
    reason: str = ""
    """Why the rest cannot be read; empty if the archive ends properly."""
    faults: dict[str, str] = {}  # noqa: RUF012 - never changed
    """Why samples cannot be used, by their names; most are not listed."""
    identity: tuple[int, int] | None = None
    """Of the file, as in `LocalSample`."""


_index_cache: OrderedDict[tuple[str, int, int], ShardIndex] = OrderedDict()


def read_cached_index(path: str) -> ShardIndex | None:
    """The index of a local tar file, cached; None for a compressed one, which has to be read through."""
    try:
        status = Path(path).stat()
    except OSError as error:
        return ShardIndex([], explain_unreadable_shard(path, error))
    identity = (path, *file_identity(status))
    if identity in _index_cache:
        _index_cache.move_to_end(identity)
        return _index_cache[identity]
    index = read_index(path)
    if index is not None:
        _index_cache[identity] = index
        while (
            len(_index_cache) > 1 and sum(len(cached.samples) for cached in _index_cache.values()) > MAX_CACHED_SAMPLES
        ):
            _index_cache.popitem(last=False)
    return index


def read_index(path: str) -> ShardIndex | None:
    samples: list[SampleLocation] = []
    faults: dict[str, str] = {}
    reason, identity = "", None
    try:
        with open_regular(path) as file:
            if compression(file.read(8)) in DECOMPRESSORS:
                return None
            identity = file_identity(os.fstat(file.fileno()))
            for sample in group_members(LocalBytes(file), lambda member: (member.offset, member.size)):
                samples.append((sample.name, tuple((kind, *location) for kind, location in sample.fields.items())))
                if sample.fault:
                    faults[sample.name] = sample.fault
    except UNREADABLE as error:
        reason = explain_unreadable_shard(path, error)
    return ShardIndex(samples, reason, faults | find_not_adjacent(samples), identity)


def read_stream(url: str) -> Iterator[ShardSample[bytes]]:
    """Each sample, reading the shard once from its start: the only way for pipes, URLs and compressed files.

    Raises:
        UNREADABLE: the stream ends early, is not a tar, or its command or download fails.
    """
    from webdataset.gopen import gopen

    stream: Any = open_regular(url) if is_local(url) else gopen(url)
    finished = False
    try:
        source = StreamBytes(decompress(PeekableStream(stream)))
        seen: set[str] = set()
        for sample in group_members(source, lambda member: source.at(member.offset, member.size)):
            is_repeated = sample.name in seen and not is_complete(list(sample.fields))
            yield replace(sample, fault=sample.fault or NOT_ADJACENT) if is_repeated else sample
            seen.add(sample.name)
        finished = True
    finally:
        if finished:
            stream.close()  # raises if the command behind it has failed
        else:
            if (process := getattr(stream, "proc", None)) is not None:
                process.kill()  # a worker's children ignore SIGTERM, as the worker does
            with suppress(OSError):
                stream.close()


def explain_unreadable_shard(url: str, error: BaseException) -> str:
    """Why a shard cannot be read, in one line."""
    reason = getattr(error, "strerror", None) or one_line(error)
    advice = "" if isinstance(error, OtherFileKind) else "; write it again"
    return printable(f"shard {url} cannot be read as a tar file: {reason}{advice}")


def find_lone_end_blocks(paths: Sequence[str]) -> list[str]:
    """The local files among `paths` that end in one empty block; a tar should end in two.

    A guess from the last bytes, for a warning. Compressed files are skipped, and files whose length is a multiple of
    tar's record size, as GNU tar and Python's tarfile write them.
    """
    lone_paths = []
    for path in paths:
        try:
            with open_regular(path) as file:
                size = os.fstat(file.fileno()).st_size
                if size % RECORD == 0 or file.read(BLOCK)[257:262] != b"ustar":
                    continue
                file.seek(max(0, size // BLOCK - 2) * BLOCK)
                end = file.read(3 * BLOCK)
        except (OSError, ValueError):  # reading the shard reports the error
            continue
        before, last, remainder = end[:BLOCK], end[BLOCK : 2 * BLOCK], end[2 * BLOCK :]
        has_lone_block = before != EMPTY if last == EMPTY else bool(remainder)
        if has_lone_block and not remainder.strip(b"\0"):
            lone_paths.append(path)
    return lone_paths
