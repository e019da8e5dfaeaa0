"""One run: models on benchmarks, one after the other; what is finished is kept."""

import errno
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cosmos_core.errors import RequestError, is_dead_worker_error
from cosmos_core.run_lock import one_writer
from cosmos_eval import datasets, tasks
from cosmos_eval.cache.store import Store
from cosmos_eval.datasets.data import Data
from cosmos_eval.engine import Engine, resolve_precision
from cosmos_eval.engine.precision import device_of_rank
from cosmos_eval.engine.profiles import begin_profile, end_profile
from cosmos_eval.engine.ranks import Crew
from cosmos_eval.models import load_model
from cosmos_eval.models.base import Model, out_of_memory
from cosmos_eval.models.spec import model_kind, parse_spec
from cosmos_eval.profiling import Profile, encoded, of_benchmark, phase, profiled
from cosmos_eval.progress import Reporter, Silent, naming
from cosmos_eval.protocol.benchmark import Benchmark
from cosmos_eval.protocol.task_registry import task_info
from cosmos_eval.results.record import Result, identity
from cosmos_eval.results.store import RESULT, find_finished, write_not_run, write_result
from cosmos_eval.run.many_models import compare_images, open_everywhere
from cosmos_eval.run.options import RunOptions
from cosmos_eval.run.plan import Planned
from cosmos_eval.run.provenance import scoring_of
from cosmos_eval.run.recording import About, record
from cosmos_eval.run.result_folders import model_folder, refuse_to_lose, stored_result, why_again


@dataclass
class Session:
    """One run: its options, and the datasets that its models share."""

    out: Path | None
    """The folder for results; without one nothing is written."""
    options: RunOptions = field(default_factory=RunOptions)
    reporter: Reporter = field(default_factory=Silent)
    keep_going: bool = False
    """Whether what cannot be measured is put into `failed`, and does not stop the rest."""
    crew: Crew = field(default_factory=Crew)
    """The ranks that share the work of models that are given by their specs."""
    failed: list[str] = field(default_factory=list, init=False)
    """Model, benchmark and reason of each measurement that failed."""
    device: str = field(default="", init=False)
    """Of this rank."""
    _data: dict[str, Data] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.device = str(device_of_rank(self.options.device, self.crew.world))
        # a wrong word stops here; each model's own device decides what `auto` comes to
        resolve_precision(self.options.precision, self.device)

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

    def settings(self) -> tuple[Path | None, RunOptions, bool]:
        """What another process makes the same session of: `out`, `options` and `keep_going`."""
        return self.out, self.options, self.keep_going

    def _engine(self, model: str | Model) -> Engine:
        if not isinstance(model, str):
            return self._engine_of(model)
        spec = parse_spec(model)
        # vectors made elsewhere are read, not encoded: there is nothing to share
        if self.crew.size > 1 and model_kind(spec.kind).encodes:
            return open_everywhere(self.crew, spec, self.options)
        return self._engine_of(load_model(spec, device=self.device))

    def _engine_of(self, model: Model) -> Engine:
        cache = self.options.cache
        store = Store(cache, self.options.cache_limit) if cache is not None else None
        return Engine(model, reporter=self.reporter, store=store, **self.options.of_engine())

    def _measure_one(
        self, model: Model, engine: Engine, planned: Planned, folder: Path | None, label: str | None
    ) -> Result:
        benchmark = planned.benchmark
        with phase("reading"):
            data = self.load(planned)
        windows = task_info(benchmark.task).windows
        precision = engine.precision_of(windows)
        scoring = scoring_of(benchmark)
        key = identity(
            model.digest,
            benchmark.fingerprint,
            data.fingerprint,
            precision,
            self.options.limit,
            scoring.get("scoring_version", 1),
            scoring.get("plugins"),
        )
        if folder is not None and not self.options.overwrite:
            done = find_finished(folder, key)
            if done is not None:
                seed, asked = done.timing.get("seed", self.options.seed), self.options.seed
                other = f" (its intervals are of seed {seed}; --overwrite measures again)" if seed != asked else ""
                self.reporter.note(f"{benchmark.name}: already done, kept{other}")
                return done
            there = stored_result(folder)
            if there is not None:
                path = folder / RESULT
                refuse_to_lose(there, path, benchmark, data.fingerprint, precision, self.options.limit)
                if why := why_again(there, scoring, model.digest):
                    self.reporter.note(f"{benchmark.name}: measured again: {why}")
        started = datetime.now(UTC)
        clock = time.perf_counter()
        engine.begin(benchmark.name)
        compare_images(engine, data.images)
        with phase("scoring"):
            outcome = tasks.run(benchmark, data, engine, seed=self.options.seed)
        seconds = time.perf_counter() - clock
        encoded(engine.encoded)
        # two runs of other settings may end at once in one OUT: samples and result are of one of them
        with phase("writing"), one_writer(folder) if folder is not None else nullcontext():
            about = About(label, self.options, scoring, started, seconds)
            result = record(benchmark, data, engine, outcome, about, folder)
            if folder is not None:
                write_result(folder, result)
        return result

    def load(self, planned: Planned) -> Data:
        """The data of a benchmark with their fingerprint, read once a session."""
        name = planned.benchmark.name
        if name not in self._data:
            self._data[name] = datasets.load(
                planned.benchmark, planned.data_root, limit=self.options.limit, reporter=self.reporter
            )
        return self._data[name]

    def _folder(self, model: Model, benchmark: Benchmark) -> Path | None:
        if self.out is None:
            return None
        return self.out / model_folder(model) / benchmark.name
