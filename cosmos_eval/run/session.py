"""One run: evaluates models on the benchmarks of a plan, one after the other, and keeps what is finished."""

import errno
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cosmos_core.errors import RequestError, is_dead_worker_error
from cosmos_core.files import remove_leftovers
from cosmos_core.memory_errors import is_out_of_memory
from cosmos_core.run_lock import one_writer
from cosmos_eval import datasets, tasks
from cosmos_eval.cache.feature_cache import FeatureCache
from cosmos_eval.datasets.data import Data
from cosmos_eval.datasets.fetch.manifest import fetched_parts
from cosmos_eval.datasets.stream.plan import StreamPlan
from cosmos_eval.engine import Engine
from cosmos_eval.engine.decoding_advice import decoding_note
from cosmos_eval.engine.precision import describe_choice, device_of_rank
from cosmos_eval.engine.profiles import begin_profile, end_profile
from cosmos_eval.engine.rank_group import RankGroup
from cosmos_eval.models import load_model
from cosmos_eval.models.base import Model
from cosmos_eval.models.spec import model_kind, parse_spec
from cosmos_eval.profiling import Profile, phase, profile_benchmark, record_encoded, use_profile
from cosmos_eval.progress import Reporter, Silent, use_benchmark_name
from cosmos_eval.protocol.benchmark import Benchmark
from cosmos_eval.protocol.feature_transforms import FeatureTransforms
from cosmos_eval.protocol.task_registry import task_info
from cosmos_eval.results.record import Result, identity
from cosmos_eval.results.store import RESULT, find_finished, write_not_run, write_result
from cosmos_eval.run.labels import check_label, find_namesake, relabel
from cosmos_eval.run.many_models import compare_images, open_everywhere
from cosmos_eval.run.options import RunOptions
from cosmos_eval.run.plan import PlannedBenchmark
from cosmos_eval.run.provenance import find_scoring_code
from cosmos_eval.run.recording import EvaluationContext, build_result
from cosmos_eval.run.result_folders import describe_repetition, model_folder, read_stored_result, require_replaceable
from cosmos_eval.run.streaming import StreamedDataset


@dataclass
class Session:
    """One run: its options, and the datasets that its models share."""

    out: Path | None
    """The folder for results; None writes nothing."""
    options: RunOptions = field(default_factory=RunOptions)
    reporter: Reporter = field(default_factory=Silent)
    keep_going: bool = False
    """Whether a model or benchmark that fails is added to `failed`, and the run goes on."""
    ranks: RankGroup = field(default_factory=RankGroup)
    """The ranks that share the work of models given by their specs."""
    failed: list[str] = field(default_factory=list, init=False)
    """Model, benchmark and reason of each failure."""
    device: str = field(default="", init=False)
    """The device of this rank."""
    _data_by_benchmark: dict[str, Data] = field(default_factory=dict, init=False)
    _streams: dict[str, StreamedDataset] = field(default_factory=dict, init=False)
    """Of benchmarks whose data are streamed."""

    def __post_init__(self) -> None:
        self.device = str(device_of_rank(self.options.device, self.ranks.world))
        # Raises for a precision that cannot be used, before any data is read.
        note = describe_choice(self.options.device, self.device, self.options.precision)
        if note and self.ranks.is_main:
            self.reporter.note(note)

    def evaluate_model(
        self,
        model: str | Model,
        plan: Sequence[PlannedBenchmark],
        *,
        label: str | None = None,
        profile: Profile | None = None,
    ) -> list[Result]:
        """Evaluate one model on every benchmark of a plan.

        Benchmarks with problems are recorded as not run. Finished results in `out` are read, not computed again.

        Args:
            model: a spec, or a loaded model.
            label: the model's name in tables (default: its spec, or the label of finished results). Finished results
                get it, too.
            profile: is filled with the time spent in each phase, and written into the model's folder.

        Returns:
            One result for each benchmark that could run, in the order of the plan.

        Raises:
            RequestError: the model, data or an option cannot be used; with `keep_going`, added to `failed` instead.
        """
        if label is not None:
            check_label(label)
        if not self.keep_going:
            for planned in plan:
                if not planned.problems:
                    self._transforms_of(planned.benchmark)  # raises before anything is computed
        with use_profile(profile):
            return self._evaluate_model(model, plan, label, profile)

    def _evaluate_model(
        self, model: str | Model, plan: Sequence[PlannedBenchmark], label: str | None, profile: Profile | None
    ) -> list[Result]:
        if self.out is not None:
            self.out.mkdir(parents=True, exist_ok=True)  # raises if it cannot be made, before any compute
            remove_leftovers(self.out)  # shards that a killed run was streaming
        try:
            with phase("model"):
                engine = self._open_engine(model)
        except Exception as error:
            if not self._can_continue_after(error):
                raise
            spec = model if isinstance(model, str) else model.spec
            self._record_failure(f"{label or spec}, every benchmark", error)
            return []
        loaded_model = engine.model
        model_name = label or loaded_model.spec
        if label is not None:
            self._note_namesake(label, loaded_model)
        if profile is not None:
            begin_profile(profile, engine)
        results = []
        for planned in plan:
            folder = self._result_folder(loaded_model, planned.benchmark)
            if planned.problems:
                problems = "; ".join(planned.problems)
                if folder is not None:
                    write_not_run(folder, model_name, self._name_in_tables(planned.benchmark), problems)
                self.reporter.note(f"{planned.benchmark.name}: not run: {problems}")
                continue
            try:
                with profile_benchmark(planned.benchmark.name), use_benchmark_name(planned.benchmark.name):
                    results.append(self._evaluate_benchmark(loaded_model, engine, planned, folder, label))
            except Exception as error:
                if not self._can_continue_after(error):
                    raise
                reason = self._record_failure(f"{model_name}, {planned.benchmark.name}", error)
                if folder is not None:
                    write_not_run(folder, model_name, self._name_in_tables(planned.benchmark), f"failed: {reason}")
        if profile is not None:
            end_profile(profile, engine, self.out / model_folder(loaded_model) if self.out is not None else None)
        return results

    def _can_continue_after(self, error: Exception) -> bool:
        """Whether the run goes on after an error.

        With `keep_going` it does after errors of data, of a model or of memory. A bug would fail again, and on a full
        disk nothing more can be written.
        """
        is_disk_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        is_bug = not (
            isinstance(error, RequestError | OSError) or is_out_of_memory(error) or is_dead_worker_error(error)
        )
        return self.keep_going and not is_bug and not is_disk_full

    def _record_failure(self, model_and_benchmark: str, error: Exception) -> str:
        """Add a failure to `failed`; returns its reason in one line."""
        reason = " ".join(str(error).split()) or type(error).__name__
        self.failed.append(f"{model_and_benchmark}: {reason}")
        self.reporter.note(f"failed: {model_and_benchmark}: {reason}")
        return reason

    def settings(self) -> tuple[Path | None, RunOptions, bool]:
        """What another process needs to make an equal session: `out`, `options` and `keep_going`."""
        return self.out, self.options, self.keep_going

    def _open_engine(self, model: str | Model) -> Engine:
        """Load a model, on all ranks if they can share its work."""
        if not isinstance(model, str):
            return self._engine_for(model)
        spec = parse_spec(model)
        # Models of stored embeddings (`embeddings:`) encode nothing, so there is no work to share.
        if self.ranks.size > 1 and model_kind(spec.kind).encodes:
            return open_everywhere(self.ranks, spec, self.options)
        return self._engine_for(load_model(spec, device=self.device))

    def _engine_for(self, model: Model) -> Engine:
        cache = self.options.cache
        feature_cache = FeatureCache(cache, self.options.cache_limit) if cache is not None else None
        return Engine(model, reporter=self.reporter, cache=feature_cache, **self.options.engine_arguments())

    def _evaluate_benchmark(
        self, model: Model, engine: Engine, planned: PlannedBenchmark, folder: Path | None, label: str | None
    ) -> Result:
        """The result of a model on one benchmark: the stored one if it is finished, else a new one."""
        try:
            return self._find_or_measure(model, engine, planned, folder, label)
        finally:
            engine.cached_images.release()

    def _find_or_measure(
        self, model: Model, engine: Engine, planned: PlannedBenchmark, folder: Path | None, label: str | None
    ) -> Result:
        benchmark = planned.benchmark
        started = datetime.now(UTC)
        start_seconds = time.perf_counter()
        engine.start_benchmark(benchmark.name, self._transforms_of(benchmark))
        with phase("reading"):
            data = self.load_data(planned, engine)
        scoring = find_scoring_code(benchmark)
        precision = engine.precision_of(task_info(benchmark.task).windows)
        if folder is not None and not self.options.overwrite:
            key = identity(
                model.digest,
                benchmark.fingerprint,
                data.fingerprint,
                precision,
                self.options.limit,
                scoring.scoring_version,
                scoring.plugins,
                self.options.transforms,
            )
            finished = find_finished(folder, key)
            if finished is not None:
                label_note = ""
                if label is not None and finished.model.label != label:
                    finished, words = relabel(finished, folder, label)
                    label_note = f" ({words})"
                self.reporter.note(f"{benchmark.name}: already done, kept{label_note}{self._seed_note(finished)}")
                return finished
            stored = read_stored_result(folder)
            if stored is not None:
                limit = self.options.limit
                require_replaceable(stored, folder / RESULT, benchmark, data.fingerprint, precision, limit)
                if reason := describe_repetition(stored, scoring, model.digest):
                    self.reporter.note(f"{benchmark.name}: measured again: {reason}")

        stream = self._streams.get(benchmark.name)
        if stream is not None:
            stream.encode(engine)
        else:
            started = datetime.now(UTC)
            start_seconds = time.perf_counter()
            compare_images(engine, data.images)
        with phase("scoring"):
            outcome = tasks.run(benchmark, data, engine, seed=self.options.seed)
        name_on_disk = benchmark.name if stream is None and benchmark.data is None else ""
        if note := decoding_note(engine, name_on_disk, data.images, task_info(benchmark.task).windows):
            self.reporter.note(f"{benchmark.name}: {note}")
        seconds = time.perf_counter() - start_seconds
        record_encoded(engine.encoded)
        fetched = self._fetched_parts(planned) if stream is None else stream.fetched
        context = EvaluationContext(label, self.options, scoring, started, seconds, fetched)
        # Two runs with one `out` may finish at the same time: samples and result in a folder must be of one of them.
        with phase("writing"), one_writer(folder) if folder is not None else nullcontext():
            result = build_result(benchmark, data, engine, outcome, context, folder)
            if folder is not None:
                write_result(folder, result)
        return result

    def _transforms_of(self, benchmark: Benchmark) -> FeatureTransforms:
        """What is done to the embeddings of a benchmark: by its definition, or by the options of the run.

        Raises:
            RequestError: an option is not defined for its task, or both the definition and the run have options.
        """
        of_run, of_definition = self.options.transforms, benchmark.transforms
        of_run.require_defined_for(benchmark.name, benchmark.task, task_info(benchmark.task).transforms)
        if of_run and of_definition:
            raise RequestError(
                f"{benchmark.name}: its definition transforms embeddings ({of_definition.title}); run it without "
                f"{of_run.arguments}"
            )
        return of_run or of_definition

    def _fetched_parts(self, planned: PlannedBenchmark) -> dict[str, Any]:
        """Where the data were fetched. A damaged manifest loses the provenance, not the measurement."""
        if planned.benchmark.data is not None:
            return {}
        try:
            return fetched_parts(planned.benchmark, planned.data_root)
        except RequestError as error:
            self.reporter.note(f"{planned.benchmark.name}: the result does not say where its data came from: {error}")
            return {}

    def _note_namesake(self, label: str, model: Model) -> None:
        """A note if another model has the same label; the digests distinguish them."""
        namesake = find_namesake(self.out, label, model_folder(model)) if self.out is not None else None
        if namesake is not None:
            self.reporter.note(
                f"{label} is also the label of another model, in {namesake}: tables add the start of the digest to both"
            )

    def _seed_note(self, finished: Result) -> str:
        """A note if the intervals of a finished result come from another seed; the seed is not part of its identity."""
        seed = finished.timing.seed
        if seed is None or seed == self.options.seed:  # older results do not record it
            return ""
        return f" (its intervals are of seed {seed}; --overwrite measures again)"

    def load_data(self, planned: PlannedBenchmark, engine: Engine | None = None) -> Data:
        """The data of a benchmark with its fingerprint; loaded once per session.

        Args:
            engine: encodes images of data that are streamed, while they are on disk.
        """
        name = planned.benchmark.name
        if planned.stream is not None:
            assert engine is not None
            return self._stream(planned, planned.stream).load(engine)
        if name not in self._data_by_benchmark:
            self._data_by_benchmark[name] = datasets.load(
                planned.benchmark, planned.data_root, limit=self.options.limit, reporter=self.reporter
            )
        return self._data_by_benchmark[name]

    def _stream(self, planned: PlannedBenchmark, plan: StreamPlan) -> StreamedDataset:
        name = planned.benchmark.name
        if name not in self._streams:
            self.reporter.note(f"{name}: streamed from {plan.describe()}")
            self._streams[name] = StreamedDataset(
                planned.benchmark,
                plan,
                limit=self.options.limit,
                cache=self.options.cache,
                folder=self.out,
                reporter=self.reporter,
            )
        return self._streams[name]

    def _name_in_tables(self, benchmark: Benchmark) -> str:
        return self.options.transforms.name_of(benchmark.name)

    def _result_folder(self, model: Model, benchmark: Benchmark) -> Path | None:
        if self.out is None:
            return None
        return self.out / model_folder(model) / f"{benchmark.name}{self.options.transforms.folder_suffix}"
