"""Webdataset tar files, local or remote: the samples of one shard, in its order, from any place on."""

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
    APART,
    PICTURES,
    RECORDS,
    Grouped,
    Place,
    apart,
    grouped,
    is_whole,
    parse_record,
    record_fault,
)
from cosmos_core.errors import RequestError
from cosmos_core.printable import one_line, printable
from cosmos_core.tar_files import BLOCK, EMPTY, RECORD, AnotherFile, LocalBytes, StreamBytes, compression
from cosmos_core.text_files import open_regular
from cosmos_core.unpacking import UNPACKERS, Peeked, unpacked

UNREADABLE = (ValueError, EOFError, OSError, zlib.error, lzma.LZMAError)
"""What a shard that cannot be read raises: a `TarFault` and the refusal of what is no file are ValueErrors."""
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
LARGEST_CACHE = 200_000
"""Samples of local shards whose places in their files a process remembers."""


class Entry(Protocol):
    """A sample that has not been read yet, or not been parsed."""

    def read(self) -> Sample:
        """The sample; BrokenSample where it is none."""


@dataclass(frozen=True)
class Encoded:
    """A sample in memory, as its shard has it."""

    key: str
    fields: dict[str, bytes]
    fault: str = ""
    """Why it cannot be used, where its members say so."""

    def read(self) -> Sample:
        if self.fault:
            raise BrokenSample("shard", f"{self.key}: {self.fault}")
        if not any(kind in self.fields for kind in RECORDS):
            raise BrokenSample("words", f"{self.key}: no member holds a caption (json or txt)")
        picture = next((self.fields[kind] for kind in PICTURES if kind in self.fields), None)
        record = parse_record(self.fields)
        if not record and (fault := record_fault(self.fields)):
            raise BrokenSample("words", f"{self.key}: {fault}")
        return self.key, picture, record


@dataclass(frozen=True)
class Placed:
    """A sample of a local shard: where its members lie."""

    path: str
    key: str
    places: tuple[tuple[str, int, int], ...]
    """(extension, offset, bytes) of each member."""
    fault: str = ""
    identity: tuple[int, int] | None = None
    """Size and time of change (ns) of the file that the places were read from."""

    def read(self) -> Sample:
        fields = {}
        try:
            with open_regular(self.path) as file:
                for extension, offset, size in self.places:
                    file.seek(offset)
                    fields[extension] = file.read(size)
                    if len(fields[extension]) < size:
                        raise OSError("it is shorter than when the run started")
                if self.identity is not None and identity_of(os.fstat(file.fileno())) != self.identity:
                    raise OSError("it was changed since the run has read what it holds")
        except (OSError, RequestError) as error:
            reason = getattr(error, "strerror", None) or one_line(error)
            raise BrokenSample("shard", f"{self.path} cannot be read at {self.key}: {reason}") from error
        return Encoded(self.key, fields, self.fault).read()


def identity_of(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


@dataclass(frozen=True)
class Lost:
    """The rest of a shard that could not be read."""

    key: str
    reason: str
    samples: int = 1
    """How many samples it would have had, as far as is known."""

    def read(self) -> Sample:
        raise BrokenSample("shard", self.reason)


def is_local(url: str) -> bool:
    """Whether it is the path of a file (`file:` URLs have been turned into one)."""
    return not url.startswith("pipe:") and _SCHEME.match(url) is None


def entries(url: str, name: str, part: int = 0, parts: int = 1, skip: int = 0, expected: int = 0) -> Iterator[Entry]:
    """The samples of one shard, or of one of its interleaved parts, from number `skip` on.

    Nothing is decoded. Of a local shard that is not compressed only headers are read here. A shard that breaks off ends
    with one `Lost`.

    Args:
        name: what keys begin with.
        part: samples `part`, `part + parts`, ... are given.
        expected: samples that a part has on average, 0 where that is unknown: what a lost rest is counted as.
    """
    index = local_index(url) if is_local(url) else None
    if index is not None:
        own, reason, identity = index.samples[part::parts], index.reason, index.identity
        faults = index.faults
        del index  # the places of other parts are not held on to
        count = len(own)
        own.reverse()
        del own[count - min(skip, count) :]
        while own:
            stem, places = own.pop()
            fault = faults.get(stem, "")
            if fault == APART and is_whole([kind for kind, *_ in places]):
                fault = ""  # only what else has its name is not
            yield Placed(url, f"{name}/{stem}", places, fault, identity)
        if reason:
            yield Lost(name, reason, max(1, expected - count))
        return
    given = 0
    try:
        for number, found in enumerate(streamed(url)):
            if number % parts == part:
                given += 1
                if given > skip:
                    yield Encoded(f"{name}/{found.name}", found.fields, found.fault)
    except UNREADABLE as error:
        yield Lost(name, unreadable(url, error), max(1, expected - given))


class Index(NamedTuple):
    """What a local shard holds."""

    samples: list[Place]
    """(name in the shard, places of its members) of each sample."""
    reason: str = ""
    """Why there are no more; empty where the archive ends as it should."""
    faults: dict[str, str] = {}  # noqa: RUF012 - never changed
    """Why samples cannot be used, by their names; most have nothing here."""
    identity: tuple[int, int] | None = None
    """Of the file, as `Placed` has it."""


_indices: OrderedDict[tuple[str, int, int], Index] = OrderedDict()


def local_index(path: str) -> Index | None:
    """The samples of a local tar file by its headers; None for a compressed one, which must be read through."""
    try:
        status = Path(path).stat()
    except OSError as error:
        return Index([], unreadable(path, error))
    identity = (path, *identity_of(status))
    if identity in _indices:
        _indices.move_to_end(identity)
        return _indices[identity]
    index = read_index(path)
    if index is not None:
        _indices[identity] = index
        while len(_indices) > 1 and sum(len(kept.samples) for kept in _indices.values()) > LARGEST_CACHE:
            _indices.popitem(last=False)
    return index


def read_index(path: str) -> Index | None:
    samples: list[Place] = []
    faults: dict[str, str] = {}
    reason, identity = "", None
    try:
        with open_regular(path) as file:
            if compression(file.read(8)) in UNPACKERS:
                return None
            identity = identity_of(os.fstat(file.fileno()))
            for found in grouped(LocalBytes(file), lambda member: (member.offset, member.size)):
                samples.append((found.name, tuple((kind, *place) for kind, place in found.fields.items())))
                if found.fault:
                    faults[found.name] = found.fault
    except UNREADABLE as error:
        reason = unreadable(path, error)
    return Index(samples, reason, faults | apart(samples), identity)


def streamed(url: str) -> Iterator[Grouped[bytes]]:
    """Each sample, read through once: what pipes and URLs and compression allow.

    Raises:
        UNREADABLE: the stream ends early, is no tar, or what gives it fails.
    """
    from webdataset.gopen import gopen

    stream: Any = open_regular(url) if is_local(url) else gopen(url)
    whole = False
    try:
        source = StreamBytes(unpacked(Peeked(stream)))
        seen: set[str] = set()
        for found in grouped(source, lambda member: source.at(member.offset, member.size)):
            again = found.name in seen and not is_whole(list(found.fields))
            yield replace(found, fault=found.fault or APART) if again else found
            seen.add(found.name)
        whole = True
    finally:
        if whole:
            stream.close()  # raises where the command behind it has failed
        else:
            if (process := getattr(stream, "proc", None)) is not None:
                process.kill()  # in a worker it has learnt to ignore what is gentler
            with suppress(OSError):
                stream.close()


def unreadable(url: str, error: BaseException) -> str:
    """Why a shard cannot be read, in one line."""
    reason = getattr(error, "strerror", None) or one_line(error)
    again = "" if isinstance(error, AnotherFile) else "; write it again"
    return printable(f"shard {url} cannot be read as a tar file: {reason}{again}")


def lone_ends(paths: Sequence[str]) -> list[str]:
    """Those of some local files whose last bytes are the end of a tar with one empty block in place of two.

    A guess from their ends, for a warning: what is compressed is passed over, and so is what has the length of whole
    records, as GNU tar and Python's tarfile write them.
    """
    found = []
    for path in paths:
        try:
            with open_regular(path) as file:
                size = os.fstat(file.fileno()).st_size
                if size % RECORD == 0 or file.read(BLOCK)[257:262] != b"ustar":
                    continue
                file.seek(max(0, size // BLOCK - 2) * BLOCK)
                end = file.read(3 * BLOCK)
        except (OSError, ValueError):  # whoever reads it says what is wrong with it
            continue
        before, last, part = end[:BLOCK], end[BLOCK : 2 * BLOCK], end[2 * BLOCK :]
        lone = before != EMPTY if last == EMPTY else bool(part)
        if lone and not part.strip(b"\0"):
            found.append(path)
    return found
