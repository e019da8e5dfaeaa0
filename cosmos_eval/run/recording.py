"""The record of one measurement: an outcome, and everything needed to know what it means."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cosmos_eval.datasets.data import Data
from cosmos_eval.engine import Engine
from cosmos_eval.engine.batch_size import AUTO
from cosmos_eval.protocol.benchmark import Benchmark
from cosmos_eval.protocol.parts import protocol_parts
from cosmos_eval.protocol.task_registry import task_info
from cosmos_eval.results.environment import environment
from cosmos_eval.results.record import Result
from cosmos_eval.results.sections import (
    BenchmarkSection,
    DatasetSection,
    EnvironmentSection,
    ModelSection,
    SamplesSection,
    TextsSection,
    TimingSection,
)
from cosmos_eval.results.store import write_samples
from cosmos_eval.run.options import RunOptions
from cosmos_eval.run.provenance import plugin_of_model, scoring_of
from cosmos_eval.tasks.outcome import Outcome


@dataclass(frozen=True)
class About:
    """How a measurement was made."""

    label: str | None
    """How tables call the model, instead of its spec."""
    options: RunOptions
    started: datetime
    seconds: float


def record(
    benchmark: Benchmark, data: Data, engine: Engine, outcome: Outcome, about: About, folder: Path | None
) -> Result:
    """The result of one model on one benchmark; its samples are written to `folder`, where there is one."""
    model = engine.model
    windows = task_info(benchmark.task).windows
    scoring = scoring_of(benchmark)
    samples = SamplesSection("samples.parquet", len(outcome.samples), "0" * 64)
    if folder is not None:
        samples = write_samples(folder, outcome.samples)
    return Result(
        benchmark=BenchmarkSection(
            name=benchmark.name,
            version=benchmark.version,
            task=benchmark.task,
            fingerprint=benchmark.fingerprint,
            scoring_version=scoring.scoring_version,
            plugins=scoring.plugins,
            parts=protocol_parts(benchmark),
        ),
        dataset=DatasetSection(
            fingerprint=data.fingerprint,
            n=data.counts(),
            n_expected=dict(benchmark.dataset.get("expected", {})),
        ),
        model=ModelSection.from_record(
            {
                **model.describe(),
                "spec": model.spec,
                "label": about.label,
                "digest": model.digest,
                **plugin_of_model(model.spec),
            }
        ),
        metrics=outcome.metrics,
        primary=outcome.primary,
        precision=engine.precision_of(windows),
        limit=about.options.limit,
        environment=EnvironmentSection.from_record({**environment(str(engine.device)), **engine.means(windows)}),
        timing=TimingSection(
            seconds=round(about.seconds, 3),
            started=about.started.isoformat(timespec="seconds"),
            batch_size=engine.batch_size,
            batch_size_auto=about.options.batch_size == AUTO,
            batch_size_used=engine.parts.sizes,
            workers=about.options.workers,
            ranks=engine.crew.size,
            seed=about.options.seed,
            encoded=engine.encoded,
            texts=TextsSection.from_record(engine.texts_read.record()),
        ),
        samples=samples,
        warnings=(*outcome.warnings, *data.remarks, *engine.texts_read.warnings()),
    )
