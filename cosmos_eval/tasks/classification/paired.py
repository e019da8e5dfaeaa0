"""Paired comparison of two models on classification, for `regress`."""

from typing import TYPE_CHECKING

import numpy as np

from cosmos_eval.metrics.paired_drop import mean_per_class_weights
from cosmos_eval.metrics.paired_samples import Hits, name_units, require_column

if TYPE_CHECKING:
    import pandas as pd

    from cosmos_eval.results.record import Result

COLUMNS = {"top1": "correct", "top5": "top5", "mean_per_class": "correct"}
"""The column of `samples` that each metric is computed from."""


def paired(metric: str, results: "tuple[Result, Result]", frames: "tuple[pd.DataFrame, pd.DataFrame]") -> Hits:
    """The hits of both models on all images; the unit is the image.

    Args:
        metric: a key of `COLUMNS`.
        results: baseline and candidate.
        frames: their samples, with equal images in equal order.

    Raises:
        RequestError: the samples lack the metric's column.
    """
    baseline, candidate = frames
    column = COLUMNS[metric]
    require_column(column, baseline, candidate)
    classes = baseline["label"].to_numpy() if metric == "mean_per_class" else None
    weights = mean_per_class_weights(classes) if classes is not None else None
    image, names = np.arange(len(baseline)), name_units(baseline, "image")
    return Hits(baseline[column].to_numpy(), candidate[column].to_numpy(), image, weights, names, classes)
