"""The plan of a training, as YAML comments: with the configuration above it, it is a file for `cosmos-eval train`."""

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cosmos_core.errors import RequestError
from cosmos_core.printable import plural

if TYPE_CHECKING:
    from cosmos_core.config import TrainConfig
    from cosmos_core.workload import Workload

GIB = 2**30
WIDTH = 120


def plan_lines(config: "TrainConfig", ranks: int) -> list[str]:
    """The plan of a training: length, memory, data and more, a line for each subject.

    Nothing is trained, no model is allocated, and nothing is downloaded; data on disk is checked.

    Raises:
        RequestError: the run could not start: the batch cannot be shared, missing data, or as
            `require_settings`.
    """
    from cosmos_core.workload import Workload

    if config.init:
        from cosmos_eval.training.initial import plan_initial

        config = plan_initial(config)
    work = Workload(config, ranks)
    require_settings(config, ranks)
    require_known_suites(config)
    data = data_plan(config, ranks)
    subjects = {
        "parameters": parameters_line(work),
        "length": length_line(config, (data or {}).get("samples_per_epoch") or config.samples),
        "step": step_line(work),
        "memory": memory_line(work),
        "arithmetic": arithmetic_line(work),
        "data": data_line(data, config),
    }
    indent = " " * 13
    return [
        part
        for subject, line in subjects.items()
        for part in textwrap.wrap(
            line,
            WIDTH,
            initial_indent=f"# {subject + ':':{len(indent)}}",
            subsequent_indent=f"# {indent}",
            break_long_words=False,
            break_on_hyphens=False,
        )
    ]


def require_settings(config: "TrainConfig", ranks: int) -> None:
    """Check all settings that this machine must support, before anything is made or computed.

    Raises:
        RequestError: a missing device, settings that do not go with `fsdp`, a view smaller than a patch of the model, a
            missing package of a logger, or an evaluation during training whose suite is unknown or without data.
    """
    from cosmos_core.fsdp import require_fsdp
    from cosmos_core.logs import log_packages
    from cosmos_core.prepare import check_sizes, device_of
    from cosmos_core.step import amp_dtype
    from cosmos_core.workload import Workload
    from cosmos_core.world import World
    from cosmos_eval.rank_environment import is_main_process

    work = Workload(config)
    device = device_of(config.device)
    if config.fsdp:  # else a plan of 16 bits may be made on a machine that cannot compute in them
        require_fsdp(config, World(0, ranks), device, amp_dtype(config.precision, device))
    check_sizes(work.views.images, work.patch, work.image)
    log_packages(config)
    if config.eval_every and is_main_process():  # only the first rank evaluates
        from cosmos_eval.training.evaluator import plan_of

        plan_of(config)


def require_known_suites(config: "TrainConfig") -> None:
    """RequestError where `eval_suite` has an unknown name, also if `eval_every=0` leaves it unused for now."""
    from cosmos_eval.run.plan import resolve_benchmarks
    from cosmos_eval.training.evaluator import suites_of

    if names := suites_of(config):
        resolve_benchmarks(names)


def parameters_line(work: "Workload") -> str:
    from cosmos_core.sizing import parameter_counts

    counts = parameter_counts(work.model)
    parts = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    objective = f"; the objective has {work.objective_parameters:,} of its own" if work.objective_parameters else ""
    return f"{sum(counts.values()):,} ({parts}); the teacher has as many and no gradients{objective}"


def length_line(config: "TrainConfig", samples: int) -> str:
    from cosmos_core.workload import steps_of

    steps, epoch = steps_of(config, samples)
    if not steps:
        return "unknown until the data is known: set steps, or samples and epochs"
    warmup = (
        f"warm-up {config.warmup:,}" if config.warmup <= steps else f"warm-up {config.warmup:,}, longer than the run"
    )
    length, seen = plural(steps, "step"), f"{plural(steps * config.batch_size, 'sample')} seen"
    if not epoch:
        return f"{length}, {warmup}; {seen}"
    passes = plural(steps // epoch, "epoch") if steps % epoch == 0 else f"{steps / epoch:.2f} epochs"
    remainder = samples - epoch * config.batch_size
    return f"{length}, {warmup}; {passes} of {plural(epoch, 'step')}; {seen}" + (
        f"; {remainder:,} of an epoch's {plural(samples, 'sample')} fill no batch and are left out" if remainder else ""
    )


def step_line(work: "Workload") -> str:
    config = work.config
    views = " + ".join(f"{count} of {size} pixels" for count, size in work.image_views)
    shares = f"{work.local_batch:,} on each of {work.ranks:,} ranks" if work.ranks > 1 else "on one rank"
    parts = f", in {config.accumulate} parts" if config.accumulate > 1 else ""
    return (
        f"{plural(config.batch_size, 'sample')}, {shares}{parts}; image views {views}, "
        f"{plural(work.captions, 'caption')} of {work.context} tokens; objective {config.objective}"
    )


def memory_line(work: "Workload") -> str:
    from cosmos_core.sizing import memory

    uses = memory(work)
    parts = ", ".join(f"{use} {gib(size)}" for use, size in uses.items())
    kind = "16-bit" if work.item == 2 else "float32"
    return f"about {gib(sum(uses.values()))} GiB on each device, {kind} products: {parts}"


def arithmetic_line(work: "Workload") -> str:
    from cosmos_core.sizing import step_flops

    flops = step_flops(work)
    parts = ", ".join(f"{part} {tera(count)}" for part, count in flops.items())
    return f"{tera(sum(flops.values()))} TFLOP on each device in a step: {parts}"


def data_plan(config: "TrainConfig", ranks: int) -> dict[str, Any] | None:
    """Description of the loader of the first rank; None where `data` is not set."""
    if not config.data:
        return None
    from cosmos_core.configs import checked, preset
    from cosmos_core.data import open_loader
    from cosmos_core.tokenizer import build_tokenizer
    from cosmos_core.world import World
    from cosmos_eval.training.callback import records_of

    model = preset(config.model) if isinstance(config.model, str) else checked(config.model)
    views = config.required_views()
    tokenizer = build_tokenizer(model["text_cfg"])
    loader = open_loader(config, views, tokenizer, records_of(config), World(0, ranks))
    try:
        return loader.describe()
    finally:
        loader.close()


def data_line(data: Mapping[str, Any] | None, config: "TrainConfig") -> str:
    if data is None:
        return missing_data(config)
    sources = "; ".join(
        f"{source['source']}: "
        + (f"{plural(source['shards'], 'shard')}, " if source.get("shards") else "")
        + (plural(source["samples"], "sample") if source.get("samples") else "samples not counted")
        + weight_text(source)
        for source in data["sources"]
    )
    workers = data.get("workers_per_rank", 0)
    readers = plural(workers, "worker") if workers else "the training process, without workers"
    return f"{sources}; {plural(data.get('lanes', 0), 'lane')}; each rank reads with {readers}"


def weight_text(source: Mapping[str, Any]) -> str:
    """A source's share of the samples, stage by stage; empty if it is the only source."""
    later = source.get("later_weights", {})
    if source.get("weight", 1) == 1 and not later:
        return ""
    shares = [f"{source['weight']:g}", *(f"{share:g} after {plural(step, 'step')}" for step, share in later.items())]
    return f", weight {', '.join(shares)}"


def missing_data(config: "TrainConfig") -> str:
    """The error of a run without data."""
    return (
        f"no training data: set the shards of {config.name}, as in --set 'data=DIR/{{00000..00331}}.tar' "
        "(several joined by ::; docs/data.md says how to make them)"
    )


def refuse_without_data(config: "TrainConfig") -> None:
    """RequestError where a run has no data."""
    if not config.data:
        raise RequestError(missing_data(config))


def require_shares(config: "TrainConfig", ranks: int) -> None:
    """RequestError where ranks, lanes or the parts of `accumulate` do not divide the batch."""
    from cosmos_core.batch_sharing import share_of_rank, size_of_part
    from cosmos_core.data.open_loader import number_of_lanes
    from cosmos_core.world import World

    size_of_part(share_of_rank(config.batch_size, ranks), config.accumulate)
    number_of_lanes(config, World(0, ranks))


def gib(size: float) -> str:
    return f"{size / GIB:.2f}" if size < 10 * GIB else f"{size / GIB:.1f}"


def tera(count: float) -> str:
    return f"{count / 1e12:.3g}"
