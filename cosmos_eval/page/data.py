"""What the HTML report shows, as plain data: models, protocols, results with their provenance, and the leaderboard."""

import json
import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cosmos_eval.metrics.names import is_rank
from cosmos_eval.protocol.suite import Suite
from cosmos_eval.protocol.task_registry import headlines
from cosmos_eval.report.board import MEASURED, PUBLISHED, Board, make_board
from cosmos_eval.report.cells import ABOUT_MARK, about, average_lines
from cosmos_eval.report.frame import distinct_labels, to_frame
from cosmos_eval.report.names import short
from cosmos_eval.results.portable import portable_text, portable_values
from cosmos_eval.results.record import Result, renamed, unchecked_legend

STEP = re.compile(r"(.*?)step-(\d{8})-([^/]+)/.*")
"""A folder of one checkpoint's results, as an evaluation during a training leaves it."""


@dataclass(frozen=True)
class Found:
    """A result and where it lies, relative to the reported folder."""

    result: Result
    path: str

    @property
    def step(self) -> str:
        """The step that it was measured at, eight digits, where it is a point of a curve; else empty."""
        matched = STEP.fullmatch(self.path)
        return matched[2] if matched else ""

    @property
    def series(self) -> str:
        """The training and network of such a point, as its curve is called."""
        matched = STEP.fullmatch(self.path)
        return f"{matched[1].removesuffix('evaluations/').strip('/')} {matched[3]}".strip() if matched else ""

    @property
    def named(self) -> Result:
        """The result, called by its training, network and step where it is such a point."""
        if not self.step:
            return self.result
        label = f"{self.series}, step {int(self.step):,}"
        return renamed(self.result, label)


class Pool:
    """Things that many results share, kept once; they are called by number."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.known: dict[Hashable, int] = {}

    def add(self, item: Any, key: Hashable = None) -> int:
        """The number of an item, which is known by `key`, or else by what it holds."""
        key = json.dumps(item, sort_keys=True) if key is None else key
        if key not in self.known:
            self.known[key] = len(self.items)
            self.items.append(item)
        return self.known[key]


def report_data(
    found: Sequence[Found], references: pd.DataFrame | None = None, suite: Suite | None = None
) -> dict[str, Any]:
    """Results as data of the page; its leaderboard is the board that every other format prints.

    `models` are the rows of tables: the board's, then those that were measured with a limit only. `groups` are what may
    share a table: one benchmark under one protocol fingerprint on one dataset fingerprint. `results` hold values in the
    order of their group's `metrics`, [value, low, high, n], or 0 where there is none; `records` are what the results
    say of their models, `environments` likewise. `columns` and `cells` are the leaderboard's.
    """
    # Of two measurements of one thing the page shows the later one, which the board has, too.
    found = sorted(found, key=lambda one: one.result.timing["started"])
    named = [one.named for one in found]
    board = make_board(named, references, suite)
    rows, groups, records, environments = Pool(), Pool(), Pool(), Pool()
    for row in board.rows.itertuples():
        key: Hashable = (MEASURED, row.label, row.digest or row.spec, row.precision)
        if row.kind == PUBLISHED:
            key = (PUBLISHED, row.Index)
        rows.add({"label": row.label, "kind": row.kind, "source": row.source}, key=key)
    by_key = {key_of(result): result for result in named}
    for column in board.columns.itertuples():
        if (own := (column.benchmark, column.fingerprint, column.dataset)) in by_key:
            groups.add(group_of(by_key[own]), key=own)
    results = []
    for one, result, row_key in zip(found, named, row_keys(named), strict=True):
        group = groups.items[index := groups.add(group_of(result), key=key_of(result))]
        for name in result.metrics:
            if name not in group["metrics"]:
                group["metrics"].append(name)
                group["short"].append(short(name))
        results.append(
            {
                "row": rows.add({"label": row_key[1], "kind": MEASURED, "source": ""}, key=row_key),
                "group": index,
                "record": records.add(portable_values(result.model)),
                "environment": environments.add(result.environment),
                "precision": result.precision,
                "limit": result.limit,
                "n": result.dataset["n"],
                "expected": result.dataset["n_expected"],
                "timing": result.timing,
                "samples": {key: result.samples[key] for key in ("rows", "sha256")},
                "warnings": [portable_text(one) for one in result.warnings],
                "path": one.path,
                "values": {name: quadruple(metric) for name, metric in result.metrics.items()},
            }
        )
    for entry in results:
        entry["values"] = [entry["values"].get(name, 0) for name in groups.items[entry["group"]]["metrics"]]
    tell_apart(groups.items)
    return {
        "models": rows.items,
        "groups": groups.items,
        "records": records.items,
        "environments": environments.items,
        "results": results,
        **leaderboard_data(board, groups),
        "remarks": [*board.remarks, *average_lines(board), *remarks_of(named)],
    }


def leaderboard_data(board: Board, groups: Pool) -> dict[str, Any]:
    """Columns that people look at first, averages among them, and their cells.

    A cell is [row, column, value, low, high, n, place, decimals, source], with null where the board has nothing.
    """
    headline = board.headline()
    number = {index: place for place, index in enumerate(headline.index)}
    columns = [
        {
            "title": column.title,
            "kind": column.kind,
            "task": column.task,
            "group": groups.known.get((column.benchmark, column.fingerprint, column.dataset)),
            "metric": column.metric,
            "about": about(board, column.Index),
            "of": list(column.of),
            "lowerIsBetter": not column.higher_is_better,
        }
        for column in headline.itertuples()
    ]
    cells = [
        [
            cell.row,
            number[cell.column],
            *(None if pd.isna(x) else float(x) for x in (cell.value, cell.low, cell.high)),
            *(None if pd.isna(x) else int(x) for x in (cell.n, cell.place, cell.decimals)),
            cell.source,
        ]
        for cell in board.cells.itertuples(index=False)
        if cell.column in number
    ]
    return {"columns": columns, "cells": cells}


def row_keys(results: Sequence[Result]) -> list[tuple[str, str, str, str]]:
    """What each result's row of the board is known by: labels are told apart as the board does it."""
    if not results:
        return []
    frame = to_frame(results)
    frame["result"] = [i for i, result in enumerate(results) for _ in result.metrics]
    rows = distinct_labels(frame).drop_duplicates("result")
    return [(MEASURED, row.model, row.digest or row.spec, row.precision) for row in rows.itertuples()]


def key_of(result: Result) -> tuple[str, str, str]:
    """What results must share to stand in one column."""
    return result.benchmark["name"], result.benchmark["fingerprint"], result.dataset["fingerprint"]


def group_of(result: Result) -> dict[str, Any]:
    """One benchmark under one protocol and on one dataset; its metrics are filled in by what results have."""
    task = result.benchmark["task"]
    return {
        "name": result.benchmark["name"],
        "title": result.benchmark["name"],
        "version": result.benchmark["version"],
        "task": task,
        "fingerprint": result.benchmark["fingerprint"],
        "dataset": result.dataset["fingerprint"],
        "headlines": [name for name in headlines(task, result.primary) if name in result.metrics] or [result.primary],
        "metrics": [],
        "short": [],
    }


def tell_apart(groups: Sequence[dict[str, Any]]) -> None:
    """A benchmark that stands under several fingerprints shows them in its title."""
    names = [group["name"] for group in groups]
    for group in groups:
        if names.count(group["name"]) > 1:
            group["title"] += f" ({group['fingerprint'][:8]}/{group['dataset'][:8]})"


def quadruple(metric: Any) -> list[float]:
    """Value, low, high and n, with all digits: the page rounds as other formats do, and tells the exact value."""
    return [metric.value, metric.low, metric.high, metric.n]


def remarks_of(results: Iterable[Result]) -> list[str]:
    """What marks mean, and warnings of results, each with whose they are."""
    results = list(results)
    metrics = ((name, metric) for one in results for name, metric in one.metrics.items())
    marked = any(metric.low == metric.high and not is_rank(name) for name, metric in metrics)
    lines = (f"{one.label}, {one.benchmark['name']}: {warning}" for one in results for warning in one.warnings)
    return [*([ABOUT_MARK] if marked else []), *unchecked_legend(results), *dict.fromkeys(map(portable_text, lines))]
