"""What `config.data` names: shards, tables and records, ready to be drawn from."""

import glob
import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import url2pathname

from torch import distributed as dist

from cosmos_core.config import TrainConfig
from cosmos_core.data.samples import Sample
from cosmos_core.data.shards import Lost, entries, is_local, local_index, lone_ends
from cosmos_core.data.tables import coco_captions, csv_pairs
from cosmos_core.errors import RequestError
from cosmos_core.file_checks import user_path
from cosmos_core.printable import printable
from cosmos_core.short_repr import short_list
from cosmos_core.tar_files import LONE_BLOCK
from cosmos_core.world import World

TOYBOX = "toybox"
MOST_PARTS = 16
MOST_SHARDS = 10**7
RANGE = re.compile(r"\{(-?[0-9]+)\.\.(-?[0-9]+)")
UNEVEN = 0.05
"""Share of an epoch that lanes may be apart, for the sake of reading each shard by fewer of them."""


@dataclass
class Records:
    """Samples with a number: handed in by the caller, or rows of a table."""

    name: str
    data: Sequence[Sample]

    @property
    def samples(self) -> int:
        return len(self.data)

    def describe(self, lanes: int) -> dict[str, Any]:
        return {"source": self.name, "kind": "records", "samples": self.samples}


@dataclass
class ShardList:
    """Tar files, in the order in which the configuration names them."""

    name: str
    urls: list[str]
    names: list[str] = field(default_factory=list)
    """What the keys of each shard's samples begin with."""
    samples: int = 0
    """In all of them; 0: unknown."""

    def describe(self, lanes: int) -> dict[str, Any]:
        parts = parts_of(len(self.urls), lanes)
        return {
            "source": self.name,
            "kind": "shards",
            "shards": len(self.urls),
            "parts": parts,
            "samples": self.samples or None,
        }


Source = Records | ShardList


def lone_ends_of(sources: Sequence[Source]) -> str:
    """What to say of shards on a disk that end as one that was cut short may end; empty where none does."""
    urls = [url for source in sources if isinstance(source, ShardList) for url in source.urls if is_local(url)]
    odd = [Path(url).name for url in lone_ends(urls)]
    verb = "has" if len(odd) == 1 else "have"
    return printable(f"{len(odd):,} of {len(urls):,} shards {verb} {LONE_BLOCK}: {short_list(odd, 3)}") if odd else ""


def parts_of(shards: int, lanes: int) -> int:
    """Into how many interleaved parts each shard is cut, so that lanes have (nearly) the same number of units.

    With many shards a lane has a few units more or less than it should, which hardly matters; with few, each part is a
    lane's own, at the price that a shard is read by several lanes.
    """

    def uneven(parts: int) -> float:
        each, rest = divmod(shards * parts, lanes)
        share = rest / lanes
        return share * (1 - share) / (each + share) if each else math.inf

    candidates = range(1, max(MOST_PARTS, math.ceil(lanes / shards)) + 1)
    return next((parts for parts in candidates if uneven(parts) <= UNEVEN), min(candidates, key=uneven))


def find_sources(config: TrainConfig, data: Sequence[Sample] | None) -> tuple[list[Source], list[float]]:
    """The sources of a run and how often each is drawn from; no weights where all are one list.

    Shards of all sources become one list where there are no weights, and so do records.

    Raises:
        RequestError: a source that is not there or not understood, or weights that do not fit them.
    """
    named = split_sources(config.data)
    if data is not None and TOYBOX not in named:
        named = [TOYBOX]  # what is handed in is all the data
    if not named:
        raise RequestError("no training data: set data=SHARDS")
    found = [one_source(text, config, data) for text in named]
    weights = parse_weights(config.data_weights, named)
    if not weights:
        found = merged(found)
    name_shards([source for source in found if isinstance(source, ShardList)])
    return found, weights


def split_sources(text: str) -> list[str]:
    return [part.strip() for part in text.split("::") if part.strip()]


def one_source(text: str, config: TrainConfig, data: Sequence[Sample] | None) -> Source:
    if text == TOYBOX:
        if data is None:
            raise RequestError("no training data: set data=SHARDS, or hand toybox's records to train(config, data=...)")
        return Records(TOYBOX, data)
    if text.startswith("coco:"):
        annotations, comma, folder = text.removeprefix("coco:").partition(".json,")
        if not comma:
            raise RequestError(f"training data {text}: write coco:ANNOTATIONS.json,IMAGES_FOLDER")
        return Records(text, coco_captions(user_path(f"{annotations}.json"), user_path(folder)))
    if Path(text).suffix.lower() in (".csv", ".tsv"):
        return Records(text, csv_pairs(user_path(text), config.csv_image, config.csv_caption))
    return ShardList(text, find_shards(text))


def find_shards(pattern: str) -> list[str]:
    """Paths and URLs of the shards that a pattern names, as webdataset expands braces and `${NAME}` (from WDS_NAME).

    Raises:
        RequestError: nothing is there, a shard of a range is missing, or the braces do not close.
    """
    from webdataset.gopen import gopen_schemes
    from webdataset.shardlists import expand_urls

    refuse_many(pattern)
    try:
        expanded = expand_urls(pattern)
    except (AssertionError, ValueError) as error:
        raise RequestError(f"training data {pattern}: {error or 'cannot be expanded'}") from error
    urls: list[str] = []
    for url in expanded:
        if url.startswith("file:"):
            url = url2pathname(urlparse(url).path)
        if not is_local(url):
            scheme, known = url.partition(":")[0].lower(), sorted(set(gopen_schemes) - {"__default__"})
            if scheme not in known:
                raise RequestError(
                    f"training data {url}: nothing opens {scheme}: addresses, only {', '.join(known)}; "
                    "pipe:COMMAND reads what any command writes"
                )
            urls.append(url)
            continue
        path = os.path.expanduser(url)  # noqa: PTH111 - a string goes on
        urls += sorted(glob.glob(path)) or [path]  # noqa: PTH207 - Path.glob takes no absolute pattern
    missing = [url for url in urls if is_local(url) and not Path(url).is_file()]
    if missing and Path(missing[0]).exists():
        raise RequestError(f"training data {pattern}: {missing[0]} is no regular file (a folder, a pipe or a device)")
    if missing:
        raise RequestError(f"training data {pattern}: no file {missing[0]}; {len(missing)} of {len(urls)} missing")
    return urls


def refuse_many(pattern: str) -> None:
    """RequestError for ranges of more shards than anyone has, before they are listed."""
    count = 1
    for first, last in RANGE.findall(pattern):
        ends = [int(end[:19]) for end in (first, last)]
        count *= 1 + abs(ends[1] - ends[0])
    if count > MOST_SHARDS:
        raise RequestError(f"training data {pattern[:200]}: its ranges name more than {MOST_SHARDS:,} shards")


def parse_weights(text: str, sources: list[str]) -> list[float]:
    """`2::1` as numbers, one for each source; RequestError where they are not."""
    if not text:
        return []
    try:
        weights = [float(part) for part in text.split("::")]
    except ValueError as error:
        raise RequestError(f"data_weights={text}: numbers joined by ::, such as 2::1") from error
    if len(weights) != len(sources):
        raise RequestError(f"data_weights={text} has {len(weights)} weights for {len(sources)} sources of data")
    if not all(0 <= weight < float("inf") for weight in weights) or not sum(weights):
        raise RequestError(f"data_weights={text}: weights are finite, at least 0, and one of them above it")
    return weights


class Joined(Sequence[Sample]):
    """Several sequences as one."""

    def __init__(self, parts: Sequence[Sequence[Sample]]) -> None:
        self.parts = parts

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, place: Any) -> Any:
        for part in self.parts:
            if place < len(part):
                return part[place]
            place -= len(part)
        raise IndexError(place)


def merged(found: list[Source]) -> list[Source]:
    """One list of shards and one of records, as far as there are any."""
    records = [source for source in found if isinstance(source, Records)]
    shards = [source for source in found if isinstance(source, ShardList)]
    one: list[Source] = []
    if records:
        whole = records[0].data if len(records) == 1 else Joined([source.data for source in records])
        one.append(Records("::".join(source.name for source in records), whole))
    if shards:
        urls = [url for source in shards for url in source.urls]
        one.append(ShardList("::".join(source.name for source in shards), urls))
    return one


def name_shards(lists: list[ShardList]) -> None:
    """Give every shard as much of its address as tells it apart and no more: keys, and so draws, are those of the same
    data in any other folder or on any other host."""
    urls = [url.rstrip(" -") for source in lists for url in source.urls]
    names = [url.rpartition("/")[2] for url in urls]
    if len(set(names)) < len(set(urls)):
        # not commonpath, which would collapse the slashes of a URL
        same = os.path.commonprefix(urls).rpartition("/")[0]  # noqa: RUF071
        names = [url[len(same) :].lstrip("/") for url in urls]
    times: Counter[str] = Counter()
    for place, name in enumerate(names):
        times[name] += 1
        if times[name] > 1:  # one shard named twice is drawn from twice, with draws of its own each time
            names[place] = f"{name}#{times[name]}"
    rest = iter(names)
    for source in lists:
        source.names = [next(rest) for _ in source.urls]


def count_samples(shards: ShardList, world: World) -> int:
    """Samples in local shards, by their headers; 0 where one is not local. Ranks that run together share the work."""
    if not all(map(is_local, shards.urls)):
        return 0
    together = world.size > 1 and dist.is_available() and dist.is_initialized()
    mine = shards.urls[world.rank :: world.size] if together else shards.urls
    count = sum(count_shard(url) for url in mine)
    return sum(world.gather(count)) if together else count


def fault_of(url: str) -> str:
    """Why a local shard cannot be read to its end; empty where it can."""
    index = local_index(url)
    if index is not None:
        return index.reason
    return next((entry.reason for entry in entries(url, Path(url).name) if isinstance(entry, Lost)), "")


def count_shard(url: str) -> int:
    index = local_index(url)
    if index is not None:
        return len(index.samples)
    return sum(1 for entry in entries(url, "") if hasattr(entry, "fields"))
