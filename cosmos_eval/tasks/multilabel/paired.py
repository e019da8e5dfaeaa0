"""Paired comparison of two models on multi-label classification, for `regress`."""

from typing import TYPE_CHECKING

import numpy as np

from cosmos_core.errors import RequestError
from cosmos_core.printable import plural
from cosmos_eval.datasets.data.multilabel import build_labels
from cosmos_eval.metrics.paired_average_precision import PairedLabelScores
from cosmos_eval.metrics.paired_samples import name_units
from cosmos_eval.tasks.multilabel import OF_CLASS

if TYPE_CHECKING:
    import pandas as pd

    from cosmos_eval.results.record import Result


def paired(
    metric: str, results: "tuple[Result, Result]", frames: "tuple[pd.DataFrame, pd.DataFrame]"
) -> PairedLabelScores:
    """The scores of both models for the same images and labels; the unit is the image.

    Args:
        metric: `mean_average_precision` or `<class>/average_precision`.
        results: baseline and candidate.
        frames: their samples, with equal images and labels in equal order.

    Raises:
        RequestError: the samples have another number of classes than the metrics, or scores that are not numbers.
    """
    baseline, candidate = (_stack_scores(frame) for frame in frames)
    if baseline.shape != candidate.shape:
        raise RequestError(
            f"samples of {plural(baseline.shape[1], 'class', 'classes')} in the baseline and {candidate.shape[1]:,} "
            "in the candidate; measure both again with run --overwrite"
        )
    present, undecided = (_split_classes(frames[0][name]) for name in ("labels", "undecided"))
    labels = build_labels(present, undecided, baseline.shape[1])
    ranked_classes = np.flatnonzero((labels > 0).any(0))
    # The metrics are in the order of the classes that have an image.
    names = [name.removesuffix(OF_CLASS) for name in results[0].metrics if name.endswith(OF_CLASS)]
    if len(names) != len(ranked_classes):
        raise RequestError(
            f"the samples have {plural(len(ranked_classes), 'class', 'classes')} and the metrics {len(names):,}; "
            "measure both models again with run --overwrite"
        )
    if metric.endswith(OF_CLASS):
        ranked_classes = ranked_classes[[names.index(metric.removesuffix(OF_CLASS))]]
    return PairedLabelScores(
        baseline[:, ranked_classes],
        candidate[:, ranked_classes],
        labels[:, ranked_classes],
        name_units(frames[0], "image"),
    )


def _stack_scores(samples: "pd.DataFrame") -> np.ndarray:
    """(N, C) scores of the rows of a result's samples."""
    rows = [np.asarray(row, dtype=np.float32) for row in samples["scores"]]
    if len({len(row) for row in rows}) != 1 or not all(np.isfinite(row).all() for row in rows):
        raise RequestError("the scores in samples.parquet are damaged; measure the model again with run --overwrite")
    return np.stack(rows)


def _split_classes(column: "pd.Series[str]") -> list[list[int]]:
    """The indices of the classes of each row."""
    return [[int(c) for c in text.split()] for text in column]
