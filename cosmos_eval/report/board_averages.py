"""The averages that a suite declares, as columns of a board, with their intervals."""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cosmos_eval.metrics.average_interval import AverageInterval
from cosmos_eval.protocol.suite import Average, Suite
from cosmos_eval.report.board_columns import AVERAGE, FIELDS, untransformed_names

FindInterval = Callable[[Sequence[tuple[int, str, float]]], AverageInterval | None]
"""(index of the result, metric, weight) of each member of an average -> its interval, or None."""


Members = Sequence[Sequence[int]]
"""The columns that an average reads, of each of its benchmarks; the mean of one benchmark's columns counts once."""


def average_columns(
    columns: pd.DataFrame, cells: pd.DataFrame, suite: Suite | None, find_interval: FindInterval | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Put the suite's averages behind the columns of their task, and their cells among the cells.

    An average is over the suite's own protocols; of data sets with different fingerprints it takes the one that most
    rows were measured on. A row that lacks a benchmark has no average. Where all of them were measured with the
    embeddings transformed in one way, there is an average of these, too.

    Args:
        columns: of `board_columns.column_table`.
        cells: row, column, value, low, high, n, started, and, for intervals, `result` (index of the result).
        suite: declares the averages.
        find_interval: computes the interval of an average; None: averages have none.
    """
    if suite is None or not suite.averages:
        return columns, cells
    table: list[tuple[int, dict[str, Any]]] = [(number, row) for number, row in enumerate(columns.to_dict("records"))]
    complete: list[tuple[int, Members]] = []  # index of an average in `table`, and the columns that it averages
    last_index_of_task = {row["task"]: number for number, row in table}
    all_transforms = dict.fromkeys(["", *columns["transforms"]])
    for average, transforms in [(average, transforms) for average in suite.averages for transforms in all_transforms]:
        of_transforms = columns[columns["transforms"] == transforms]
        found, members = _find_members(average, suite, of_transforms, cells)
        if transforms and members is None:
            continue
        tasks = {benchmark.task for benchmark, _ in suite.members(average)}
        task = tasks.pop() if len(tasks) == 1 else ""
        if members is not None:  # else no result has one of the metrics, and no row has the average
            complete.append((len(table), members))
        row = _average(average, suite, columns.loc[found], task, transforms)
        table.append((last_index_of_task.get(task, len(columns)), row))
    # `sorted` is stable: averages come behind the last column of their task, in the suite's order
    order = sorted(range(len(table)), key=lambda number: (table[number][0], number))
    new_index = {old: index for index, old in enumerate(order)}
    all_columns = pd.DataFrame([table[old][1] for old in order], columns=list(FIELDS))
    metrics = columns["metric"].to_dict()
    parts = [cells.assign(column=cells["column"].map(new_index))]
    parts += [_means(cells, metrics, members, new_index[number], find_interval) for number, members in complete]
    return all_columns, pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)


def _find_members(
    average: Average, suite: Suite, columns: pd.DataFrame, cells: pd.DataFrame
) -> tuple[list[int], Members | None]:
    """The columns that exist of those that an average reads, and all of them by benchmark if none is missing."""
    members: list[list[int]] = []
    is_complete = True
    for benchmark, metrics in suite.members(average):
        is_of_benchmark = untransformed_names(columns) == benchmark.name
        of_benchmark = columns[is_of_benchmark & (columns["fingerprint"] == benchmark.fingerprint)]
        found = []
        for metric in metrics:
            candidates = of_benchmark.index[of_benchmark["metric"] == metric].tolist()
            column = max(candidates, key=lambda column: (cells["column"] == column).sum(), default=None)
            found += [] if column is None else [column]
        is_complete &= len(found) == len(metrics)
        members.append(found)
    return [column for found in members for column in found], members if is_complete else None


def _average(average: Average, suite: Suite, members: pd.DataFrame, task: str, transforms: str) -> dict[str, Any]:
    of = [[row.benchmark, row.metric, row.fingerprint, row.dataset] for row in members.itertuples()]
    text = json.dumps(of, ensure_ascii=False)

    def with_transforms(name: str) -> str:
        return f"{name} ({transforms})" if transforms else name

    name = with_transforms(average.name)
    return {
        "kind": AVERAGE, "benchmark": name, "metric": average.metric, "task": task, "version": 0,
        "fingerprint": hashlib.sha256(text.encode()).hexdigest(), "dataset": "", "n": len(average.benchmarks),
        "images": 0, "items": 0,
        "left_out": 0, "higher_is_better": True, "headline": True, "primary": False, "group": -1,
        "of": tuple(map(with_transforms, average.benchmarks)),
        "of_metrics": tuple(metrics for _, metrics in suite.members(average)), "title": name, "transforms": transforms,
    }  # fmt: skip


def _means(
    cells: pd.DataFrame, metrics: dict[Any, str], members: Members, column: int, find_interval: FindInterval | None
) -> pd.DataFrame:
    """The cells of one average: of the rows that have all of its members."""
    weights = {member: 1 / (len(members) * len(found)) for found in members for member in found}
    rows = []
    for row, of_row in cells[cells["column"].isin(weights)].groupby("row"):
        if len(of_row) < len(weights):
            continue
        values = dict(zip(of_row["column"], of_row["value"], strict=True))
        value = pd.Series([pd.Series([values[member] for member in found]).mean() for found in members]).mean()
        interval = None
        if find_interval is not None:
            pairs = zip(of_row["result"].astype(int), of_row["column"], strict=True)
            interval = find_interval([(number, metrics[member], weights[member]) for number, member in pairs])
        low, high = (interval.low, interval.high) if interval else (np.nan, np.nan)
        rows.append({"row": row, "column": column, "value": value, "low": low, "high": high})
    return pd.DataFrame(rows, columns=["row", "column", "value", "low", "high"]).assign(n=len(members))
