"""A run on several ranks (processes started by torchrun): who evaluates which model.

With at least as many models as ranks, each rank evaluates whole models, the next one whenever it has finished one. With
fewer models, or data that are streamed, all ranks share the batches of one model after the other. The results are the
same.

The functions that a `RankGroup` calls on other ranks (`open_engine`, `open_session`, ...) are module-level functions,
so that another process finds them by name.
"""

import platform
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cosmos_core.errors import RequestError
from cosmos_eval.cache.feature_cache import PACKAGES, FeatureCache, model_cache_info, model_cache_name
from cosmos_eval.datasets.image_sources import ImageSource
from cosmos_eval.engine.engine import Engine
from cosmos_eval.engine.precision import device_of_rank
from cosmos_eval.engine.rank_group import RankGroup
from cosmos_eval.models import ModelSpec, load_model
from cosmos_eval.profiling import Profile
from cosmos_eval.progress import Advance, Reporter
from cosmos_eval.results.record import Result
from cosmos_eval.run.options import RunOptions
from cosmos_eval.run.plan import PlannedBenchmark

if TYPE_CHECKING:
    from cosmos_eval.run.session import Session

FAILED = "failed"
"""Flag that a rank raises when it fails, where each rank evaluates whole models."""
FLAG_SECONDS = 1.0
"""Seconds between two checks of that flag."""
COMPARED_IMAGES = 16
"""Images that each rank reads before the work on a dataset begins."""
SCORING_PACKAGES = (
    "cosmos-eval",
    "numpy",
    "mmcv",
    "mmcv-lite",
    "mmengine",
    "mmsegmentation",
    "opencv-python-headless",
    "opencv-python",
)
"""Packages that may influence a metric, besides those that influence features
(`cosmos_eval.cache.feature_cache.PACKAGES`)."""

SessionSettings = tuple[tuple[Path | None, RunOptions, bool], list[str], list[PlannedBenchmark], dict[str, str]]
"""What a rank that evaluates whole models needs: `Session.settings()`, the model specs, the plan, and the labels."""


def evaluate_models(
    session: "Session",
    specs: Sequence[str],
    plan: Sequence[PlannedBenchmark],
    times: Sequence[Profile | None],
    labels: Mapping[str, str] | None = None,
) -> list[list[Result]]:
    """Evaluate models on a plan, on all ranks of the session.

    Args:
        times: for each model, a profile to be filled; only with one process.
        labels: spec -> the model's name in tables.

    Returns:
        The results of each model, in the order of `specs`.

    Raises:
        RequestError: as `Session.evaluate_model`; or ranks differ in what decides the numbers.
    """
    ranks = session.ranks
    labels = dict(labels or {})
    # Only rank 0 downloads: data that are streamed are never on every rank.
    is_streamed = any(planned.stream is not None for planned in plan)
    if ranks.size > 1 and len(specs) >= ranks.size and not is_streamed:
        session.reporter.note(f"{len(specs)} models on {ranks.size} ranks: each rank takes whole models")
        settings = (session.settings(), list(specs), list(plan), labels)
        require_equal_on_all_ranks(ranks, ranks.run_on_all(open_session, settings))
        results_by_model: dict[int, list[Result]] = {}
        for results_of_rank in ranks.run_on_all(evaluate_remaining_models, settings):
            results_by_model.update(results_of_rank)
        return [results_by_model[i] for i in range(len(specs))]
    results = []
    for spec, profile in zip(specs, times, strict=True):
        session.reporter.note(f"{spec} on {len(plan)} benchmark{'s' if len(plan) != 1 else ''}")
        results.append(session.evaluate_model(spec, plan, label=labels.get(spec), profile=profile))
    return results


def package_versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that decode, resize, encode and score."""
    versions = {"python": platform.python_version()}
    for name in (*PACKAGES, *SCORING_PACKAGES):
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def require_equal_on_all_ranks(ranks: RankGroup, values_by_rank: Sequence[Mapping[str, str]]) -> None:
    """Check that all ranks have the values of rank 0.

    Args:
        values_by_rank: for each rank: name of a package, or "the data of BENCHMARK" -> version or fingerprint.

    Raises:
        RequestError: names the first rank and value that differ.
    """
    expected = values_by_rank[0]
    for rank, values in enumerate(values_by_rank):
        for name, value in expected.items():
            if values.get(name) != value:
                raise RequestError(
                    f"{ranks.name(rank)} has {name} {values.get(name, 'not at all')[:16]} and rank 0 has {value[:16]}: "
                    "results would depend on which rank computes them; install the same on all machines"
                )


# Ranks that share the batches of one model


def open_engine(
    ranks: RankGroup, inputs: tuple[ModelSpec, RunOptions]
) -> tuple[Engine, tuple[str, int, dict[str, str]]]:
    """Load a model on this rank.

    Returns:
        Its engine, which stays on this rank, and for rank 0: an id of everything that decides the features, the batch
        size, and the package versions.
    """
    ranks.local_state = None  # frees the previous model
    spec, options = inputs
    model = load_model(spec, device=str(device_of_rank(options.device, ranks.world)))
    feature_cache = (
        FeatureCache(options.cache, options.cache_limit) if options.cache is not None and ranks.is_main else None
    )
    engine = Engine(model, reporter=ranks.reporter, cache=feature_cache, ranks=ranks, **options.engine_arguments())
    feature_id = model_cache_name(model_cache_info(model, engine.precision, engine.device))
    return engine, (feature_id, engine.batch_size, package_versions())


def set_batch_size(ranks: RankGroup, batch_size: int) -> tuple[Engine, None]:
    """Change the batch size of this rank's engine."""
    engine = ranks.local_state
    engine.use_batch_size(batch_size)
    return engine, None


def open_everywhere(ranks: RankGroup, spec: ModelSpec, options: RunOptions) -> Engine:
    """Load a model on all ranks; returns the engine of rank 0.

    Raises:
        RequestError: a rank cannot load it, or would compute other features.
    """
    opened = ranks.run_on_all(open_engine, (spec, options))
    require_equal_on_all_ranks(ranks, [versions for _, _, versions in opened])
    expected_id = opened[0][0]
    for rank, (feature_id, _, _) in enumerate(opened):
        if feature_id != expected_id:
            raise RequestError(
                f"{ranks.name(rank)} computes other features of {spec.text} than rank 0: its weights, the kind of its "
                "device, the precision or the package versions differ; use the same on all ranks"
            )
    batch_sizes = {batch_size for _, batch_size, _ in opened}
    if len(batch_sizes) > 1:  # --batch-size auto has found different ones
        ranks.run_on_all(set_batch_size, min(batch_sizes))
    return ranks.local_state


def compare_images(engine: Engine, images: Sequence[ImageSource]) -> None:
    """Let every rank that shares an engine's work read some images, spread over the dataset, before the work begins.

    Every image is also compared when it is decoded. Reading a few first finds a machine without the data, or with other
    data, at once and not after hours.

    Raises:
        RequestError: a rank cannot read an image, or has another file; names the rank and the image.
    """
    if engine.ranks.size == 1 or not images:
        return
    step = max(1, len(images) // COMPARED_IMAGES)
    sample = list(images[::step])[:COMPARED_IMAGES]
    for _ in engine.ranks.distribute(read_images, None, [sample] * engine.ranks.size):
        pass


def read_images(engine: Engine, shared: None, batches: Iterable[Sequence[ImageSource]]) -> Iterator[None]:
    """Read images of each batch: the work of one rank in `compare_images`."""
    for images in batches:
        for image in images:
            image.verified_content()
        yield None


# Ranks that evaluate whole models


def open_session(ranks: RankGroup, settings: SessionSettings) -> tuple[Any, dict[str, str]]:
    """Make a session on this rank and load all data.

    Returns:
        The session, which stays on this rank, and for rank 0 the values that must be equal on all ranks: package
        versions and fingerprints of the data.
    """
    from cosmos_eval.run.session import Session

    (out, options, keep_going), _, plan, _ = settings
    ranks.local_state = None  # frees the previous model
    options = replace(options, device=str(device_of_rank(options.device, ranks.world)))
    session = Session(out, options, FailureWatchingReporter(ranks.reporter, ranks), keep_going)
    values = package_versions()
    for planned in plan:
        if not planned.problems:
            values[f"the data of {planned.benchmark.name}"] = session.load_data(planned).fingerprint
    return session, values


def evaluate_remaining_models(ranks: RankGroup, settings: SessionSettings) -> tuple[None, list[Any]]:
    """Evaluate models on this rank until none is left, or another rank has failed.

    Returns:
        None, since nothing stays on this rank, and for rank 0 the (number, results) of each model evaluated here.
    """
    from cosmos_eval.run.session import Session

    _, specs, plan, labels = settings
    session = ranks.local_state
    ranks.local_state = None
    finished = []
    try:
        if not isinstance(session, Session):
            session, _ = open_session(ranks, settings)
        while not ranks.is_flag_set(FAILED) and (number := ranks.next_number("models")) < len(specs):
            spec = specs[number]
            session.reporter.note(f"{spec} (model {number + 1} of {len(specs)})")
            finished.append((number, evaluate_named_model(session, spec, plan, labels.get(spec))))
    except OtherRankFailed:
        pass  # that rank reports its own error
    except Exception:
        ranks.set_flag(FAILED)
        raise
    return None, finished


def evaluate_named_model(
    session: "Session", spec: str, plan: Sequence[PlannedBenchmark], label: str | None
) -> list[Result]:
    """As `Session.evaluate_model`, with the model's spec in error messages."""
    try:
        return session.evaluate_model(spec, plan, label=label)
    except RequestError as error:
        raise error if spec in str(error) else RequestError(f"{spec}: {error}") from error


class OtherRankFailed(Exception):
    """Another rank has failed."""


class FailureWatchingReporter:
    """A reporter that raises `OtherRankFailed` once another rank has failed: progress is reported often, so the work
    ends soon."""

    def __init__(self, inner: Reporter, ranks: RankGroup) -> None:
        self.inner, self.ranks = inner, ranks
        self.last_check = time.monotonic()

    @contextmanager
    def task(self, description: str, total: int, unit: str = "it") -> Iterator[Advance]:
        with self.inner.task(description, total, unit) as advance_inner:

            def advance(n: int, text: str = "") -> None:
                advance_inner(n, text)
                if time.monotonic() - self.last_check >= FLAG_SECONDS:
                    self.last_check = time.monotonic()
                    if self.ranks.is_flag_set(FAILED):
                        raise OtherRankFailed

            yield advance

    def note(self, line: str) -> None:
        self.inner.note(line)
