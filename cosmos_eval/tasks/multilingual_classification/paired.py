"""Paired comparison of two models on classification in several languages, for `regress`."""

from typing import TYPE_CHECKING

import numpy as np

from cosmos_eval.metrics.paired_samples import Hits, require_column
from cosmos_eval.tasks.multilingual_retrieval.paired import language_hits

if TYPE_CHECKING:
    import pandas as pd

    from cosmos_eval.results.record import Result

COLUMNS = {"top1": "correct", "top5": "top5"}
"""The column of `samples` that each metric is computed from."""


def paired(metric: str, results: "tuple[Result, Result]", frames: "tuple[pd.DataFrame, pd.DataFrame]") -> Hits:
    """The hits of both models, in one language or in all; the unit is the image.

    Args:
        metric: such as `de/top1`, or `top1`, the mean over languages.
        results: baseline and candidate.
        frames: their samples, with equal samples in equal order.

    Raises:
        RequestError: the samples lack the metric's column or its language.
    """
    baseline, candidate = frames
    language, _, name = metric.rpartition("/")
    column = COLUMNS[name]
    require_column(column, baseline, candidate)
    return language_hits(language, column, np.ones(len(baseline), dtype=bool), baseline, candidate)
