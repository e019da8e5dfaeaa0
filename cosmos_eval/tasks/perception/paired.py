"""Perception: what two models did on the same samples."""

from typing import TYPE_CHECKING

import numpy as np

from cosmos_core.errors import RequestError
from cosmos_eval.metrics.paired import class_weights
from cosmos_eval.metrics.paired_samples import Hits, label_numbers, require_column

if TYPE_CHECKING:
    import pandas as pd

    from cosmos_eval.results.record import Result


OF_PARTS = ("whole", "image")
"""Columns of the unit: the image that a cut-out is cut from, where the table has it."""


def paired(metric: str, results: "tuple[Result, Result]", frames: "tuple[pd.DataFrame, pd.DataFrame]") -> Hits:
    baseline, candidate = frames
    name = metric.removesuffix("_expected")
    part, _, reading = name.rpartition("/")
    macro = reading.startswith("macro_")
    reading = reading.removeprefix("macro_")
    kind = "correct" if name == metric else "expected"
    column = kind if kind in baseline else f"{reading}_{kind}"
    require_column(column, baseline, candidate)
    weights = None
    if macro:
        labels = baseline[f"group {part}" if part else "subset"].to_numpy()
        # subsets with too few items have no metric of their own, and no place in the mean
        rows = np.array([bool(label) and f"{label}/{reading}" in results[0].metrics for label in labels])
        weights = class_weights(label_numbers(labels[rows]))
    elif part:
        rows = _rows_of_part(baseline, part)
    else:
        rows = np.ones(len(baseline), dtype=bool)
    unit = next(baseline[one] for one in OF_PARTS if one in baseline)
    hits = [one[column].to_numpy()[rows] for one in (baseline, candidate)]
    return Hits(hits[0], hits[1], label_numbers(unit.to_numpy()[rows]), weights)


def _rows_of_part(frame: "pd.DataFrame", part: str) -> np.ndarray:
    """Of the subset of that name, else of the first group that has such a part."""
    for name in ("subset", *(column for column in frame.columns if column.startswith("group "))):
        rows = (frame[name] == part).to_numpy()
        if rows.any():
            return rows
    raise RequestError(f"no sample belongs to {part!r}; measure again with run --overwrite")
