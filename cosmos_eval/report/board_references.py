"""Published values on a board: rows of their own, which are not ranked, in the columns of their protocol."""

import pandas as pd

from cosmos_core.errors import RequestError
from cosmos_core.printable import printable

COLUMNS = (
    "paper", "model", "spec", "arch", "pretraining", "benchmark", "metric", "value", "decimals", "source",
    "fingerprint", "dataset",
)  # fmt: skip
"""Columns of a frame of references. `benchmark` and `metric` are our names; `value` a fraction, or a rank; `decimals`
of percent; `fingerprint` and `dataset` where the file has them, else empty: then the benchmark is the shipped
definition with this name. `model`, `benchmark`, `metric` and `value` are needed."""


def place_references(
    references: pd.DataFrame, columns: pd.DataFrame, first: int
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Rows numbered from `first`, their cells, and what could not be placed.

    A value belongs to the columns of its benchmark and metric that have its protocol. Two values of one model for one
    column (papers correct themselves) make two rows.
    """
    placed = _add_labels_and_fingerprints(references)
    ids = columns.loc[columns["kind"] == "metric", ["benchmark", "metric", "fingerprint", "dataset"]]
    ids = ids.rename(columns={"fingerprint": "protocol", "dataset": "data"}).assign(column=ids.index)
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
    if placed.empty:
        return pd.DataFrame(), pd.DataFrame(), [*remarks, "No published value belongs to a column of this table."]
    placed["again"] = placed.groupby([*_MODEL, "column"], sort=False).cumcount()
    placed["row"] = first + placed.groupby([*_MODEL, "again"], sort=False).ngroup()
    rows = placed.groupby("row", sort=True).agg(
        label=("label", "first"),
        spec=("spec", "first"),
        paper=("paper", "first"),
        sources=("source", lambda all_: "; ".join(text for text in dict.fromkeys(all_) if text)),
    )
    source = [": ".join(word for word in words if word) for words in zip(rows["paper"], rows["sources"], strict=True)]
    rows = rows.assign(digest="", precision="", source=source)
    cells = placed[["row", "column", "value", "decimals", "source"]].assign(
        low=float("nan"), high=float("nan"), n=pd.array([pd.NA] * len(placed), dtype="Int64"), place=pd.NA, started=""
    )
    return rows, cells, remarks


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
