"""One long pandas frame of classes from results: a row for each model, benchmark and class."""

from collections.abc import Sequence

import pandas as pd

from cosmos_core.printable import printable
from cosmos_eval.report.frame import IDENTITY, identity_cells
from cosmos_eval.results.record import Result

CLASS_FRAME = (*IDENTITY, "class", "metric", "value", "low", "high", "n", "precision", "limit")


def class_frame(results: Sequence[Result]) -> pd.DataFrame:
    """(classes of all results, columns of CLASS_FRAME); values are fractions, NaN for a class without samples.

    Results without classes have no rows. For one result, `result.classes.frame()` has a row for each class only.

    Raises:
        RequestError: a CLASSES.json that is damaged; names it.
    """
    rows = [
        (
            *identity_cells(result),
            printable(entry.name),
            table.metric,
            *((entry.metric.value, entry.metric.low, entry.metric.high) if entry.metric else (float("nan"),) * 3),
            entry.n,
            result.precision,
            result.limit,
        )
        for result in results
        if (table := result.classes) is not None
        for entry in table.classes
    ]
    frame = pd.DataFrame(rows, columns=list(CLASS_FRAME))
    frame["limit"] = frame["limit"].astype("Int64")
    return frame
