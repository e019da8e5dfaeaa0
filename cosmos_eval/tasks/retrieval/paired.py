"""Paired comparison of two models on retrieval, for `regress`."""

from typing import TYPE_CHECKING

from cosmos_eval.metrics.paired_samples import Hits, name_units, number_labels, require_column
from cosmos_eval.tasks.retrieval import DIRECTIONS

if TYPE_CHECKING:
    import pandas as pd

    from cosmos_eval.results.record import Result


def paired(metric: str, results: "tuple[Result, Result]", frames: "tuple[pd.DataFrame, pd.DataFrame]") -> Hits:
    """The values of both models for the queries of one direction; the unit is the image.

    Args:
        metric: such as `image_to_text_recall@1`.
        results: baseline and candidate.
        frames: their samples, with equal queries in equal order.

    Raises:
        RequestError: the samples lack the metric's column.
    """
    baseline, candidate = frames
    direction = next(direction for direction in DIRECTIONS if metric.startswith(f"{direction}_"))
    is_in_direction = (baseline["direction"] == direction).to_numpy()
    # recall@k has the column hit@k; further metrics have a column of their own name
    column = metric.removeprefix(f"{direction}_").replace("recall@", "hit@")
    require_column(column, baseline, candidate)
    return Hits(
        baseline[column].to_numpy()[is_in_direction],
        candidate[column].to_numpy()[is_in_direction],
        number_labels(baseline["image"].to_numpy()[is_in_direction]),
        unit_names=name_units(baseline, "image")[is_in_direction],
    )
