"""What the members of a shard make together: samples, by webdataset's rule, and the captions of each."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Generic, TypeVar

from cosmos_core.json_text import parse_json
from cosmos_core.tar_files import Member, Source, TarFault, is_side_file, members
from cosmos_core.text_crop import DREAMLIP_FIELDS, Record
from cosmos_core.text_files import impostor_of

PICTURES = ("jpg", "jpeg", "png", "webp")
RECORDS = ("json", "txt")
CAPTION_FIELDS = (*DREAMLIP_FIELDS, "original_caption", "vlm_caption", "caption", "captions")
APART = "the members of a sample do not stand together; pack them sorted by name (tar --sort=name)"
Place = tuple[str, tuple[tuple[str, int, int], ...]]
"""Name in the shard of a sample, and extension, offset and bytes of each of its members."""
T = TypeVar("T")


def parse_record(fields: dict[str, bytes]) -> Record:
    """The captions of a sample: its `json`, or its `txt` where no field of the json holds one (null is none).

    An unreadable record comes back empty: it has no words, and is counted for that.
    """
    record: Any = {}
    try:
        if "json" in fields:
            record = parse_json(fields["json"], "json")
        known = isinstance(record, dict) and any(record.get(field) is not None for field in CAPTION_FIELDS)
        if "txt" in fields and not known:
            record = "" if impostor_of(fields["txt"]) else fields["txt"].decode("utf-8-sig")
        elif isinstance(record, dict) and not known:
            record = {key: value for key, value in record.items() if value is not None}
    except (ValueError, RecursionError):
        record = {}
    return with_usual_names(record) if isinstance(record, dict) else record if isinstance(record, str) else {}


def record_fault(fields: dict[str, bytes]) -> str:
    """Why the record of a sample cannot be read; empty where it can, whatever it holds."""
    try:
        if "txt" in fields:
            fields["txt"].decode("utf-8-sig")
            if impostor := impostor_of(fields["txt"]):
                return f"its txt is {impostor}"
        record = parse_json(fields["json"], "its json") if "json" in fields else {}
    except UnicodeDecodeError:
        return "its txt is not in UTF-8; save it as UTF-8"
    except (ValueError, RecursionError) as error:
        return str(error)
    held = "null" if record is None else f"a {type(record).__name__}"
    return "" if isinstance(record, dict | str) else f"its json holds {held}, not an object"


def with_usual_names(record: dict[str, Any]) -> dict[str, Any]:
    """img2dataset calls the column of its `--caption_col` `caption`, whatever its name was: DreamLIP's `raw_caption`.
    PixelProse's own name for its long caption is `vlm_caption`."""
    caption = record.get("caption")
    if "raw_caption" not in record and caption and any(field in record for field in DREAMLIP_FIELDS):
        return {**record, "raw_caption": [caption] if isinstance(caption, str) else caption}
    if "original_caption" in record and caption is None and "vlm_caption" in record:
        return {**record, "caption": record["vlm_caption"]}
    return record


@dataclass(frozen=True)
class Grouped(Generic[T]):
    """A sample of a shard, and what was taken of each of its members."""

    name: str
    fields: dict[str, T]
    fault: str = ""


def grouped(source: Source, take: Callable[[Member], T]) -> Iterator[Grouped[T]]:
    """The samples of a shard: members that share a name before the first dot and stand together.

    Only pictures and captions are taken; a name without either is no sample, and no other member is read.

    Raises:
        TarFault: no whole tar; or, after the last sample, names that were cut at a dot which is part of them.
    """
    name, fields, fault = "", dict[str, T](), ""
    cut = CutNames()
    for member in members(source):
        inside = PurePosixPath(member.name)
        stem, _, extension = inside.name.partition(".")
        extension = extension.lower()
        kind = extension.rpartition(".")[2]
        if kind not in PICTURES + RECORDS or is_side_file(member.name) or member.kind == "a folder":
            continue
        here = str(inside.parent / stem)
        if kind != extension:
            cut.add(here, extension, member.name)
            continue
        if here != name:
            if fields or fault:
                yield Grouped(name, fields, fault)
            name, fields, fault = here, {}, ""
        refusal = "is in it twice" if extension in fields else member.refusal()
        if refusal:
            fault = fault or f"{inside.name} {refusal}"
        else:
            fields[extension] = take(member)
            cut.whole(here, extension)
    if fields or fault:
        yield Grouped(name, fields, fault)
    cut.refuse_any()


class CutNames:
    """Names with a dot in them (`im0.5_000.jpg`), whose samples are lost: webdataset's rule cuts at the first.

    A picture and a caption that share what stands behind that dot are such a sample, unless the sample of the cut name
    has a picture of its own, to which `.seg.png` and the like belong; numbers are no such addition.
    """

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], set[str]] = {}
        self.examples: dict[tuple[str, str], str] = {}
        self.pictured: set[str] = set()

    def add(self, stem: str, extension: str, name: str) -> None:
        middle, _, kind = extension.rpartition(".")
        self.found.setdefault((stem, middle), set()).add(kind)
        self.examples.setdefault((stem, middle), name)

    def whole(self, stem: str, extension: str) -> None:
        if extension in PICTURES:
            self.pictured.add(stem)

    def refuse_any(self) -> None:
        lost = [
            key
            for key, kinds in self.found.items()
            if is_whole(list(kinds)) and (key[0] not in self.pictured or key[1][:1].isdigit())
        ]
        if lost:
            raise TarFault(
                f"names are cut at the first dot ({self.examples[lost[0]]} is sample {lost[0][0]}), which loses "
                f"{len(lost):,} sample{'s' * (len(lost) > 1)}: rename them without dots"
            )


def apart(samples: list[Place]) -> dict[str, str]:
    """What is wrong with samples of one name that are not whole: their members stand in several places."""
    times = Counter(name for name, _ in samples)
    if len(times) == len(samples):
        return {}
    return {name: APART for name, places in samples if times[name] > 1 and not is_whole([kind for kind, *_ in places])}


def is_whole(kinds: list[str]) -> bool:
    return any(kind in PICTURES for kind in kinds) and any(kind in RECORDS for kind in kinds)
