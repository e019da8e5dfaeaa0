"""Builds the `Result` of one evaluation: the outcome, and everything that is needed to interpret it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cosmos_eval.datasets.data import Data
from cosmos_eval.engine import Engine
from cosmos_eval.engine.batch_size import AUTO
from cosmos_eval.protocol.benchmark import Benchmark
from cosmos_eval.protocol.definition_changes import digest_definition
from cosmos_eval.protocol.task_registry import task_info
from cosmos_eval.results.class_file import write_classes
from cosmos_eval.results.contents import with_contents
from cosmos_eval.results.environment import environment
from cosmos_eval.results.record import Result, with_classes
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
from cosmos_eval.run.provenance import ScoringCode, model_plugin_field
from cosmos_eval.tasks.outcome import Outcome


@dataclass(frozen=True)
class EvaluationContext:
    """How an evaluation was run."""

    label: str | None
    """The model's name in tables; None stands for its spec."""
    options: RunOptions
    scoring: ScoringCode
    started: datetime
    seconds: float
    fetched: Mapping[str, Any]
    """Where the data were fetched, by the manifest of the data root; empty if they were not."""


def build_result(
    benchmark: Benchmark, data: Data, engine: Engine, outcome: Outcome, context: EvaluationContext, folder: Path | None
) -> Result:
    """The result of one model on one benchmark.

    Args:
        folder: samples.parquet and CLASSES.json are written there; None writes nothing, and the result has a checksum
            of zeros for samples.parquet.
    """
    model = engine.model
    windows = task_info(benchmark.task).windows
    samples = SamplesSection("samples.parquet", len(outcome.samples), "0" * 64)
    if folder is not None:
        samples = write_samples(folder, with_contents(outcome.samples, data))
        write_classes(folder, outcome.classes, samples.sha256)
    result = Result(
        benchmark=BenchmarkSection(
            name=benchmark.name,
            version=benchmark.version,
            task=benchmark.task,
            fingerprint=benchmark.fingerprint,
            scoring_version=context.scoring.scoring_version,
            plugins=context.scoring.plugins,
            parts=digest_definition(benchmark),
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
                "label": context.label,
                "digest": model.digest,
                **model_plugin_field(model.spec),
            }
        ),
        metrics=outcome.metrics,
        primary=outcome.primary,
        precision=engine.precision_of(windows),
        limit=context.options.limit,
        environment=EnvironmentSection.from_record(
            {
                **environment(str(engine.device)),
                **engine.encoding_record(windows),
                **({"fetched": context.fetched} if context.fetched else {}),
            }
        ),
        timing=TimingSection(
            seconds=round(context.seconds, 3),
            started=context.started.isoformat(timespec="seconds"),
            batch_size=engine.batch_size,
            batch_size_auto=context.options.batch_size == AUTO,
            batch_size_used=engine.batch_splitter.sizes,
            workers=engine.workers.recorded,
            workers_auto=engine.workers.is_auto,
            ranks=engine.ranks.size,
            seed=context.options.seed,
            encoded=engine.encoded,
            texts=TextsSection.from_record(engine.text_counts.record()),
        ),
        samples=samples,
        warnings=(*outcome.warnings, *data.remarks, *engine.text_counts.warnings()),
        transforms=context.options.transforms,
    )
    return with_classes(result, outcome.classes)
