"""Retrieval: what two models did on the same samples."""

from typing import TYPE_CHECKING

from cosmos_eval.metrics.paired_samples import Hits, label_numbers, require_column
from cosmos_eval.tasks.retrieval import DIRECTIONS

if TYPE_CHECKING:
    import pandas as pd

    from cosmos_eval.results.record import Result


def paired(metric: str, results: "tuple[Result, Result]", frames: "tuple[pd.DataFrame, pd.DataFrame]") -> Hits:
    baseline, candidate = frames
    direction = next(one for one in DIRECTIONS if metric.startswith(f"{one}_"))
    rows = (baseline["direction"] == direction).to_numpy()
    column = metric.removeprefix(f"{direction}_").replace("recall@", "hit@")  # of another metric its own name
    require_column(column, baseline, candidate)
    return Hits(
        baseline[column].to_numpy()[rows],
        candidate[column].to_numpy()[rows],
        label_numbers(baseline["image"].to_numpy()[rows]),
    )
