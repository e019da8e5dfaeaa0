"""Paired comparison of two models on multiple choice, for `regress`."""

from typing import TYPE_CHECKING

from cosmos_eval.metrics.paired_samples import Hits, require_column
from cosmos_eval.tasks.multiple_choice import JACCARD, is_jaccard
from cosmos_eval.tasks.perception.paired import paired as paired_items

if TYPE_CHECKING:
    import pandas as pd

    from cosmos_eval.results.record import Result


def paired(metric: str, results: "tuple[Result, Result]", frames: "tuple[pd.DataFrame, pd.DataFrame]") -> Hits:
    """The hits of both models on the items behind a metric, or their Jaccard indices; the unit is the whole image.

    Args:
        metric: such as `accuracy`, `<subset>/accuracy` or `<subset>/jaccard`.
        results: baseline and candidate.
        frames: their samples, with equal items in equal order.

    Raises:
        RequestError: the samples lack a column, or no item belongs to the metric's subset.
    """
    if is_jaccard(metric):
        require_column(JACCARD, *frames)
        baseline, candidate = (frame.assign(correct=frame[JACCARD]) for frame in frames)
        frames = baseline, candidate
    return paired_items(metric, results, frames)
