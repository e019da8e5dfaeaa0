"""Webdataset tar files, local or remote: the samples of one shard, in its order, from any place on."""

import re
import tarfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, TypeVar

from cosmos_core.data.samples import BrokenSample, Sample, one_line
from cosmos_core.json_text import parse_json
from cosmos_core.text_crop import DREAMLIP_FIELDS, Record

PICTURES = ("jpg", "jpeg", "png", "webp")
RECORDS = ("json", "txt")
T = TypeVar("T")
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

    def read(self) -> Sample:
        picture = next((self.fields[kind] for kind in PICTURES if kind in self.fields), None)
        return self.key, picture, parse_record(self.fields)


@dataclass(frozen=True)
class Placed:
    """A sample of a local shard: where its members lie."""

    path: str
    key: str
    places: tuple[tuple[str, int, int], ...]
    """(extension, offset, bytes) of each member."""

    def read(self) -> Sample:
        fields = {}
        try:
            with open(self.path, "rb") as file:  # noqa: PTH123 - a Path for every sample costs more than the opening
                for extension, offset, size in self.places:
                    file.seek(offset)
                    fields[extension] = file.read(size)
                    if len(fields[extension]) < size:
                        raise OSError("it is shorter than when the run started")
        except OSError as error:
            reason = error.strerror or one_line(error)
            raise BrokenSample("shard", f"{self.path} cannot be read at {self.key}: {reason}") from error
        return Encoded(self.key, fields).read()


@dataclass(frozen=True)
class Lost:
    """The rest of a shard that could not be read."""

    key: str
    reason: str
    samples: int = 1
    """How many samples it would have had, as far as is known."""

    def read(self) -> Sample:
        raise BrokenSample("shard", self.reason)


def parse_record(fields: dict[str, bytes]) -> Record:
    """The captions of a sample: its `json`, or its `txt` where no field of the json tells of a caption.

    An unreadable record comes back empty: it has no words, and is counted for that.
    """
    record: Any = {}
    try:
        if "json" in fields:
            record = parse_json(fields["json"], "json")
        known = isinstance(record, dict) and any("caption" in field for field in record)
        if "txt" in fields and not known:
            record = fields["txt"].decode("utf-8-sig")
    except (ValueError, RecursionError):
        record = {}
    return with_usual_names(record) if isinstance(record, dict) else record if isinstance(record, str) else {}


def with_usual_names(record: dict[str, Any]) -> dict[str, Any]:
    """img2dataset calls the column of its `--caption_col` `caption`, whatever its name was: DreamLIP's `raw_caption`.
    PixelProse's own name for its long caption is `vlm_caption`."""
    caption = record.get("caption")
    if "raw_caption" not in record and caption and any(field in record for field in DREAMLIP_FIELDS):
        return {**record, "raw_caption": [caption] if isinstance(caption, str) else caption}
    if "original_caption" in record and caption is None and "vlm_caption" in record:
        return {**record, "caption": record["vlm_caption"]}
    return record


class StrictHeader(tarfile.TarInfo):
    """tarfile takes a damaged header for the end of the archive; here it is what it is."""

    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> "StrictHeader":
        try:
            return super().frombuf(buf, encoding, errors)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError(f"damaged or cut short ({error})") from error


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
        own, reason = index.samples[part::parts], index.reason
        del index  # the places of other parts are not held on to
        count = len(own)
        own.reverse()
        del own[count - min(skip, count) :]
        while own:
            stem, places = own.pop()
            yield Placed(url, f"{name}/{stem}", places)
        if reason:
            yield Lost(name, reason, max(1, expected - count))
        return
    given = 0
    try:
        for number, (stem, fields) in enumerate(streamed(url)):
            if number % parts == part:
                given += 1
                if given > skip:
                    yield Encoded(f"{name}/{stem}", fields)
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        yield Lost(name, unreadable(url, error), max(1, expected - given))


@dataclass(frozen=True)
class Index:
    """What a local shard holds."""

    samples: list[tuple[str, tuple[tuple[str, int, int], ...]]]
    """(name in the shard, places of its members) of each sample."""
    reason: str = ""
    """Why there are no more; empty where the archive ends as it should."""


_indices: OrderedDict[tuple[str, int, int], Index] = OrderedDict()


def local_index(path: str) -> Index | None:
    """The samples of a local tar file by its headers; None for a compressed one, which must be read through."""
    try:
        status = Path(path).stat()
    except OSError as error:
        return Index([], unreadable(path, error))
    identity = (path, status.st_size, status.st_mtime_ns)
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
    try:
        archive = tarfile.open(path, "r:", tarinfo=StrictHeader)  # noqa: SIM115 - closed below
    except (tarfile.TarError, EOFError, OSError) as error:
        try:
            tarfile.open(path, "r:*").close()
        except (tarfile.TarError, EOFError, OSError):
            return Index([], unreadable(path, error))
        return None
    samples: list[tuple[str, tuple[tuple[str, int, int], ...]]] = []
    with closing(archive):
        try:
            for stem, places in grouped(archive, lambda member: (member.offset_data, member.size)):
                samples.append((stem, tuple((kind, *place) for kind, place in places.items())))
        except (tarfile.TarError, EOFError, OSError) as error:
            return Index(samples, unreadable(path, error))
    return Index(samples)


def streamed(url: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Name in the shard and members of each sample, read through once: what pipes and URLs allow.

    Raises:
        OSError, tarfile.TarError: the stream ends early, or what gives it fails.
    """
    from webdataset.gopen import gopen

    stream = Path(url).open("rb") if is_local(url) else gopen(url)  # noqa: SIM115 - closed below
    whole = False
    try:
        with tarfile.open(fileobj=stream, mode="r|*", tarinfo=StrictHeader) as archive:
            yield from grouped(archive, lambda member: archive.extractfile(member).read())  # type: ignore[union-attr]
        while stream.read(1 << 16):  # a command that still has padding to write would fail on a closed pipe
            pass
        whole = True
    finally:
        if whole:
            stream.close()  # raises where the command behind it has failed
        else:
            if (process := getattr(stream, "proc", None)) is not None:
                process.kill()  # in a worker it has learnt to ignore what is gentler
            with suppress(OSError):
                stream.close()


def grouped(archive: tarfile.TarFile, take: Callable[[tarfile.TarInfo], T]) -> Iterator[tuple[str, dict[str, T]]]:
    """Name and members of each sample: those that share a name before the first dot and stand together.

    Only pictures and captions are taken; a name without either is no sample, and no other member is read.
    """
    name, fields = "", dict[str, T]()
    for member in archive:
        inside = PurePosixPath(member.name)
        stem, _, extension = inside.name.partition(".")
        extension = extension.lower()
        about_data = inside.parts[0].startswith("__") and inside.parts[0].endswith("__")  # webdataset's mark
        if not stem or about_data or extension not in PICTURES + RECORDS or not member.isreg() or member.sparse:
            continue
        here = str(inside.parent / stem)
        if here != name:
            if fields:
                yield name, fields
            name, fields = here, {}
        fields[extension] = take(member)
    if fields:
        yield name, fields


def unreadable(url: str, error: BaseException) -> str:
    """Why a shard cannot be read, in one line."""
    reason = getattr(error, "strerror", None) or one_line(error)
    return f"shard {url} cannot be read as a tar file: {reason}; write it again"
