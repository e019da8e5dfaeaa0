"""Grouping the members of a shard into samples, by webdataset's rule, and reading the captions of a sample."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Generic, TypeVar

from cosmos_core.json_text import parse_json
from cosmos_core.tar_files import ByteSource, Member, TarError, is_side_file, members
from cosmos_core.text_crop import DREAMLIP_FIELDS, Record
from cosmos_core.text_files import impostor_of

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")
RECORD_EXTENSIONS = ("json", "txt")
CAPTION_FIELDS = (*DREAMLIP_FIELDS, "original_caption", "vlm_caption", "caption", "captions")
NOT_ADJACENT = "the members of a sample are not adjacent; pack them sorted by name (tar --sort=name)"
SampleLocation = tuple[str, tuple[tuple[str, int, int], ...]]
"""A sample's name in the shard, and (extension, offset, size in bytes) of each of its members."""
T = TypeVar("T")


def parse_record(fields: dict[str, bytes]) -> Record:
    """The captions of a sample: its `json`, or its `txt` if no caption field of the json is set (null counts as unset).

    An unreadable record is returned empty, so the sample is counted as one without words.
    """
    record: Any = {}
    try:
        if "json" in fields:
            record = parse_json(fields["json"], "json")
        has_caption = isinstance(record, dict) and any(record.get(field) is not None for field in CAPTION_FIELDS)
        if "txt" in fields and not has_caption:
            record = "" if impostor_of(fields["txt"]) else fields["txt"].decode("utf-8-sig")
        elif isinstance(record, dict) and not has_caption:
            record = {key: value for key, value in record.items() if value is not None}
    except (ValueError, RecursionError):
        record = {}
    return with_standard_fields(record) if isinstance(record, dict) else record if isinstance(record, str) else {}


def explain_unreadable_record(fields: dict[str, bytes]) -> str:
    """Why the record of a sample cannot be read; empty if it can."""
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
    kind = "null" if record is None else f"a {type(record).__name__}"
    return "" if isinstance(record, dict | str) else f"its json holds {kind}, not an object"


def with_standard_fields(record: dict[str, Any]) -> dict[str, Any]:
    """The record with the field names that TextCrop expects.

    img2dataset renames the column of its `--caption_col` to `caption`: for DreamLIP that is `raw_caption`. PixelProse
    calls its long caption `vlm_caption`.
    """
    caption = record.get("caption")
    if "raw_caption" not in record and caption and any(field in record for field in DREAMLIP_FIELDS):
        return {**record, "raw_caption": [caption] if isinstance(caption, str) else caption}
    if "original_caption" in record and caption is None and "vlm_caption" in record:
        return {**record, "caption": record["vlm_caption"]}
    return record


@dataclass(frozen=True)
class ShardSample(Generic[T]):
    """A sample of a shard, with one value (content or position) for each of its members by extension."""

    name: str
    fields: dict[str, T]
    fault: str = ""


def group_members(source: ByteSource, get_value: Callable[[Member], T]) -> Iterator[ShardSample[T]]:
    """The samples of a shard: adjacent members that share their name up to the first dot.

    Only images and captions are used; a name without either is not a sample, and no other member is read.

    Raises:
        TarError: not a whole tar; or, after the last sample, names with a dot inside, which webdataset's rule cuts.
    """
    name, fields, fault = "", dict[str, T](), ""
    cut_names = CutNames()
    for member in members(source):
        path = PurePosixPath(member.name)
        stem, _, extension = path.name.partition(".")
        extension = extension.lower()
        kind = extension.rpartition(".")[2]
        if kind not in IMAGE_EXTENSIONS + RECORD_EXTENSIONS or is_side_file(member.name) or member.kind == "a folder":
            continue
        sample_name = str(path.parent / stem)
        if kind != extension:
            cut_names.add_dotted(sample_name, extension, member.name)
            continue
        if sample_name != name:
            if fields or fault:
                yield ShardSample(name, fields, fault)
            name, fields, fault = sample_name, {}, ""
        refusal = "is in it twice" if extension in fields else member.refusal()
        if refusal:
            fault = fault or f"{path.name} {refusal}"
        else:
            fields[extension] = get_value(member)
            cut_names.add_member(sample_name, extension)
    if fields or fault:
        yield ShardSample(name, fields, fault)
    cut_names.require_none_lost()


class CutNames:
    """Finds names with a dot inside (`im0.5_000.jpg`), whose samples are lost: webdataset's rule cuts at the first dot.

    An image and a caption that share the part between the first and the last dot are such a sample. An exception: if
    the sample of the cut name has an image of its own, then `.seg.png` and the like are additions to it; but a part
    that begins with a digit is never such an addition.
    """

    def __init__(self) -> None:
        self.kinds_by_name: dict[tuple[str, str], set[str]] = {}
        self.example_names: dict[tuple[str, str], str] = {}
        self.with_image: set[str] = set()

    def add_dotted(self, stem: str, extension: str, name: str) -> None:
        middle, _, kind = extension.rpartition(".")
        self.kinds_by_name.setdefault((stem, middle), set()).add(kind)
        self.example_names.setdefault((stem, middle), name)

    def add_member(self, stem: str, extension: str) -> None:
        if extension in IMAGE_EXTENSIONS:
            self.with_image.add(stem)

    def require_none_lost(self) -> None:
        lost = [
            key
            for key, kinds in self.kinds_by_name.items()
            if is_complete(list(kinds)) and (key[0] not in self.with_image or key[1][:1].isdigit())
        ]
        if lost:
            raise TarError(
                f"names are cut at the first dot ({self.example_names[lost[0]]} is sample {lost[0][0]}), which loses "
                f"{len(lost):,} sample{'s' * (len(lost) > 1)}: rename them without dots"
            )


def find_not_adjacent(samples: list[SampleLocation]) -> dict[str, str]:
    """Incomplete samples whose name occurs more than once: name -> what is wrong (members are not adjacent)."""
    times = Counter(name for name, _ in samples)
    if len(times) == len(samples):
        return {}
    return {
        name: NOT_ADJACENT
        for name, members in samples
        if times[name] > 1 and not is_complete([kind for kind, *_ in members])
    }


def is_complete(kinds: list[str]) -> bool:
    return any(kind in IMAGE_EXTENSIONS for kind in kinds) and any(kind in RECORD_EXTENSIONS for kind in kinds)
