"""Paired comparison of two models on tasks with several languages, for `regress`."""

from typing import TYPE_CHECKING

import numpy as np

from cosmos_core.errors import RequestError
from cosmos_eval.metrics.paired_drop import mean_per_class_weights
from cosmos_eval.metrics.paired_samples import Hits, number_labels, require_column
from cosmos_eval.tasks.retrieval import DIRECTIONS

if TYPE_CHECKING:
    import pandas as pd

    from cosmos_eval.results.record import Result


def paired(metric: str, results: "tuple[Result, Result]", frames: "tuple[pd.DataFrame, pd.DataFrame]") -> Hits:
    """The values of both models for the queries of one direction, in one language or in all; the unit is the image.

    Args:
        metric: such as `de/image_to_text_recall@1`, or `image_to_text_recall@1`, the mean over languages.
        results: baseline and candidate.
        frames: their samples, with equal queries in equal order.

    Raises:
        RequestError: the samples lack the metric's column or its language.
    """
    baseline, candidate = frames
    language, _, name = metric.rpartition("/")
    direction = next(direction for direction in DIRECTIONS if name.startswith(f"{direction}_"))
    column = name.removeprefix(f"{direction}_").replace("recall@", "hit@")
    require_column(column, baseline, candidate)
    return language_hits(language, column, (baseline["direction"] == direction).to_numpy(), baseline, candidate)


def language_hits(
    language: str, column: str, is_selected: np.ndarray, baseline: "pd.DataFrame", candidate: "pd.DataFrame"
) -> Hits:
    """The values of one column, in one language, or in all with equal weight of the languages.

    Args:
        language: its code; empty for all.
        is_selected: (N,) bool, which samples belong to the metric.

    Raises:
        RequestError: no sample is in the language.
    """
    if language:
        is_selected = is_selected & (baseline["language"] == language).to_numpy()
        if not is_selected.any():
            raise RequestError(f"no sample is in the language {language}; evaluate again with run --overwrite")
    labels = number_labels(baseline["language"].to_numpy()[is_selected])
    return Hits(
        baseline[column].to_numpy()[is_selected],
        candidate[column].to_numpy()[is_selected],
        number_labels(baseline["image"].to_numpy()[is_selected]),
        None if language else mean_per_class_weights(labels),
    )
