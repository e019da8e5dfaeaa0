"""One long pandas frame from results: a row for each model, benchmark and metric. Every table is made from it."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from cosmos_core.errors import RequestError
from cosmos_core.file_checks import user_path
from cosmos_core.printable import printable
from cosmos_core.short_repr import short_repr
from cosmos_eval.protocol.task_registry import headlines
from cosmos_eval.results.portable import portable_spec
from cosmos_eval.results.record import Result
from cosmos_eval.results.store import read_results

IDENTITY = ("model", "spec", "digest", "benchmark", "version", "fingerprint", "dataset", "task")
"""Columns that say whose result it is."""
COLUMNS = (
    *IDENTITY, "metric", "value", "low", "high", "n", "images", "items", "left_out", "precision", "limit", "primary",
    "started",
)  # fmt: skip


def to_frame(results: Result | Iterable[Result] | str | Path, *, wide: bool = False) -> pd.DataFrame:
    """Make a table of results.

    Args:
        results: a result, several, or the `out` folder of runs, of which all results are read.
        wide: whether a row is a model and a column a headline metric of a benchmark, as on a leaderboard; models that
            were measured with `limit` have rows of their own.

    Returns:
        (results × metrics, columns of COLUMNS, `limited`, `truncated` and `transforms`), or the wide form, whose
        columns are (benchmark, metric). `truncated` is the share of the texts that are longer than the model's context
        (missing where the model does not say); `transforms` says what was done to embeddings, as the name of the
        benchmark does.
        Values are fractions, or ranks for `*_rank`; `low` and `high` bound the 95 % interval.

    Raises:
        RequestError: no folder, or one without results.
    """
    if isinstance(results, str | Path):
        results = read_results(user_path(results))
    given = list(results) if isinstance(results, Iterable) else [results]
    wrong = next((result for result in given if not isinstance(result, Result)), None)
    if wrong is not None:
        raise RequestError(f"to_frame takes results as evaluate returns them, or their folder, not {short_repr(wrong)}")
    frame = _long_frame([result for result in given if isinstance(result, Result)])
    frame.insert(list(COLUMNS).index("limit") + 1, "limited", frame["limit"].notna())
    shares = [result.timing.texts.truncated_share if result.timing.texts is not None else None for result in given]
    truncated = [share for share, result in zip(shares, given, strict=True) for _ in result.metrics]
    frame["truncated"] = pd.array(truncated, "Float64")
    frame["transforms"] = [printable(result.transforms.title) for result in given for _ in result.metrics]
    return _widen(frame) if wide else frame


def identity_cells(result: Result) -> tuple[str | int, ...]:
    """The cells of a result in the columns of IDENTITY."""
    return (
        printable(result.label),
        portable_spec(result.model.spec),
        printable(result.model.digest),
        printable(result.benchmark_name),
        result.benchmark.version,
        result.benchmark.fingerprint,
        result.dataset.fingerprint,
        result.benchmark.task,
    )


def _long_frame(results: list[Result]) -> pd.DataFrame:
    rows = [
        (
            *identity_cells(result),
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


def _widen(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each model, a column for each headline metric of each benchmark."""
    frame = distinct_labels(frame)
    identity = ["benchmark", "fingerprint"]
    primary = frame[frame["primary"].astype(bool)].groupby(identity)["metric"].unique().to_dict()
    shown = [
        row.metric in headlines(row.task, *primary.get((row.benchmark, row.fingerprint), ()))
        for row in frame.itertuples(False)
    ]
    frame = frame[pd.Series(shown, index=frame.index, dtype=bool)].copy()
    limits = frame["limit"].map(lambda limit: "" if pd.isna(limit) else f" (limit {limit:,})")
    frame["model"] = frame["model"] + limits.astype(str)
    # Numbers of different protocols or data never share a column, though data of a limit differ by nature.
    digests = frame["fingerprint"].str[:6] + ", data " + frame["dataset"].str[:6].where(~frame["limited"], "")
    is_several = digests[~frame["limited"]].groupby(frame["benchmark"]).nunique() > 1
    is_marked = frame["benchmark"].map(is_several).eq(True) & ~frame["limited"]
    frame["benchmark"] = frame["benchmark"].where(~is_marked, frame["benchmark"] + " (" + digests + ")")
    columns = list(dict.fromkeys(zip(frame["benchmark"], frame["metric"], strict=True)))
    wide = frame.drop_duplicates(["model", "benchmark", "metric"], keep="last").pivot(
        index="model", columns=["benchmark", "metric"], values="value"
    )
    titles = pd.MultiIndex.from_tuples(columns, names=["benchmark", "metric"])
    return wide.reindex(index=list(dict.fromkeys(frame["model"])), columns=titles)


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
