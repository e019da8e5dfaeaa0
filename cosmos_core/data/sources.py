"""The sources that `config.data` names: shards, tables and records."""

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
from cosmos_core.data.mixing import Stage, parse_stages
from cosmos_core.data.samples import Sample
from cosmos_core.data.shards import LostSamples, entries, find_lone_end_blocks, is_local, read_cached_index
from cosmos_core.data.tables import coco_captions, csv_pairs
from cosmos_core.errors import RequestError
from cosmos_core.file_checks import user_path
from cosmos_core.printable import printable
from cosmos_core.short_repr import short_list
from cosmos_core.tar_files import LONE_BLOCK
from cosmos_core.world import World

TOYBOX = "toybox"
MAX_PARTS = 16
MAX_SHARDS = 10**7
RANGE = re.compile(r"\{(-?[0-9]+)\.\.(-?[0-9]+)")
MAX_UNEVENNESS = 0.05
"""Largest relative spread of the lanes' sizes that is accepted in order to cut shards into fewer parts."""


@dataclass
class Records:
    """A sequence of samples: passed by the caller, or rows of a table."""

    name: str
    data: Sequence[Sample]

    @property
    def samples(self) -> int:
        return len(self.data)

    def describe(self, lanes: int) -> dict[str, Any]:
        return {"source": self.name, "kind": "records", "samples": self.samples}


@dataclass
class ShardList:
    """Webdataset shards (tar files), in the order in which the configuration names them."""

    name: str
    urls: list[str]
    names: list[str] = field(default_factory=list)
    """Prefix of the keys of each shard's samples."""
    samples: int = 0
    """Number of samples in all of them; 0: unknown."""

    def describe(self, lanes: int) -> dict[str, Any]:
        parts = parts_per_shard(len(self.urls), lanes)
        return {
            "source": self.name,
            "kind": "shards",
            "shards": len(self.urls),
            "parts": parts,
            "samples": self.samples or None,
        }


DataSource = Records | ShardList


def describe_lone_end_blocks(sources: Sequence[DataSource]) -> str:
    """A warning about local shards that end in one empty block, and so may be cut short; empty if there are none."""
    urls = [url for source in sources if isinstance(source, ShardList) for url in source.urls if is_local(url)]
    lone_names = [Path(url).name for url in find_lone_end_blocks(urls)]
    verb = "has" if len(lone_names) == 1 else "have"
    if not lone_names:
        return ""
    return printable(f"{len(lone_names):,} of {len(urls):,} shards {verb} {LONE_BLOCK}: {short_list(lone_names, 3)}")


def parts_per_shard(shards: int, lanes: int) -> int:
    """Number of interleaved parts that each shard is cut into, so that lanes have (nearly) the same number of units.

    With many shards one part suffices: a unit more or less hardly matters for a lane. With few, shards are cut, at the
    price that a shard is read by several lanes.
    """

    def uneven(parts: int) -> float:
        each, rest = divmod(shards * parts, lanes)
        share = rest / lanes
        return share * (1 - share) / (each + share) if each else math.inf

    candidates = range(1, max(MAX_PARTS, math.ceil(lanes / shards)) + 1)
    return next((parts for parts in candidates if uneven(parts) <= MAX_UNEVENNESS), min(candidates, key=uneven))


def build_sources(config: TrainConfig, data: Sequence[Sample] | None) -> tuple[list[DataSource], list[Stage]]:
    """The sources of a run and the stages of their weights; without `data_weights` there are none.

    Without weights, the shards of all sources are merged into one list, and so are all records.

    Raises:
        RequestError: a source that does not exist or is of an unknown kind, or weights that do not fit the sources.
    """
    source_texts = split_sources(config.data)
    if data is not None and TOYBOX not in source_texts:
        source_texts = [TOYBOX]  # the data passed by the caller are all
    if not source_texts:
        raise RequestError("no training data: set data=SHARDS")
    sources = [build_source(text, config, data) for text in source_texts]
    stages = parse_stages(config.data_weights, len(source_texts))
    if not stages:
        sources = merge_sources(sources)
    set_shard_names([source for source in sources if isinstance(source, ShardList)])
    return sources, stages


def split_sources(text: str) -> list[str]:
    return [part.strip() for part in text.split("::") if part.strip()]


def build_source(text: str, config: TrainConfig, data: Sequence[Sample] | None) -> DataSource:
    if text == TOYBOX:
        if data is None:
            raise RequestError("no training data: set data=SHARDS, or pass toybox's records to train(config, data=...)")
        return Records(TOYBOX, data)
    if text.startswith("coco:"):
        annotations, comma, folder = text.removeprefix("coco:").partition(".json,")
        if not comma:
            raise RequestError(f"training data {text}: write coco:ANNOTATIONS.json,IMAGES_FOLDER")
        return Records(text, coco_captions(user_path(f"{annotations}.json"), user_path(folder)))
    if Path(text).suffix.lower() in (".csv", ".tsv"):
        return Records(text, csv_pairs(user_path(text), config.csv_image, config.csv_caption))
    return ShardList(text, expand_shards(text))


def expand_shards(pattern: str) -> list[str]:
    """Paths and URLs of the shards that a pattern names, as webdataset expands braces and `${NAME}` (from WDS_NAME).

    Raises:
        RequestError: no such file, a shard of a range is missing, or the braces do not close.
    """
    from webdataset.gopen import gopen_schemes
    from webdataset.shardlists import expand_urls

    require_few_shards(pattern)
    try:
        expanded = expand_urls(pattern)
    except (AssertionError, ValueError) as error:
        raise RequestError(f"training data {pattern}: {error or 'cannot be expanded'}") from error
    urls: list[str] = []
    for url in expanded:
        if url.startswith("file:"):
            url = url2pathname(urlparse(url).path)
        if not is_local(url):
            scheme, openable = url.partition(":")[0].lower(), sorted(set(gopen_schemes) - {"__default__"})
            if scheme not in openable:
                raise RequestError(
                    f"training data {url}: addresses that begin with {scheme}: cannot be opened, only "
                    f"{', '.join(openable)}; pipe:COMMAND reads what any command writes"
                )
            urls.append(url)
            continue
        path = os.path.expanduser(url)  # noqa: PTH111 - glob takes strings
        urls += sorted(glob.glob(path)) or [path]  # noqa: PTH207 - Path.glob takes no absolute pattern
    missing = [url for url in urls if is_local(url) and not Path(url).is_file()]
    if missing and Path(missing[0]).exists():
        raise RequestError(
            f"training data {pattern}: {missing[0]} is not a regular file (a folder, a pipe or a device)"
        )
    if missing:
        raise RequestError(f"training data {pattern}: no file {missing[0]}; {len(missing)} of {len(urls)} missing")
    return urls


def require_few_shards(pattern: str) -> None:
    """RequestError if the ranges name more than `MAX_SHARDS` shards; called before they are expanded."""
    count = 1
    for first, last in RANGE.findall(pattern):
        ends = [int(end[:19]) for end in (first, last)]
        count *= 1 + abs(ends[1] - ends[0])
    if count > MAX_SHARDS:
        raise RequestError(f"training data {pattern[:200]}: its ranges name more than {MAX_SHARDS:,} shards")


class ConcatenatedSequence(Sequence[Sample]):
    """Several sequences as one."""

    def __init__(self, parts: Sequence[Sequence[Sample]]) -> None:
        self.parts = parts

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, index: Any) -> Any:
        for part in self.parts:
            if index < len(part):
                return part[index]
            index -= len(part)
        raise IndexError(index)


def merge_sources(sources: list[DataSource]) -> list[DataSource]:
    """All shards as one source and all records as another, if there are any."""
    records = [source for source in sources if isinstance(source, Records)]
    shards = [source for source in sources if isinstance(source, ShardList)]
    merged: list[DataSource] = []
    if records:
        data = records[0].data if len(records) == 1 else ConcatenatedSequence([source.data for source in records])
        merged.append(Records("::".join(source.name for source in records), data))
    if shards:
        urls = [url for source in shards for url in source.urls]
        merged.append(ShardList("::".join(source.name for source in shards), urls))
    return merged


def set_shard_names(lists: list[ShardList]) -> None:
    """Set the names of all shards: the shortest end of the address that distinguishes them.

    Keys begin with these names and seed the draws, so the draws do not change if the data are moved to another folder
    or host.
    """
    urls = [url.rstrip(" -") for source in lists for url in source.urls]
    names = [url.rpartition("/")[2] for url in urls]
    if len(set(names)) < len(set(urls)):
        # not commonpath, which would collapse the slashes of a URL
        common_folder = os.path.commonprefix(urls).rpartition("/")[0]  # noqa: RUF071
        names = [url[len(common_folder) :].lstrip("/") for url in urls]
    times: Counter[str] = Counter()
    for index, name in enumerate(names):
        times[name] += 1
        if times[name] > 1:  # a shard named twice is read twice, with other views each time
            names[index] = f"{name}#{times[name]}"
    remaining = iter(names)
    for source in lists:
        source.names = [next(remaining) for _ in source.urls]


def count_samples(shards: ShardList, world: World) -> int:
    """Samples in local shards, by their headers; 0 if one is not local. Ranks of one process group share the work."""
    if not all(map(is_local, shards.urls)):
        return 0
    is_shared = world.size > 1 and dist.is_available() and dist.is_initialized()
    rank_urls = shards.urls[world.rank :: world.size] if is_shared else shards.urls
    count = sum(count_shard(url) for url in rank_urls)
    return sum(world.gather(count)) if is_shared else count


def unreadable_shard(url: str) -> str:
    """Why a local shard cannot be read to its end; empty if it can."""
    index = read_cached_index(url)
    if index is not None:
        return index.reason
    return next((entry.reason for entry in entries(url, Path(url).name) if isinstance(entry, LostSamples)), "")


def count_shard(url: str) -> int:
    index = read_cached_index(url)
    if index is not None:
        return len(index.samples)
    return sum(1 for entry in entries(url, "") if hasattr(entry, "fields"))
