"""Classification: what two models did on the same samples."""

from typing import TYPE_CHECKING

import numpy as np

from cosmos_eval.metrics.paired import class_weights
from cosmos_eval.metrics.paired_samples import Hits, require_column

if TYPE_CHECKING:
    import pandas as pd

    from cosmos_eval.results.record import Result


def paired(metric: str, results: "tuple[Result, Result]", frames: "tuple[pd.DataFrame, pd.DataFrame]") -> Hits:
    baseline, candidate = frames
    column = {"top1": "correct", "top5": "top5", "mean_per_class": "correct"}[metric]
    require_column(column, baseline, candidate)
    weights = class_weights(baseline["label"].to_numpy()) if metric == "mean_per_class" else None
    hits = [one[column].to_numpy() for one in (baseline, candidate)]
    return Hits(hits[0], hits[1], np.arange(len(baseline)), weights)
