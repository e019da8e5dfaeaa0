"""One long pandas frame from results: a row for each model, benchmark and metric. Every table is made from it."""

from collections.abc import Sequence

import pandas as pd

from cosmos_core.printable import printable
from cosmos_eval.results.portable import portable_spec
from cosmos_eval.results.record import Result

COLUMNS = (
    "model", "spec", "digest", "benchmark", "version", "fingerprint", "dataset", "task", "metric", "value", "low",
    "high", "n", "images", "items", "left_out", "precision", "limit", "primary",
    "started",
)  # fmt: skip


def to_frame(results: Sequence[Result]) -> pd.DataFrame:
    """(results × metrics, columns of COLUMNS); values are fractions, or ranks for `*_rank`."""
    rows = [
        (
            printable(result.label),
            portable_spec(result.model.spec),
            printable(result.model.digest),
            printable(result.benchmark.name),
            result.benchmark.version,
            result.benchmark.fingerprint,
            result.dataset.fingerprint,
            result.benchmark.task,
            printable(name),
            metric.value,
            metric.low,
            metric.high,
            metric.n,
            result.dataset.n.get("images", 0),
            result.dataset.n.get("items", 0),
            result.dataset.n.get("left_out", 0),
            result.precision,
            result.limit,
            name == result.primary,
            result.timing.started,
        )
        for result in results
        for name, metric in result.metrics.items()
    ]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    frame["limit"] = frame["limit"].astype("Int64")
    return frame


def ranked(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that a ranking may use: those measured on all of their data."""
    return frame[frame["limit"].isna()]


def distinct_labels(frame: pd.DataFrame) -> pd.DataFrame:
    """Distinguish rows that share a label: other weights get the start of their digest, other precisions their name.

    Weights without a digest are distinguished by their spec. Adds `spec_or_digest`, which with `model` and
    `precision` makes a row of a table.
    """
    frame = frame.copy()
    frame["spec_or_digest"] = frame["digest"].where(frame["digest"] != "", "of " + frame["spec"])
    for column, length in (("spec_or_digest", 8), ("precision", None)):
        shared = frame.groupby("model")[column].transform("nunique") > 1
        words = frame.loc[shared, column]
        words = words.str[:length].where(~words.str.startswith("of "), words.str[3:])
        frame.loc[shared, "model"] = frame.loc[shared, "model"] + " (" + words + ")"
    return frame
