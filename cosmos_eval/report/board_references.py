"""Published values on a board: rows of their own, which are not ranked, in the columns of their protocol."""

from collections.abc import Mapping

import pandas as pd

from cosmos_core.errors import RequestError
from cosmos_core.printable import printable
from cosmos_eval.report.board_averages import CompleteAverages

COLUMNS = (
    "paper", "model", "spec", "arch", "pretraining", "benchmark", "metric", "value", "decimals", "source",
    "fingerprint", "dataset",
)  # fmt: skip
"""Columns of a frame of references. `benchmark` and `metric` are our names; `value` a fraction, or a rank; `decimals`
of percent; `fingerprint` and `dataset` where the file has them, else empty: then the benchmark is the shipped
definition with this name. `model`, `benchmark`, `metric` and `value` are needed."""
MEAN_OF = " & "
"""Between the names of metrics whose mean is printed as one value."""


def place_references(
    references: pd.DataFrame, columns: pd.DataFrame, first: int, averages: CompleteAverages = ()
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Rows numbered from `first`, their cells, and what could not be placed.

    A value belongs to the columns of its benchmark and metric that have its protocol. Two values of one model for one
    column (papers correct themselves) make two rows. A row that has a value for each benchmark of an average has the
    average, too; the mean of several metrics that a table prints as one value serves as well as these metrics.
    """
    placed = _add_labels_and_fingerprints(references)
    ids = columns.loc[columns["kind"] == "metric", ["benchmark", "metric", "fingerprint", "dataset"]]
    ids = ids.rename(columns={"fingerprint": "protocol", "dataset": "data"}).assign(column=ids.index)
    printed_means, parts = _columns_of_means(ids, placed["metric"])
    ids = pd.concat([ids, printed_means], ignore_index=True) if len(printed_means) else ids
    placed = placed.assign(order=range(len(placed))).merge(ids, on=["benchmark", "metric"], how="inner")
    is_other_protocol = (placed["fingerprint"] != placed["protocol"]) | (
        (placed["dataset"] != "") & (placed["dataset"] != placed["data"])
    )
    remarks = [
        f"{paper}: its values for {benchmark} have another protocol or other data than the measured ones; left out."
        for paper, benchmark in dict.fromkeys(
            zip(placed.loc[is_other_protocol, "paper"], placed.loc[is_other_protocol, "benchmark"], strict=True)
        )
        if not ((placed["paper"] == paper) & (placed["benchmark"] == benchmark) & ~is_other_protocol).any()
    ]
    placed = placed[~is_other_protocol].drop_duplicates([*_MODEL, "column", "value"]).sort_values(["order", "column"])
    placed["again"] = placed.groupby([*_MODEL, "column"], sort=False).cumcount()
    placed["row"] = placed.groupby([*_MODEL, "again"], sort=False).ngroup()
    means = _averages(placed, parts, averages)
    placed = placed[placed["column"] >= 0]
    if placed.empty:
        return pd.DataFrame(), pd.DataFrame(), [*remarks, "No published value belongs to a column of this table."]
    if len(means):
        names = ", ".join(columns.loc[sorted(means["column"].unique()), "title"])
        remarks.append(f"{names}: for published rows, the mean of their printed values.")
    rows = placed.groupby("row", sort=True).agg(
        label=("label", "first"),
        spec=("spec", "first"),
        paper=("paper", "first"),
        sources=("source", lambda all_: "; ".join(text for text in dict.fromkeys(all_) if text)),
    )
    number = {row: first + index for index, row in enumerate(rows.index)}  # rows of nothing but printed means are gone
    source = [": ".join(word for word in words if word) for words in zip(rows["paper"], rows["sources"], strict=True)]
    rows = rows.assign(digest="", precision="", source=source).rename(index=number)
    cells = pd.concat([placed[["row", "column", "value", "decimals", "source"]], means], ignore_index=True)
    cells = cells[cells["row"].isin(number)].assign(
        row=cells["row"].map(number), low=float("nan"), high=float("nan"), place=pd.NA, started=""
    )
    return rows, cells.assign(n=pd.array([pd.NA] * len(cells), dtype="Int64")), remarks


Parts = Mapping[frozenset[int], int]
"""Columns whose mean is printed -> the number, below 0, that stands for it in place of a column."""


def _columns_of_means(ids: pd.DataFrame, metrics: pd.Series) -> tuple[pd.DataFrame, Parts]:
    """Rows for `ids` of the means that references have of several metrics, for each benchmark that has all of these."""
    rows: list[dict[str, str]] = []
    parts: dict[frozenset[int], int] = {}
    for metric in dict.fromkeys(name for name in metrics if MEAN_OF in name):
        names = metric.split(MEAN_OF)
        for key, of_one in ids[ids["metric"].isin(names)].groupby(["benchmark", "protocol", "data"], sort=False):
            if len(of_one) == len(names):
                parts[frozenset(of_one["column"])] = -1 - len(rows)
                rows.append({**dict(zip(("benchmark", "protocol", "data"), key, strict=True)), "metric": metric})
    return pd.DataFrame(rows).assign(column=range(-1, -1 - len(rows), -1)), parts


def _averages(placed: pd.DataFrame, parts: Parts, averages: CompleteAverages) -> pd.DataFrame:
    """The cells of averages: of the rows that have a value for each benchmark of one."""
    rows = []
    for row, of_row in placed.groupby("row", sort=True):
        values = dict(zip(of_row["column"], of_row["value"], strict=True))
        for column, members in averages:
            # the columns of a benchmark, or the one that stands for their printed mean
            read = [found if values.keys() >= set(found) else [parts.get(frozenset(found))] for found in members]
            if all(values.keys() >= set(found) for found in read):
                value = sum(sum(values[one] for one in found) / len(found) for found in read) / len(read)
                decimals = of_row.loc[of_row["column"].isin([one for found in read for one in found]), "decimals"].min()
                rows.append({"row": row, "column": column, "value": value, "decimals": decimals, "source": ""})
    frame = pd.DataFrame(rows, columns=["row", "column", "value", "decimals", "source"])
    return frame.astype({"decimals": "Int64"})


_MODEL = ["paper", "model", "arch", "pretraining"]


def _add_labels_and_fingerprints(references: pd.DataFrame) -> pd.DataFrame:
    """Return the references whose protocol is known, with a label and the protocol fingerprint of each."""
    from cosmos_eval.protocol.benchmark import load_benchmark
    from cosmos_eval.protocol.folders import shipped_files

    frame = references.reindex(columns=list(COLUMNS))
    for column in set(COLUMNS) - {"value", "decimals"}:
        frame[column] = ["" if pd.isna(text) else printable(str(text)) for text in frame[column]]
    frame["decimals"] = frame["decimals"].astype("Int64")
    incomplete = frame["value"].isna() | (frame["benchmark"] == "")
    if incomplete.any():
        row = frame[incomplete].iloc[0]
        raise RequestError(f"{row['source']}: a reference of {row['model']!r} lacks its value or its benchmark")
    shipped = shipped_files()
    shipped_fingerprints = {
        name: load_benchmark(name).fingerprint
        for name in frame.loc[frame["fingerprint"] == "", "benchmark"].unique()
        if name in shipped
    }
    shipped_fingerprint = frame["benchmark"].map(shipped_fingerprints).fillna("")
    frame["fingerprint"] = frame["fingerprint"].where(frame["fingerprint"] != "", shipped_fingerprint)
    frame["label"] = [
        ", ".join([model, *(word for word in words if word and word not in model)])
        for model, *words in frame[["model", "arch", "pretraining"]].itertuples(index=False)
    ]
    return frame[frame["fingerprint"] != ""]
