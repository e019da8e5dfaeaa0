"""Cells as text, and groups of columns: shared by all formats that people read."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pandas as pd

from cosmos_eval.report.board import Board
from cosmos_eval.report.board_columns import AVERAGE
from cosmos_eval.report.names import short

DECIMALS = 1
OF_ONE_CLASS = "/iou"
WITHOUT_WIDTH = "†"
"""Marks a share whose interval has no width, as older results have at 0 and 100 %."""
ABOUT_MARK = (
    f"{WITHOUT_WIDTH}: an older result, whose interval has no width because no resample saw another outcome. Run "
    "it again with --overwrite for a correct interval"
)
PARTS = 60
"""Metrics of single parts that fit into one table."""
PARTS_OF_HEADLINE = 80
"""Headline metrics of single parts that do: both directions of Crossmodal-3600's 36 languages."""
WIDE = 12
"""Headline columns that fit into one table; where there are more, each task has its own."""
TASK_HEADINGS = {"": "All tasks"}
"""Headings of tasks other than the capitalised name; the empty one: averages over several tasks."""


@dataclass(frozen=True)
class Shown:
    """A cell as texts in percent (ranks as they are); `low` and `high` are empty where there is no interval."""

    value: str
    low: str
    high: str
    place: int | None
    mark: str = ""
    """WITHOUT_WIDTH, or nothing."""

    @property
    def interval(self) -> str:
        """`[low, high]`, or nothing."""
        return f"[{self.low}, {self.high}]" if self.low else ""


def shown(board: Board, row: int, column: int) -> Shown | None:
    """One cell as text; None where nothing was measured."""
    cell = board.cell(row, column)
    if cell is None:
        return None
    scale = 100 if board.columns.at[column, "higher_is_better"] else 1
    decimals = DECIMALS if pd.isna(cell.decimals) else int(cell.decimals)
    value, low, high = (
        "" if pd.isna(number) else f"{number * scale:.{decimals}f}" for number in (cell.value, cell.low, cell.high)
    )
    mark = WITHOUT_WIDTH if is_without_width(board, cell) else ""
    return Shown(value, low, high, None if pd.isna(cell.place) else int(cell.place), mark)


def is_without_width(board: Board, cell: Any) -> bool:
    """Whether a share has an interval without width. Ranks may: the median of many equal ranks is certain."""
    return bool(cell.low == cell.high and board.columns.at[cell.column, "higher_is_better"])


def without_width_line(board: Board) -> str:
    """What the mark means, in one line; empty where no cell has it."""
    return ABOUT_MARK if any(is_without_width(board, cell) for cell in board.cells.itertuples(index=False)) else ""


def task_heading(task: str) -> str:
    """The heading of a task in tables."""
    return TASK_HEADINGS.get(task, task.replace("-", " ").capitalize())


def sections(board: Board) -> list[tuple[str, list[int]]]:
    """Headline columns that make one table, with a title: all of them where they fit, else those of each task."""
    headline = board.headline()
    if len(headline) <= WIDE:
        return [("", headline.index.tolist())] if len(headline) else []
    return [(task_heading(str(task)), of_task.index.tolist()) for task, of_task in headline.groupby("task", sort=False)]


def by_task(board: Board, columns: list[int]) -> list[tuple[str, list[int]]]:
    """Neighbouring columns of one task, with its heading."""
    return [(task_heading(board.columns.at[run[0], "task"]), run) for run in _runs(columns, board.columns["task"])]


def by_benchmark(board: Board, columns: list[int]) -> list[tuple[str, list[int]]]:
    """Neighbouring columns of one benchmark, with its name; each average is a group of its own."""
    groups = board.columns["group"].where(board.columns["kind"] != AVERAGE, -1 - board.columns.index.to_series())
    return [(board.columns.at[run[0], "benchmark"], run) for run in _runs(columns, groups)]


def _runs(columns: list[int], key: pd.Series) -> list[list[int]]:
    return [list(run) for _, run in groupby(columns, key=lambda column: key[column])]


def detail(columns: pd.DataFrame) -> list[int]:
    """The metrics of one benchmark that its table shows. Where it has many classes (171) or parts (70 tags, each with
    six metrics), only those over all of them, and the headline metrics of the parts (languages) if these are not too
    many; leaderboard.csv, leaderboard.json and every RESULT.json hold the others.
    """
    metrics = columns["metric"]
    parts = set(metrics[metrics.str.contains("/")])
    headline = set(metrics[columns["headline"]])
    of_headline = {metric for metric in parts if metric.rpartition("/")[2] in headline}
    shown_parts = parts if len(parts) <= PARTS else of_headline if len(of_headline) <= PARTS_OF_HEADLINE else set()

    def is_shown(metric: str) -> bool:
        if metric.endswith(OF_ONE_CLASS):
            return False
        return "/" not in metric or "/macro_" in metric or metric in shown_parts

    return [column for column, metric in metrics.items() if is_shown(metric)]


def with_values(board: Board, rows: list[int], columns: list[int]) -> list[int]:
    """Those of the rows that have at least one of the columns."""
    return [row for row in rows if any(board.cell(row, column) is not None for column in columns)]


def about(board: Board, column: int) -> str:
    """What a column was measured with, in short: `protocol fc0d3282, data a4a753a7, n = 1,000`."""
    fields: Any = board.columns.loc[column]
    if fields["kind"] == AVERAGE:
        return f"macro mean of {fields['n']} ({fields['fingerprint'][:8]})"
    data = f"data {fields['dataset'][:8]}, n = {fields['n']:,}" if fields["dataset"] else "not measured"
    return f"protocol {fields['fingerprint'][:8]}, {data}"


def metric_head(board: Board, column: int) -> str:
    """The metric of a column; of an average that takes several, that it is of several."""
    fields: Any = board.columns.loc[column]
    if fields["kind"] != AVERAGE:
        return short(fields["metric"])
    metrics = {_joined(of_benchmark) for of_benchmark in fields["of_metrics"]}
    return metrics.pop() if len(metrics) == 1 else "several metrics"


def _joined(metrics: Sequence[str]) -> str:
    return " and ".join(map(short, metrics))


def average_lines(board: Board) -> list[str]:
    """What each average is the mean of: benchmarks, and the metric of each."""
    return [
        f"{column.title}: the {'weighted' if len(set(column.of_weights)) > 1 else 'plain'} mean of "
        f"{_members_of_average(column.of, column.of_metrics)}{_weights_of_average(column.of, column.of_weights)}; "
        "missing where one of them is"
        for column in board.columns.itertuples()
        if column.kind == AVERAGE
    ]


def _members_of_average(benchmarks: Sequence[str], metrics: Sequence[Sequence[str]]) -> str:
    """`top-1 over a, b, c (mean per class)`: the metric that most benchmarks share, and the others' own ones."""
    texts = [_joined(of_benchmark) for of_benchmark in metrics]
    most, count = Counter(texts).most_common(1)[0]
    if count == 1:
        return ", ".join(f"{name} ({text})" for name, text in zip(benchmarks, texts, strict=True))
    names = [name if text == most else f"{name} ({text})" for name, text in zip(benchmarks, texts, strict=True)]
    return f"{most} over {', '.join(names)}"


def _weights_of_average(benchmarks: Sequence[str], weights: Sequence[float]) -> str:
    """`, with the weights 2 (a, b), 1 (c)`; empty where all are equal."""
    if len(set(weights)) < 2:
        return ""
    names: dict[float, list[str]] = {weight: [] for weight in weights}
    for name, weight in zip(benchmarks, weights, strict=True):
        names[weight].append(name)
    return ", with the weights " + ", ".join(f"{weight:g} ({', '.join(of)})" for weight, of in names.items())


def limited_line(board: Board) -> str:
    """The results that no table ranks, in one line; empty where there are none."""
    limited = board.limited[["model", "benchmark", "limit"]].drop_duplicates()
    listed = "; ".join(
        f"{result.model} on {result.benchmark} ({result.limit} {'image' if result.limit == 1 else 'images'})"
        for result in limited.itertuples()
    )
    return f"Made with --limit, and so not ranked: {listed}." if listed else ""
