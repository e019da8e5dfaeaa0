"""What the HTML report shows, as plain data: models, protocols, results with their provenance, and the leaderboard."""

import json
import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cosmos_eval.metrics.names import is_rank
from cosmos_eval.page.classes import ClassData
from cosmos_eval.protocol.suite import Suite
from cosmos_eval.protocol.task_registry import measured_headlines
from cosmos_eval.report.board import MEASURED, PUBLISHED, Board, make_board
from cosmos_eval.report.cells import ABOUT_MARK, about, average_lines
from cosmos_eval.report.frame import distinct_labels, to_frame
from cosmos_eval.report.names import short
from cosmos_eval.results.portable import portable_text, portable_values
from cosmos_eval.results.record import Result, renamed, unchecked_legend

STEP = re.compile(r"(.*?)step-(\d{8})-([^/]+)/.*")
"""A folder with the results of one checkpoint, as an evaluation during training writes it."""


@dataclass(frozen=True)
class Reported:
    """A result, and its path relative to the reported folder."""

    result: Result
    path: str

    @property
    def step(self) -> str:
        """The training step in eight digits where the result is a point of a curve; else empty."""
        matched = STEP.fullmatch(self.path)
        return matched[2] if matched else ""

    @property
    def series(self) -> str:
        """Training and network of a point of a curve: the name of the curve."""
        matched = STEP.fullmatch(self.path)
        return f"{matched[1].removesuffix('evaluations/').strip('/')} {matched[3]}".strip() if matched else ""

    @property
    def named(self) -> Result:
        """The result; a point of a curve is labelled with its training, network and step."""
        if not self.step:
            return self.result
        label = f"{self.series}, step {int(self.step):,}"
        return renamed(self.result, label)


class Pool:
    """Values that many results share, each stored once and referred to by its number."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.numbers: dict[Hashable, int] = {}

    def add(self, item: Any, key: Hashable = None) -> int:
        """Add an item unless it is present; return its number. `key` identifies it (default: its content)."""
        key = json.dumps(item, sort_keys=True) if key is None else key
        if key not in self.numbers:
            self.numbers[key] = len(self.items)
            self.items.append(item)
        return self.numbers[key]


def report_data(
    reported: Sequence[Reported], references: pd.DataFrame | None = None, suite: Suite | None = None
) -> dict[str, Any]:
    """Results as data of the page; its leaderboard is the board that all other formats print.

    `models` are the rows of tables: the board's, then those that were measured with a limit only. `groups` are what may
    share a table: one benchmark under one protocol fingerprint on one dataset fingerprint. `results` hold values in the
    order of their group's `metrics`, [value, low, high, n], or 0 where there is none; `records` are what the results
    say of their models, `environments` likewise. `columns` and `cells` are the leaderboard's. A group with classes has
    `classes`, and its results [value, low, high] of each, unless their metrics have these.
    """
    # Of two measurements of the same benchmark the page shows the later one, as the board does.
    reported = sorted(reported, key=lambda item: item.result.timing.started)
    named = [item.named for item in reported]
    board = make_board(named, references, suite)
    rows, groups, records, environments = Pool(), Pool(), Pool(), Pool()
    for row in board.rows.itertuples():
        key: Hashable = (MEASURED, row.label, row.digest or row.spec, row.precision)
        if row.kind == PUBLISHED:
            key = (PUBLISHED, row.Index)
        rows.add({"label": row.label, "kind": row.kind, "source": row.source}, key=key)
    by_key = {key_of(result): result for result in named}
    for column in board.columns.itertuples():
        if (group_key := (column.benchmark, column.fingerprint, column.dataset)) in by_key:
            groups.add(group_of(by_key[group_key]), key=group_key)
    results: list[dict[str, Any]] = []
    classes = ClassData()
    for item, result, row_key in zip(reported, named, row_keys(named), strict=True):
        group = groups.items[index := groups.add(group_of(result), key=key_of(result))]
        for name in result.metrics:
            if name not in group["metrics"]:
                group["metrics"].append(name)
                group["short"].append(short(name))
        results.append(
            {
                "row": rows.add({"label": row_key[1], "kind": MEASURED, "source": ""}, key=row_key),
                "group": index,
                "record": records.add(portable_values(result.model.record())),
                "environment": environments.add(result.environment.record()),
                "precision": result.precision,
                "limit": result.limit,
                "n": result.dataset.n,
                "expected": result.dataset.n_expected,
                "timing": result.timing.record(),
                "samples": {"rows": result.samples.rows, "sha256": result.samples.sha256},
                "warnings": [portable_text(warning) for warning in result.warnings],
                "path": item.path,
                "values": {name: quadruple(metric) for name, metric in result.metrics.items()},
            }
        )
        if (of_classes := classes.add(result, group, item.path)) is not None:
            results[-1]["classes"] = of_classes
    for entry in results:
        entry["values"] = [entry["values"].get(name, 0) for name in groups.items[entry["group"]]["metrics"]]
    distinguish_titles(groups.items)
    return {
        "models": rows.items,
        "groups": groups.items,
        "records": records.items,
        "environments": environments.items,
        "results": results,
        **leaderboard_data(board, groups),
        "classesLeftOut": classes.left_out,
        "remarks": [*board.remarks, *average_lines(board), *remarks_of(named)],
    }


def leaderboard_data(board: Board, groups: Pool) -> dict[str, Any]:
    """The headline columns, averages among them, and their cells.

    A cell is [row, column, value, low, high, n, place, decimals, source], with null where the board has nothing.
    """
    headline = board.headline()
    position_of = {index: i for i, index in enumerate(headline.index)}
    columns = [
        {
            "title": column.title,
            "kind": column.kind,
            "task": column.task,
            "group": groups.numbers.get((column.benchmark, column.fingerprint, column.dataset)),
            "metric": column.metric,
            "about": about(board, column.Index),
            "of": list(column.of),
            "ofMetrics": [list(metrics) for metrics in column.of_metrics],
            "ofWeights": list(column.of_weights),
            "lowerIsBetter": not column.higher_is_better,
        }
        for column in headline.itertuples()
    ]
    cells = [
        [
            cell.row,
            position_of[cell.column],
            *(None if pd.isna(x) else float(x) for x in (cell.value, cell.low, cell.high)),
            *(None if pd.isna(x) else int(x) for x in (cell.n, cell.place, cell.decimals)),
            cell.source,
        ]
        for cell in board.cells.itertuples(index=False)
        if cell.column in position_of
    ]
    return {"columns": columns, "cells": cells}


def row_keys(results: Sequence[Result]) -> list[tuple[str, str, str, str]]:
    """The key of the board's row of each result; equal labels are distinguished as on the board."""
    if not results:
        return []
    frame = to_frame(results)
    frame["result"] = [i for i, result in enumerate(results) for _ in result.metrics]
    one_row_each = distinct_labels(frame).drop_duplicates("result")
    return [(MEASURED, row.model, row.digest or row.spec, row.precision) for row in one_row_each.itertuples()]


def key_of(result: Result) -> tuple[str, str, str]:
    """Return benchmark, protocol fingerprint and dataset fingerprint: results of one column have the same three."""
    return result.benchmark_name, result.benchmark.fingerprint, result.dataset.fingerprint


def group_of(result: Result) -> dict[str, Any]:
    """One benchmark under one protocol and on one dataset; its metrics are filled in by what results have."""
    task = result.benchmark.task
    return {
        "name": result.benchmark_name,
        "title": result.benchmark_name,
        "version": result.benchmark.version,
        "task": task,
        "fingerprint": result.benchmark.fingerprint,
        "dataset": result.dataset.fingerprint,
        "headlines": measured_headlines(task, result.primary, result.metrics),
        "metrics": [],
        "short": [],
    }


def distinguish_titles(groups: Sequence[dict[str, Any]]) -> None:
    """Add the fingerprints to the titles of a benchmark that has several."""
    names = [group["name"] for group in groups]
    for group in groups:
        if names.count(group["name"]) > 1:
            group["title"] += f" ({group['fingerprint'][:8]}/{group['dataset'][:8]})"


def quadruple(metric: Any) -> list[float]:
    """Value, low, high and n with all digits: the page rounds as other formats do, and its dialogs show all."""
    return [metric.value, metric.low, metric.high, metric.n]


def remarks_of(results: Iterable[Result]) -> list[str]:
    """What marks mean, and the warnings of results, each with its model and benchmark."""
    results = list(results)
    metrics = ((name, metric) for result in results for name, metric in result.metrics.items())
    marked = any(metric.low == metric.high and not is_rank(name) for name, metric in metrics)
    lines = (f"{result.label}, {result.benchmark_name}: {warning}" for result in results for warning in result.warnings)
    return [*([ABOUT_MARK] if marked else []), *unchecked_legend(results), *dict.fromkeys(map(portable_text, lines))]
