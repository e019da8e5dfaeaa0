"""Averages of a suite in `regress`: the samples of two models behind each, paired."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cosmos_core.errors import RequestError
from cosmos_eval.metrics.paired_average import PairedAverage, join_hits
from cosmos_eval.metrics.paired_samples import BootstrappedDrop, Hits, PairedBootstrap
from cosmos_eval.protocol.benchmark import Benchmark
from cosmos_eval.protocol.suite import Average, Suite
from cosmos_eval.protocol.task_registry import task_info
from cosmos_eval.regress.paired_samples import pair_samples, refuse_other_samples
from cosmos_eval.results.record import Result
from cosmos_eval.results.sample_metrics import complete_names, name_hits
from cosmos_eval.results.store import read_samples

Pairs = Mapping[str, tuple[tuple[Path, Result], tuple[Path, Result]]]
"""Benchmark -> path of RESULT.json and result of the baseline and of the candidate, which are comparable."""
OF_SUITE = "average"
"""In place of the metric of a benchmark."""


@dataclass(frozen=True)
class AveragedSamples:
    """The samples of both models behind an average of a suite."""

    name: str
    samples: Hits | BootstrappedDrop
    values: tuple[float, float]
    """The average of the baseline and of the candidate, from their results."""
    count: int
    """Number of samples of all benchmarks."""


def complete_averages(suite: Suite, pairs: Pairs) -> Iterator[tuple[Average, str]]:
    """Yield each average of a suite, and why it cannot be compared; empty if it can."""
    for average in suite.averages:
        missing = [name for name in average.benchmarks if name not in pairs]
        other = [
            benchmark.name
            for benchmark, _ in suite.members(average)
            if benchmark.name in pairs and pairs[benchmark.name][0][1].benchmark.fingerprint != benchmark.fingerprint
        ]
        reason = f"no comparable results of {', '.join(missing)}" if missing else ""
        if not missing and other:
            reason = f"measured under another protocol than the suite's: {', '.join(other)}"
        yield average, reason


def pair_average(
    average: Average, members_of_suite: Sequence[tuple[Benchmark, tuple[str, ...]]], pairs: Pairs
) -> AveragedSamples:
    """Read the samples of an average's benchmarks and join them.

    Args:
        average: of a suite.
        members_of_suite: its benchmarks with their metrics (`Suite.members`).
        pairs: comparable results.

    Raises:
        RequestError: samples that are missing, damaged, not the same in both models, or from which a metric cannot be
            computed.
    """
    members: list[tuple[float, Hits | PairedBootstrap]] = []
    names: list[np.ndarray] = []
    values, count = [0.0, 0.0], 0
    for benchmark, metrics in members_of_suite:
        located = pairs[benchmark.name]
        results = located[0][1], located[1][1]
        frames = (read_samples(located[0][0], results[0]), read_samples(located[1][0], results[1]))
        refuse_other_samples(task_info(benchmark.task), *frames)
        for metric in metrics:
            weight = average.share(benchmark.name, len(metrics))
            samples = _pair(metric, results, frames)
            of_metric = samples.of_model(0).names
            if isinstance(samples, Hits):
                unit_names = samples.unit_names if samples.unit_names is not None else samples.unit.astype(str)
                of_metric = np.array(complete_names(list(unit_names), results[0]), dtype=object)
                samples = replace(samples, unit_names=of_metric)
            members.append((weight, samples))
            names.append(of_metric)
            for i, result in enumerate(results):
                values[i] += weight * result.metrics[metric].value
        count += len(frames[0])
    if all(isinstance(samples, Hits) for _, samples in members):
        hits = [(weight, samples) for weight, samples in members if isinstance(samples, Hits)]
        return AveragedSamples(average.name, join_hits(hits, names), (values[0], values[1]), count)
    joined = PairedAverage(tuple(members), tuple((samples.of_model(0), samples.of_model(1)) for _, samples in members))
    return AveragedSamples(average.name, joined, (values[0], values[1]), count)


def _pair(metric: str, results: tuple[Result, Result], frames: tuple) -> Hits | PairedBootstrap:
    if not task_info(results[0].benchmark.task).can_be_paired(metric):
        raise RequestError(f"{results[0].benchmark_name}: there is no paired test of {metric}")
    samples = name_hits(pair_samples(metric, results, frames), frames[0])
    if not hasattr(samples, "of_model"):
        raise RequestError(f"{results[0].benchmark_name}: its task cannot resample {metric} together with others")
    return samples
