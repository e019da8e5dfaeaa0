"""Pairs the samples of two results: checks that they are the same, and extracts what a paired test needs."""

from typing import TYPE_CHECKING

import numpy as np

from cosmos_core.errors import RequestError
from cosmos_core.plugins import resolve
from cosmos_core.printable import plural
from cosmos_eval.metrics.paired_samples import Hits, PairedBootstrap, require_column
from cosmos_eval.protocol.task_info import TaskInfo
from cosmos_eval.protocol.task_registry import task_info
from cosmos_eval.results.record import Result

if TYPE_CHECKING:
    import pandas as pd

TOLERANCE = 1e-9
"""Difference allowed between a recorded metric and the one computed from its samples."""


def refuse_other_samples(info: TaskInfo, baseline: "pd.DataFrame", candidate: "pd.DataFrame") -> None:
    """Raise RequestError unless both tables hold the same samples in the same order."""
    groups = [name for name in baseline.columns if info.sample_groups and name.startswith(info.sample_groups)]
    keys = [*info.sample_keys, *groups]
    for name in (*keys, *info.sample_columns):
        require_column(name, baseline, candidate)
    if info.comparable_samples is not None:
        baseline, candidate = (info.comparable_samples(frame) for frame in (baseline, candidate))
    if len(baseline) != len(candidate):
        raise RequestError(f"{plural(len(baseline), 'sample')} in the baseline and {len(candidate):,} in the candidate")
    for name in keys:
        differ = np.flatnonzero(baseline[name].to_numpy() != candidate[name].to_numpy())
        if len(differ):
            i = int(differ[0])
            ours, theirs = baseline[name].iloc[i], candidate[name].iloc[i]
            raise RequestError(f"sample {i} has {name} {ours} in the baseline and {theirs} in the candidate")


def pair_samples(
    metric: str, results: tuple[Result, Result], frames: tuple["pd.DataFrame", "pd.DataFrame"]
) -> Hits | PairedBootstrap:
    """Extract the samples behind one metric from both results.

    Args:
        metric: a fraction that both results report.
        results: baseline, candidate: comparable, with samples that passed `refuse_other_samples`.
        frames: their samples.

    Raises:
        RequestError: a metric that cannot be computed from samples, or one that differs from the recorded value.
    """
    samples: Hits | PairedBootstrap = resolve(task_info(results[0].benchmark.task).paired)(metric, results, frames)
    if isinstance(samples, Hits):
        for result, value in zip(results, samples.values(), strict=True):
            refuse_other_value(metric, result, value)
    return samples


def refuse_other_value(metric: str, result: Result, value: float) -> None:
    """RequestError where the samples do not give the metric that is recorded."""
    recorded = result.metrics[metric].value
    if not abs(recorded - value) <= TOLERANCE:
        raise RequestError(
            f"{metric} of {result.label} is {100 * recorded:.4f} in RESULT.json, and its samples give "
            f"{100 * value:.4f}; measure it again with run --overwrite"
        )
