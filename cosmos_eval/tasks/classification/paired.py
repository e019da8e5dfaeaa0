"""Paired comparison of two models on classification, for `regress`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from cosmos_core.errors import RequestError
from cosmos_eval.metrics.macro_f1 import f1_entries
from cosmos_eval.metrics.paired_drop import mean_per_class_weights
from cosmos_eval.metrics.paired_ratios import PairedRatios
from cosmos_eval.metrics.paired_samples import Hits, name_units, number_labels, require_column
from cosmos_eval.metrics.resampled_metric import UnitSums, mean_of_ratios
from cosmos_eval.metrics.worst_group import smallest_ratio
from cosmos_eval.tasks.classification import GROUP_COLUMN, MACRO_F1, WORST

if TYPE_CHECKING:
    import pandas as pd

    from cosmos_eval.results.record import Result

COLUMNS = {"top1": "correct", "top5": "top5", "mean_per_class": "correct"}
"""The column of `samples` that each metric is computed from."""
PREDICTIONS = "predictions"


def paired(
    metric: str, results: "tuple[Result, Result]", frames: "tuple[pd.DataFrame, pd.DataFrame]"
) -> Hits | PairedRatios:
    """The hits of both models on all images; the unit is the image.

    Args:
        metric: a key of `COLUMNS`, one of them of a group or the worst group, or macro F1.
        results: baseline and candidate.
        frames: their samples, with equal images in equal order.

    Raises:
        RequestError: the samples lack the metric's column.
    """
    baseline, candidate = frames
    part, _, accuracy = metric.rpartition("/")
    names = name_units(baseline, "image")
    if metric == MACRO_F1:
        require_column(PREDICTIONS, baseline, candidate)
        f1 = [_f1_sums(frame, names) for frame in frames]
        return PairedRatios(f1[0], f1[1], hit=(2.0, 2.0), miss=1.0, miss_elsewhere=1.0)
    column = COLUMNS[accuracy]
    require_column(column, baseline, candidate)
    if part.startswith(WORST):
        kind = GROUP_COLUMN + part.removeprefix(WORST)
        require_column(kind, baseline, candidate)
        groups = number_labels(baseline[kind].to_numpy())
        values = [_ratio_sums(frame[column].to_numpy(), groups, names) for frame in frames]
        return PairedRatios(values[0], values[1], hit=(1.0, 1.0), miss=1.0)
    selected = np.arange(len(baseline))
    if part:
        kind, _, value = part.rpartition(" ")
        require_column(GROUP_COLUMN + kind, baseline, candidate)
        selected = np.flatnonzero(baseline[GROUP_COLUMN + kind].astype(str) == value)
        if not len(selected):
            raise RequestError(f"no sample belongs to {part!r}; measure both models again with run --overwrite")
    classes = baseline["label"].to_numpy()[selected] if accuracy == "mean_per_class" else None
    weights = mean_per_class_weights(classes) if classes is not None else None
    return Hits(
        baseline[column].to_numpy()[selected],
        candidate[column].to_numpy()[selected],
        np.arange(len(selected)),
        weights,
        names[selected],
        classes,
    )


def _ratio_sums(values: np.ndarray, groups: np.ndarray, names: np.ndarray) -> UnitSums:
    """The smallest of the mean values of groups."""
    samples, count = np.arange(len(values)), int(groups.max()) + 1
    return _build(names, samples, groups, values, np.ones(len(values)), count, smallest_ratio)


def _f1_sums(frame: "pd.DataFrame", names: np.ndarray) -> UnitSums:
    """Macro F1."""
    predictions = [np.asarray(classes, np.int64).tolist() for classes in frame[PREDICTIONS]]
    entries = f1_entries(predictions, frame["label"].to_numpy())
    count = int(entries.label.max()) + 1
    return _build(names, entries.sample, entries.label, entries.hits, entries.counts, count, mean_of_ratios)


def _build(
    names: np.ndarray,
    rows: np.ndarray,
    labels: np.ndarray,
    numerators: np.ndarray,
    denominators: np.ndarray,
    count: int,
    combine: Callable[[np.ndarray], Any],
) -> UnitSums:
    return UnitSums.build(
        names,
        np.concatenate([rows, rows]),
        np.concatenate([labels, labels + count]),
        np.concatenate([numerators, denominators]),
        combine,
    )
