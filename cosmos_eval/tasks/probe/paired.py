"""Paired comparison of two models on probes, for `regress`."""

from typing import TYPE_CHECKING

import numpy as np

from cosmos_eval.metrics.paired_drop import mean_per_class_weights
from cosmos_eval.metrics.paired_samples import Hits, require_column

if TYPE_CHECKING:
    import pandas as pd

    from cosmos_eval.results.record import Result

COLUMNS = {"top1": "correct", "mean_per_class": "correct"}
"""The column of `samples` that a metric is computed from, where it has not the metric's name."""


def paired(metric: str, results: "tuple[Result, Result]", frames: "tuple[pd.DataFrame, pd.DataFrame]") -> Hits:
    """The hits of both models on all test images; the unit is the image.

    Few-shot: the share of seeds with a hit. Both models have seen the same train images for each seed.

    Raises:
        RequestError: the samples lack the metric's column.
    """
    baseline, candidate = frames
    column = COLUMNS.get(metric, metric)
    require_column(column, baseline, candidate)
    weights = mean_per_class_weights(baseline["label"].to_numpy()) if metric == "mean_per_class" else None
    image = np.arange(len(baseline))
    return Hits(baseline[column].to_numpy(), candidate[column].to_numpy(), image, weights)
