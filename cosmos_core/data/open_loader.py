"""`open_loader`: from the configuration of a run to the loader of its data."""

from collections.abc import Iterable, Sequence

from cosmos_core.batch_sharing import share_of_rank
from cosmos_core.config import TrainConfig
from cosmos_core.data.iterable import IterableLoader
from cosmos_core.data.lanes import LanePlan
from cosmos_core.data.loader import LaneLoader, Loader
from cosmos_core.data.mixing import Stage, require_stages_begin
from cosmos_core.data.samples import Sample, SampleViews, Tokenizer
from cosmos_core.data.shards import is_local
from cosmos_core.data.sources import DataSource, Records, ShardList, build_sources, count_samples, unreadable_shard
from cosmos_core.errors import RequestError
from cosmos_core.objectives.base import Views
from cosmos_core.printable import plural
from cosmos_core.text_crop import TextCrop
from cosmos_core.world import World

MAX_DEFAULT_LANES = 16
"""Largest number of lanes that is chosen if the configuration does not set one."""


def open_loader(
    config: TrainConfig,
    views: Views,
    tokenizer: Tokenizer,
    data: Sequence[Sample] | Iterable[Sample] | None = None,
    world: World | None = None,
) -> Loader:
    """The data of a run, for one rank of it.

    Args:
        views: the views to make of each sample.
        tokenizer: texts -> (B, L) ids.
        data: samples; if `config.data` has `toybox` among its sources, they are that source. None: `config.data` alone.

    Raises:
        RequestError: no data, an unknown kind of source, an epoch shorter than a batch or of unknown length, or a batch
            that cannot be divided among lanes and ranks.
    """
    world = world or World()
    make_views = SampleViews(
        views.images, TextCrop(views.captions, config.caption_mode), config.seed, views.kept_captions
    )
    if data is not None and not isinstance(data, Sequence):
        if world.size > 1:
            raise RequestError("a plain iterable cannot be shared by ranks: pass train a Sequence, or set data=SHARDS")
        if config.data_weights:
            raise RequestError("a plain iterable is one source, which data_weights cannot mix: set data_weights=''")
        return IterableLoader(config, data, make_views, tokenizer)
    lanes = number_of_lanes(config, world)
    sources, stages = build_sources(config, data)
    samples = epoch_length(config, sources, stages, world)
    require_stages_begin(stages, config.steps or config.epochs * (samples // config.batch_size))
    plan = LanePlan(
        sources=sources,
        stages=stages or [Stage(0, tuple(float(max(1, source.samples)) for source in sources))],
        seed=config.seed,
        lanes=lanes,
        block=config.shuffle,
        rounds=config.batch_size // lanes,
        quota=samples // config.batch_size * (config.batch_size // lanes),
        views=make_views,
        tokenizer=tokenizer,
    )
    return LaneLoader(config, plan, samples, world)


def number_of_lanes(config: TrainConfig, world: World) -> int:
    """The number of lanes of the run.

    Raises:
        RequestError: it does not divide the batch, or is not a multiple of the number of ranks.
    """
    size = config.batch_size
    share_of_rank(size, world.size)
    lanes = config.lanes or max(n for n in range(1, MAX_DEFAULT_LANES + 1) if size % n == 0)
    fitting = [n for n in range(world.size, size + 1, world.size) if size % n == 0]
    if lanes not in fitting:
        nearest = sorted(fitting, key=lambda n: abs(n - lanes))[:3]
        raise RequestError(
            f"{lanes} lanes do not divide batch_size={size} and {world.size} rank{'s' * (world.size > 1)} evenly: "
            f"set lanes={' or '.join(map(str, sorted(nearest)))}"
        )
    return lanes


def epoch_length(config: TrainConfig, sources: list[DataSource], stages: list[Stage], world: World) -> int:
    """Samples in an epoch, 0 if unknown; sets `ShardList.samples` of the lists whose size it learns.

    Raises:
        RequestError: the length is needed and unknown, or too short for one batch.
    """
    shards = [source for source in sources if isinstance(source, ShardList)]
    records = sum(source.samples for source in sources if isinstance(source, Records))
    if config.samples and not stages and shards and config.samples > records:
        shards[0].samples = config.samples - records
    elif not config.samples or (shards and records and not stages):
        for listed in shards:
            listed.samples = count_samples(listed, world)
    for source in sources:
        if not source.samples and (isinstance(source, Records) or not config.samples):
            refuse_unknown_size(source, config, mixed_by_size=bool(shards and records and not stages))
    total = sum(source.samples for source in sources)
    if not all(source.samples for source in shards):
        total = 0
    samples = config.samples or total
    if not shards and not stages:
        samples = min(samples, total)
    if samples < config.batch_size and (samples or not config.steps):
        raise RequestError(
            f"an epoch has {plural(samples, 'sample')}, fewer than one batch of {config.batch_size}: set a smaller "
            "batch_size"
        )
    return samples


def refuse_unknown_size(source: DataSource, config: TrainConfig, mixed_by_size: bool) -> None:
    """Raises RequestError for a source without samples, or whose number of samples must be known and is not."""
    if isinstance(source, Records):
        raise RequestError(f"training data {source.name}: no samples in it")
    if all(map(is_local, source.urls)):
        reason = next((reason for url in source.urls if (reason := unreadable_shard(url))), "")
        raise RequestError(f"training data {source.name}: no samples in it" + (f"; {reason}" if reason else ""))
    if mixed_by_size:
        raise RequestError(f"training data {source.name} has an unknown number of samples: set samples or data_weights")
    if not config.steps:
        raise RequestError(
            f"training data {source.name} is remote and has an unknown number of samples: set samples, or steps"
        )
