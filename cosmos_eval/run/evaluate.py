"""spec -> dataset -> items -> features -> outcome -> result: the one way that a row of data walks."""

import errno
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from numbers import Integral
from pathlib import Path
from typing import Any

from cosmos_core.errors import RequestError, is_dead_worker_error
from cosmos_core.file_checks import user_path
from cosmos_core.image_files import pixels_at_most
from cosmos_core.run_lock import one_writer
from cosmos_core.short_repr import short_repr
from cosmos_eval import datasets, tasks
from cosmos_eval.cache.store import LIMIT, Store
from cosmos_eval.datasets.data import Data
from cosmos_eval.datasets.decoders import PIL, check_decoder
from cosmos_eval.datasets.resized import read_resized
from cosmos_eval.engine import Engine, resolve_precision
from cosmos_eval.engine.batch_size import AUTO, check_batch_size
from cosmos_eval.engine.precision import device_of_rank, resolve_device
from cosmos_eval.engine.profiles import begin_profile, end_profile
from cosmos_eval.engine.ranks import Crew
from cosmos_eval.engine.truncation import TextsRead
from cosmos_eval.models import load_model
from cosmos_eval.models.base import Model, out_of_memory
from cosmos_eval.models.python import as_model
from cosmos_eval.models.spec import model_kind, parse_spec
from cosmos_eval.profiling import Profile, encoded, of_benchmark, phase, profiled
from cosmos_eval.progress import Reporter, Silent, naming
from cosmos_eval.protocol.benchmark import Benchmark
from cosmos_eval.protocol.parts import protocol_parts
from cosmos_eval.protocol.task_registry import task_info
from cosmos_eval.results.environment import environment
from cosmos_eval.results.record import Result, identity
from cosmos_eval.results.store import finished, write_not_run, write_result, write_samples
from cosmos_eval.run.many_models import compare_images, open_everywhere
from cosmos_eval.run.plan import Planned, make_plan
from cosmos_eval.run.provenance import plugin_of_model, scoring_of
from cosmos_eval.run.result_folders import model_folder, refuse_to_lose, store_folder
from cosmos_eval.tasks.outcome import Outcome


def evaluate(
    model: str | Any,
    benchmarks: Sequence[str | Path | Benchmark] | str | Path | Benchmark,
    data_root: Path | str | None = None,
    *,
    out: Path | str | None = None,
    device: str = "auto",
    precision: str = "auto",
    batch_size: int | str = 64,
    workers: int = 0,
    compile: bool = False,
    decoder: str = PIL,
    resized: Path | str | None = None,
    limit: int | None = None,
    max_image_pixels: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
    skip_missing: bool = False,
    label: str | None = None,
    cache: Path | str | bool = True,
    cache_limit: int = LIMIT,
    profile: Profile | None = None,
    reporter: Reporter | None = None,
) -> list[Result]:
    """Measure one model on benchmarks or suites; what is finished in `out` is read, not measured again.

    Args:
        model: a model spec, what `load_model` returns, or any object that a `python:` factory may return.
        benchmarks: names of benchmarks or suites, paths of YAML definitions, or definitions.
        data_root: the folder that holds the datasets (default: `data`, or a YAML's own folder).
        out: the folder for results; without one nothing is written.
        batch_size: pictures in one forward pass; "auto" finds it on CUDA.
        compile: whether torch.compile makes the image tower; part of the result's precision.
        decoder: of JPEG files: pil, or torchvision or draft, which are part of the result's precision.
        resized: a folder that `cosmos-eval data prepare resized` made; the numbers are those without it.
        limit: measure on this many pictures only; such results are marked and never ranked.
        max_image_pixels: of the largest image that is read (default: `cosmos_core.image_files.MAX_PIXELS`).
        seed: of the resampling behind the intervals.
        label: how tables call the model, instead of its spec.
        cache: the folder that keeps embeddings for later runs; True is `.embeddings` in `out`, if given; False none.
        cache_limit: bytes that all of them may take.
        profile: is filled with where the time went, and written to profile.json in the model's folder of `out`.

    Returns:
        One result for each benchmark that could run, in order.

    Raises:
        RequestError: a bad spec, missing or broken data, or embeddings that are not finite.
    """
    if isinstance(benchmarks, str | Path | Benchmark):
        benchmarks = [benchmarks]
    root = user_path(data_root) if data_root is not None else None
    if not isinstance(model, str):
        model = as_model(model, resolve_device(device), stays=device == "auto")
        if device == "auto":
            device = str(model.device)  # a loaded model stays where it is
    session = Session(
        out=user_path(out) if out is not None else None,
        device=device,
        precision=precision,
        batch_size=batch_size,
        workers=workers,
        compiled=compile,
        decoder=decoder,
        resized=user_path(resized) if resized is not None else None,
        limit=limit,
        seed=seed,
        overwrite=overwrite,
        cache=store_folder(cache, out),
        cache_limit=cache_limit,
        reporter=reporter or Silent(),
    )
    with pixels_at_most(max_image_pixels):
        plan = make_plan(benchmarks, root, skip_missing=skip_missing, reporter=session.reporter)
        return session.measure(model, plan, label=label, profile=profile)


@dataclass
class Session:
    """The settings of one run (as `evaluate` takes them), and the datasets that its models share."""

    out: Path | None
    device: str = "auto"
    precision: str = "auto"
    batch_size: int | str = 64
    workers: int = 0
    compiled: bool = False
    decoder: str = PIL
    resized: Path | None = None
    limit: int | None = None
    seed: int = 0
    overwrite: bool = False
    cache: Path | None = None
    """The store of embeddings; None keeps none."""
    cache_limit: int = LIMIT
    reporter: Reporter = field(default_factory=Silent)
    keep_going: bool = False
    """Whether what cannot be measured is put into `failed`, and does not stop the rest."""
    failed: list[str] = field(default_factory=list, init=False)
    """Model, benchmark and reason of each measurement that failed."""
    crew: Crew = field(default_factory=Crew)
    """The ranks that share the work of models that are given by their specs."""
    _asked_device: str = field(default="", init=False)
    _data: dict[str, Data] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.batch_size = check_batch_size(self.batch_size)
        check_decoder(self.decoder)
        if self.resized is not None:
            read_resized(self.resized)  # what is none is refused before any compute
        for name, value, least, most in (
            ("workers", self.workers, 0, 4096),
            ("limit", 1 if self.limit is None else self.limit, 1, 10**12),
            ("seed", self.seed, 0, 2**63 - 1),
        ):
            if not isinstance(value, Integral) or isinstance(value, bool):
                raise RequestError(f"{name} must be a whole number, got {short_repr(value)}")
            if value < least:
                raise RequestError(f"{name} must be at least {least}, got {short_repr(value)}")
            if value > most:
                raise RequestError(f"{name} must be at most {most:,}, got {short_repr(value)}")
        self._asked_device = self.device
        self.device = str(device_of_rank(self.device, self.crew.world))
        resolve_precision(self.precision, self.device)  # a wrong word stops here; each model's device decides `auto`

    def measure(
        self, model: str | Model, plan: Sequence[Planned], *, label: str | None = None, profile: Profile | None = None
    ) -> list[Result]:
        """One model on every benchmark of a plan; those with problems are recorded as not run."""
        with profiled(profile):
            return self._measure(model, plan, label, profile)

    def _measure(
        self, model: str | Model, plan: Sequence[Planned], label: str | None, profile: Profile | None
    ) -> list[Result]:
        if self.out is not None:  # a folder that cannot be made stops here, before any compute
            self.out.mkdir(parents=True, exist_ok=True)
        try:
            with phase("model"):
                engine = self._engine(model)
        except Exception as error:
            if not self._goes_on_after(error):
                raise
            spec = model if isinstance(model, str) else model.spec
            self._note_failure(f"{label or spec}, every benchmark", error)
            return []
        loaded = engine.model
        if profile is not None:
            begin_profile(profile, engine)
        results = []
        for planned in plan:
            folder = self._folder(loaded, planned.benchmark)
            if planned.problems:
                if folder is not None:
                    write_not_run(folder, label or loaded.spec, planned.benchmark.name, "; ".join(planned.problems))
                self.reporter.note(f"{planned.benchmark.name}: not run: {'; '.join(planned.problems)}")
                continue
            try:
                with of_benchmark(planned.benchmark.name), naming(planned.benchmark.name):
                    results.append(self._measure_one(loaded, engine, planned, folder, label))
            except Exception as error:
                if not self._goes_on_after(error):
                    raise
                reason = self._note_failure(f"{label or loaded.spec}, {planned.benchmark.name}", error)
                if folder is not None:
                    write_not_run(folder, label or loaded.spec, planned.benchmark.name, f"failed: {reason}")
        if profile is not None:
            end_profile(profile, engine, self.out / model_folder(loaded) if self.out is not None else None)
        return results

    def _goes_on_after(self, error: Exception) -> bool:
        """Whether the rest of the run is measured: after what the data, a model or the memory brought, no fault of
        ours and no disk that is full."""
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        theirs = isinstance(error, RequestError | OSError) or out_of_memory(error) or is_dead_worker_error(error)
        return self.keep_going and theirs and not full

    def _note_failure(self, what: str, error: Exception) -> str:
        reason = " ".join(str(error).split()) or type(error).__name__
        self.failed.append(f"{what}: {reason}")
        self.reporter.note(f"failed: {what}: {reason}")
        return reason

    def settings(self) -> dict[str, Any]:
        """What another process makes the same session of."""
        kept = {one.name: getattr(self, one.name) for one in fields(self) if one.init}
        del kept["reporter"], kept["crew"]
        return {**kept, "device": self._asked_device}

    def _engine(self, model: str | Model) -> Engine:
        names = ("batch_size", "workers", "precision", "compiled", "decoder", "resized")
        options: dict[str, Any] = {name: getattr(self, name) for name in names}
        # vectors made elsewhere are read, not encoded: there is nothing to share
        if isinstance(model, str) and self.crew.size > 1 and model_kind(parse_spec(model).kind).encodes:
            about = {"spec": model, "device": self._asked_device, "options": options}
            return open_everywhere(self.crew, {**about, "cache": self.cache, "cache_limit": self.cache_limit})
        loaded = load_model(model, device=self.device) if isinstance(model, str) else model
        store = Store(self.cache, self.cache_limit) if self.cache is not None else None
        return Engine(loaded, reporter=self.reporter, store=store, **options)

    def _measure_one(
        self, model: Model, engine: Engine, planned: Planned, folder: Path | None, label: str | None
    ) -> Result:
        benchmark = planned.benchmark
        with phase("reading"):
            data = self.load(planned)
        windows = task_info(benchmark.task).windows
        precision = engine.precision_of(windows)
        measured_by = scoring_of(benchmark)
        key = identity(
            model.digest,
            benchmark.fingerprint,
            data.fingerprint,
            precision,
            self.limit,
            measured_by.get("scoring_version", 1),
            measured_by.get("plugins"),
        )
        if folder is not None and not self.overwrite:
            done = finished(folder, key)
            if done is not None:
                seed = done.timing.get("seed", self.seed)
                self.reporter.note(
                    f"{benchmark.name}: already done, kept"
                    + (f" (its intervals are of seed {seed}; --overwrite measures again)" if seed != self.seed else "")
                )
                return done
            refuse_to_lose(folder, benchmark, data.fingerprint, precision, self.limit)
        started = datetime.now(UTC)
        clock = time.perf_counter()
        engine.benchmark = benchmark.name
        engine.encoded = dict.fromkeys(engine.encoded, 0)
        engine.drift = None
        engine.texts_read = TextsRead()
        compare_images(engine, data.pictures)
        with phase("scoring"):
            outcome = tasks.run(benchmark, data, engine, seed=self.seed)
        seconds = time.perf_counter() - clock
        encoded(engine.encoded)
        # two runs of other settings may end at once in one OUT: samples and result are of one of them
        with phase("writing"), one_writer(folder) if folder is not None else nullcontext():
            result = self._record(model, engine, benchmark, data, outcome, folder, label, started, seconds)
            if folder is not None:
                write_result(folder, result)
        return result

    def _record(
        self,
        model: Model,
        engine: Engine,
        benchmark: Benchmark,
        data: Data,
        outcome: Outcome,
        folder: Path | None,
        label: str | None,
        started: datetime,
        seconds: float,
    ) -> Result:
        windows = task_info(benchmark.task).windows
        samples: dict[str, Any] = {"file": "samples.parquet", "rows": len(outcome.samples), "sha256": "0" * 64}
        if folder is not None:
            samples = write_samples(folder, outcome.samples)
        return Result(
            benchmark={
                "name": benchmark.name,
                "version": benchmark.version,
                "task": benchmark.task,
                "fingerprint": benchmark.fingerprint,
                **scoring_of(benchmark),
                "parts": protocol_parts(benchmark),
            },
            dataset={
                "fingerprint": data.fingerprint,
                "n": data.counts(),
                "n_expected": dict(benchmark.dataset.get("expected", {})),
            },
            model={
                **model.describe(),
                "spec": model.spec,
                "label": label,
                "digest": model.digest,
                **plugin_of_model(model.spec),
            },
            metrics=outcome.metrics,
            primary=outcome.primary,
            precision=engine.precision_of(windows),
            limit=self.limit,
            environment={**environment(str(engine.device)), **engine.means(windows)},
            timing={
                "seconds": round(seconds, 3),
                "started": started.isoformat(timespec="seconds"),
                "batch_size": engine.batch_size,
                "batch_size_auto": self.batch_size == AUTO,
                "batch_size_used": engine.parts.sizes,
                "workers": self.workers,
                "ranks": engine.crew.size,
                "seed": self.seed,
                "encoded": engine.encoded,
                "texts": engine.texts_read.record(),
            },
            samples=samples,
            warnings=(*outcome.warnings, *data.remarks, *engine.texts_read.warnings()),
        )

    def load(self, planned: Planned) -> Data:
        """The data of a benchmark with their fingerprint, read once a session."""
        name = planned.benchmark.name
        if name not in self._data:
            self._data[name] = datasets.load(
                planned.benchmark, planned.data_root, limit=self.limit, reporter=self.reporter
            )
        return self._data[name]

    def _folder(self, model: Model, benchmark: Benchmark) -> Path | None:
        if self.out is None:
            return None
        return self.out / model_folder(model) / benchmark.name
