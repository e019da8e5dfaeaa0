"""From the configuration of a run to the loader of its data."""

from collections.abc import Iterable, Sequence

from cosmos_core.config import TrainConfig
from cosmos_core.data.iterable import IterableLoader
from cosmos_core.data.lanes import Plan
from cosmos_core.data.loader import LaneLoader, Loader
from cosmos_core.data.samples import Sample, SampleViews, Tokenizer
from cosmos_core.data.shards import is_local
from cosmos_core.data.sources import Records, ShardList, Source, count_samples, fault_of, find_sources
from cosmos_core.errors import RequestError
from cosmos_core.objectives.base import Views
from cosmos_core.text_crop import TextCrop
from cosmos_core.world import World

MOST_LANES = 16
"""Where the configuration says nothing."""


def open_loader(
    config: TrainConfig,
    views: Views,
    tokenizer: Tokenizer,
    data: Sequence[Sample] | Iterable[Sample] | None = None,
    world: World | None = None,
) -> Loader:
    """The data of a run, for one rank of it.

    Args:
        views: what to make of a sample.
        tokenizer: texts -> (B, L) ids.
        data: samples; None reads what `config.data` names, and so does `toybox` in it for the rest of the sources.

    Raises:
        RequestError: no data, sources that are not understood, an epoch shorter than a batch or of unknown length, or a
            batch that does not divide among lanes and ranks.
    """
    world = world or World()
    make = SampleViews(views.images, TextCrop(views.captions, config.caption_mode), config.seed, views.kept_captions)
    if data is not None and not isinstance(data, Sequence):
        if world.size > 1:
            raise RequestError("a plain iterable cannot be shared by ranks: hand train a Sequence, or set data=SHARDS")
        return IterableLoader(config, data, make, tokenizer)
    lanes = lanes_of(config, world)
    sources, weights = find_sources(config, data)
    samples = epoch_length(config, sources, weights, world)
    plan = Plan(
        sources=sources,
        weights=weights or [float(max(1, source.samples)) for source in sources],
        seed=config.seed,
        lanes=lanes,
        block=config.shuffle,
        quota=samples // config.batch_size * (config.batch_size // lanes),
        views=make,
        tokenizer=tokenizer,
    )
    return LaneLoader(config, plan, samples, world)


def lanes_of(config: TrainConfig, world: World) -> int:
    """How many lanes the run has.

    Raises:
        RequestError: the batch does not divide among them, or they do not divide among the ranks.
    """
    size = config.batch_size
    if size % world.size:
        raise RequestError(
            f"batch_size={size} does not divide among {world.size} ranks: set {size - size % world.size or world.size} "
            f"or {size + world.size - size % world.size}"
        )
    lanes = config.lanes or max(n for n in range(1, MOST_LANES + 1) if size % n == 0)
    fitting = [n for n in range(world.size, size + 1, world.size) if size % n == 0]
    if lanes not in fitting:
        near = sorted(fitting, key=lambda n: abs(n - lanes))[:3]
        raise RequestError(
            f"{lanes} lanes do not divide batch_size={size} and {world.size} rank{'s' * (world.size > 1)} evenly: "
            f"set lanes={' or '.join(map(str, sorted(near)))}"
        )
    return lanes


def epoch_length(config: TrainConfig, sources: list[Source], weights: list[float], world: World) -> int:
    """Samples in an epoch, 0 where nothing says how many; fills in the sizes of shard lists that it learns.

    Raises:
        RequestError: the length is needed and not to be had, or too short for one batch.
    """
    shards = [source for source in sources if isinstance(source, ShardList)]
    records = sum(source.samples for source in sources if isinstance(source, Records))
    if config.samples and not weights and shards and config.samples > records:
        shards[0].samples = config.samples - records
    elif not config.samples or (shards and records and not weights):
        for listed in shards:
            listed.samples = count_samples(listed, world)
    for source in sources:
        if not source.samples and (isinstance(source, Records) or not config.samples):
            refuse_unknown(source, config, mixed_by_size=bool(shards and records and not weights))
    total = sum(source.samples for source in sources)
    if not all(source.samples for source in shards):
        total = 0
    samples = config.samples or total
    if not shards and not weights:
        samples = min(samples, total)
    if samples < config.batch_size and (samples or not config.steps):
        raise RequestError(
            f"an epoch has {samples} samples, fewer than one batch of {config.batch_size}: set a smaller batch_size"
        )
    return samples


def refuse_unknown(source: Source, config: TrainConfig, mixed_by_size: bool) -> None:
    """RequestError for a source without samples, or with a number of them that must be known and is not."""
    if isinstance(source, Records):
        raise RequestError(f"training data {source.name}: no samples in it")
    if all(map(is_local, source.urls)):
        reason = next((reason for url in source.urls if (reason := fault_of(url))), "")
        raise RequestError(f"training data {source.name}: no samples in it" + (f"; {reason}" if reason else ""))
    if mixed_by_size:
        raise RequestError(f"training data {source.name} has an unknown number of samples: set samples or data_weights")
    if not config.steps:
        raise RequestError(
            f"training data {source.name} is remote and has an unknown number of samples: set samples, or steps"
        )
