"""One run on several ranks: they share the work of every model, or each takes whole models where there are enough."""

import platform
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cosmos_core.errors import RequestError
from cosmos_eval.cache.store import PACKAGES, Store, about_rows, space_name
from cosmos_eval.datasets.base import ImageSource
from cosmos_eval.engine.features import Engine
from cosmos_eval.engine.precision import device_of_rank
from cosmos_eval.engine.ranks import Crew
from cosmos_eval.models import ModelSpec, load_model
from cosmos_eval.profiling import Profile
from cosmos_eval.progress import Advance, Reporter
from cosmos_eval.results.record import Result
from cosmos_eval.run.options import RunOptions
from cosmos_eval.run.plan import Planned

if TYPE_CHECKING:
    from cosmos_eval.run.session import Session

SECONDS = 1.0
"""Between two looks at whether another rank has failed."""
FAILED = "failed"
COMPARED = 16
"""Images that each rank reads before the work on a dataset begins."""
SCORING = (
    "cosmos-eval",
    "numpy",
    "mmcv",
    "mmcv-lite",
    "mmengine",
    "mmsegmentation",
    "opencv-python-headless",
    "opencv-python",
)
"""Packages besides those of towers whose versions may decide a number."""


def measure_models(
    session: "Session", specs: Sequence[str], plan: Sequence[Planned], times: Sequence[Profile | None]
) -> list[list[Result]]:
    """The results of each model on a plan, in order.

    With at least as many models as ranks, each rank takes the next model when it is done with one, and whatever it
    reads, encodes and scores is its own; with fewer, all ranks share the batches of one model after the other. Results
    are the same.

    Args:
        times: what to fill with where the time of each model went; of one process only.

    Raises:
        RequestError: as `Session.measure`.
    """
    crew = session.crew
    if crew.size > 1 and len(specs) >= crew.size:
        session.reporter.note(f"{len(specs)} models on {crew.size} ranks: each rank takes whole models")
        about = (session.settings(), list(specs), list(plan))
        refuse_differences(crew, crew.open(open_session, about))
        found = crew.open(measure_some, about)
        by_model = dict(pair for some in found for pair in some)
        return [by_model[i] for i in range(len(specs))]
    measured = []
    for spec, profile in zip(specs, times, strict=True):
        session.reporter.note(f"{spec} on {len(plan)} benchmark{'s' if len(plan) != 1 else ''}")
        measured.append(session.measure(spec, plan, profile=profile))
    return measured


def versions() -> dict[str, str]:
    """Versions of what decodes, resizes, encodes and scores, by package."""
    found = {"python": platform.python_version()}
    for name in (*PACKAGES, *SCORING):
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def refuse_differences(crew: Crew, by_rank: Sequence[Mapping[str, str]]) -> None:
    """RequestError where ranks have said other values of one thing (a package, the data of a benchmark)."""
    for rank, said in enumerate(by_rank):
        for name, value in by_rank[0].items():
            if said.get(name) != value:
                raise RequestError(
                    f"{crew.name(rank)} has {name} {said.get(name, 'not at all')[:16]} and rank 0 has {value[:16]}: "
                    "results would depend on who makes them; make the machines alike"
                )


def open_engine(crew: Crew, about: tuple[ModelSpec, RunOptions]) -> tuple[Engine, tuple[str, int, dict[str, str]]]:
    """Load a model on this rank: its engine, an id of all that decides the numbers of its rows, its batch size, and the
    versions of packages."""
    crew.here = None  # the model before may go
    spec, options = about
    model = load_model(spec, device=str(device_of_rank(options.device, crew.world)))
    store = Store(options.cache, options.cache_limit) if options.cache is not None and crew.is_main else None
    engine = Engine(model, reporter=crew.reporter, store=store, crew=crew, **options.of_engine())
    return engine, (space_name(about_rows(model, engine.precision, engine.device)), engine.batch_size, versions())


def set_batch_size(crew: Crew, size: int) -> tuple[Engine, None]:
    """Give the engine of this rank another batch size."""
    engine = crew.here
    engine.use_batch_size(size)
    return engine, None


def open_everywhere(crew: Crew, spec: ModelSpec, options: RunOptions) -> Engine:
    """The engine of rank 0, for a model that all ranks have loaded.

    Raises:
        RequestError: a rank cannot load it, or has another one under that name.
    """
    found = crew.open(open_engine, (spec, options))
    refuse_differences(crew, [said for *_, said in found])
    for rank, (numbers, *_) in enumerate(found):
        if numbers != found[0][0]:
            raise RequestError(
                f"{crew.name(rank)} computes other numbers for {spec.text} than rank 0: its weights, the kind of "
                "its device, the precision or the versions of packages differ; make them alike"
            )
    sizes = {size for _, size, _ in found}
    if len(sizes) > 1:  # each has found its own
        crew.open(set_batch_size, min(sizes))
    return crew.here


Order = tuple[tuple[Path | None, RunOptions, bool], list[str], list[Planned]]
"""What ranks that take whole models are given: `Session.settings()`, the specs, and the plan."""


def open_session(crew: Crew, about: Order) -> tuple[Any, dict[str, str]]:
    """Where each rank takes whole models: its session, with all data read, and what must be alike on all ranks."""
    from cosmos_eval.run.session import Session

    (out, options, keep_going), _, plan = about
    crew.here = None  # the model before may go
    options = replace(options, device=str(device_of_rank(options.device, crew.world)))
    session = Session(out, options, Heeding(crew.reporter, crew), keep_going)
    said = versions()
    for planned in plan:
        if not planned.problems:
            said[f"the data of {planned.benchmark.name}"] = session.load(planned).fingerprint
    return session, said


def compare_images(engine: Engine, images: Sequence[ImageSource]) -> None:
    """Have every rank that shares an engine's work read some images, spread over the dataset, before the work begins.

    Every image is compared when it is decoded; these tell of a machine without the data, or with others, at once.

    Raises:
        RequestError: a rank cannot read one, or has another file; names the rank and the image.
    """
    if engine.crew.size == 1 or not images:
        return
    step = max(1, len(images) // COMPARED)
    some = list(images[::step])[:COMPARED]
    for _ in engine.crew.share(read_images, None, [some] * engine.crew.size):
        pass


def read_images(engine: Engine, common: None, pieces: Iterable[Sequence[ImageSource]]) -> Iterator[None]:
    """Read images of each piece: what one rank does."""
    for images in pieces:
        for image in images:
            image.hashed_content()
        yield None


def measure_some(crew: Crew, about: Order) -> tuple[None, list[Any]]:
    """What one rank does where each takes whole models: numbers of those that it took, and their results."""
    from cosmos_eval.run.session import Session

    _, specs, plan = about
    session = crew.here
    crew.here = None
    done = []
    try:
        if not isinstance(session, Session):
            session, _ = open_session(crew, about)
        while not crew.flag(FAILED) and (number := crew.take_number("models")) < len(specs):
            session.reporter.note(f"{specs[number]} (model {number + 1} of {len(specs)})")
            done.append((number, measured_by_name(session, specs[number], plan)))
    except Stopped:
        pass  # whoever failed tells it
    except Exception:
        crew.raise_flag(FAILED)
        raise
    return None, done


def measured_by_name(session: "Session", spec: str, plan: Sequence[Planned]) -> list[Result]:
    """`Session.measure`, whose refusals name the model."""
    try:
        return session.measure(spec, plan)
    except RequestError as error:
        raise error if spec in str(error) else RequestError(f"{spec}: {error}") from error


class Stopped(Exception):
    """Another rank has failed."""


class Heeding:
    """A reporter that ends work, by `Stopped`, once another rank has failed."""

    def __init__(self, inner: Reporter, crew: Crew) -> None:
        self.inner, self.crew = inner, crew
        self.looked = time.monotonic()

    @contextmanager
    def task(self, description: str, total: int, unit: str = "it") -> Iterator[Advance]:
        with self.inner.task(description, total, unit) as advance:

            def heeding(n: int, text: str = "") -> None:
                advance(n, text)
                if time.monotonic() - self.looked >= SECONDS:
                    self.looked = time.monotonic()
                    if self.crew.flag(FAILED):
                        raise Stopped

            yield heeding

    def note(self, line: str) -> None:
        self.inner.note(line)
