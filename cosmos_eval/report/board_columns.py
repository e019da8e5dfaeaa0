"""The columns of a board: one for each metric of a benchmark under one protocol on one set of data, and averages."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from cosmos_eval.metrics.names import is_rank
from cosmos_eval.protocol.suite import PRIMARY, Average, Suite
from cosmos_eval.protocol.task_registry import TASKS, headlines
from cosmos_eval.report.names import short

METRIC, AVERAGE = "metric", "average"
FIELDS = (
    "kind", "benchmark", "metric", "task", "version", "fingerprint", "dataset", "n", "images", "items", "left_out",
    "higher_is_better", "headline", "primary", "group", "of", "title",
    "transforms",
)  # fmt: skip


def column_table(full: pd.DataFrame, suite: Suite | None = None) -> pd.DataFrame:
    """(columns, FIELDS): by task, then in the suite's order or that of the results, headline metrics as they come.

    Args:
        full: a long frame of results that were not limited.
        suite: its benchmarks have a column for each headline metric even where no result has it.
    """
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in full.drop_duplicates(["benchmark", "fingerprint", "dataset", "metric"]).itertuples():
        columns = groups.setdefault((row.benchmark, row.fingerprint, row.dataset), [])
        columns.append({key: getattr(row, key) for key in FIELDS if hasattr(row, key)})
    if suite is not None:
        measured = {key[:2] for key in groups}
        for benchmark in suite.benchmarks:
            if (benchmark.name, benchmark.fingerprint) not in measured:
                groups[benchmark.name, benchmark.fingerprint, ""] = _unmeasured(benchmark)
    order = _order(groups, suite)
    names = [key[0] for key in order]
    table: list[dict[str, Any]] = []
    for number, key in enumerate(order):
        columns = groups[key]
        primary = [column["metric"] for column in columns if column["primary"]]
        headline = [
            name for name in headlines(columns[0]["task"]) if name in {column["metric"] for column in columns}
        ] or primary
        suffix = f" ({key[1][:8]}/{key[2][:8]})" if names.count(key[0]) > 1 else ""
        for column in columns:
            metric = column["metric"]
            added = {"kind": METRIC, "group": number, "of": (), "title": f"{key[0]} {short(metric)}{suffix}"}
            table.append(
                {
                    **column,
                    **added,
                    "higher_is_better": not is_rank(metric),
                    "headline": metric in headline,
                }
            )
    return pd.DataFrame(table, columns=list(FIELDS)).astype({"higher_is_better": bool, "headline": bool})


def _unmeasured(benchmark: Any) -> list[dict[str, Any]]:
    """Columns of a benchmark without results: its headline metrics, without data."""
    primary = benchmark.metrics["primary"]
    common = {"benchmark": benchmark.name, "task": benchmark.task, "version": benchmark.version, "dataset": ""}
    common |= {"fingerprint": benchmark.fingerprint, "n": 0, "images": 0, "items": 0, "left_out": 0, "transforms": ""}
    names = dict.fromkeys([*headlines(benchmark.task), primary])
    return [{**common, "metric": name, "primary": name == primary} for name in names]


def _order(groups: dict[tuple[str, str, str], list[dict[str, Any]]], suite: Suite | None) -> list[tuple[str, str, str]]:
    tasks = {key: columns[0]["task"] for key, columns in groups.items()}
    transforms = {key: columns[0]["transforms"] for key, columns in groups.items()}
    names = [benchmark.name for benchmark in suite.benchmarks] if suite else []
    task_order = list(dict.fromkeys([*(benchmark.task for benchmark in suite.benchmarks)] if suite else TASKS.names()))
    task_order += [task for task in dict.fromkeys(tasks.values()) if task not in task_order]
    prints = {benchmark.name: benchmark.fingerprint for benchmark in suite.benchmarks} if suite else {}

    def sort_key(key: tuple[str, str, str]) -> tuple[int, int, bool, bool]:
        name, fingerprint, _ = key
        name = untransformed_name(name, transforms[key])
        return (
            task_order.index(tasks[key]),
            names.index(name) if name in names else 0,
            prints.get(name) != fingerprint,
            bool(transforms[key]),
        )

    return sorted(groups, key=sort_key)


def average_columns(
    columns: pd.DataFrame, cells: pd.DataFrame, suite: Suite | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Put the suite's averages behind the columns of their task, and their cells among the cells.

    An average is over the suite's own protocols; of data sets with different fingerprints it takes the one that most
    rows were measured on. A row that lacks a benchmark has no average. Averages have no interval: benchmarks often
    share images, so that their errors are not independent. Where all of them were measured with the embeddings
    transformed in one way, there is an average of these, too.
    """
    if suite is None or not suite.averages:
        return columns, cells
    tasks = {benchmark.name: benchmark.task for benchmark in suite.benchmarks}
    table: list[tuple[int, dict[str, Any]]] = [(number, row) for number, row in enumerate(columns.to_dict("records"))]
    complete: list[tuple[int, list[int]]] = []  # index of an average in `table`, and the columns that it averages
    last_index_of_task = {row["task"]: number for number, row in table}
    all_transforms = dict.fromkeys(["", *columns["transforms"]])
    for average, transforms in [(average, transforms) for average in suite.averages for transforms in all_transforms]:
        member_columns = [
            _member(columns[columns["transforms"] == transforms], cells, suite, name, average.metric)
            for name in average.benchmarks
        ]
        members = [column for column in member_columns if column is not None]
        if transforms and len(members) < len(member_columns):
            continue
        tasks_of_average = {tasks[name] for name in average.benchmarks}
        task = tasks_of_average.pop() if len(tasks_of_average) == 1 else ""
        if len(members) == len(member_columns):  # else no result has one of the metrics, and no row has the average
            complete.append((len(table), members))
        row = _average(average, columns.loc[members], task, transforms)
        table.append((last_index_of_task.get(task, len(columns)), row))
    # `sorted` is stable: averages come behind the last column of their task, in the suite's order
    order = sorted(range(len(table)), key=lambda number: (table[number][0], number))
    new_index = {old: index for index, old in enumerate(order)}
    all_columns = pd.DataFrame([table[old][1] for old in order], columns=list(FIELDS))
    moved = cells.assign(column=cells["column"].map(new_index))
    parts = [
        moved,
        *(
            _means(moved, [new_index[column] for column in members], new_index[position])
            for position, members in complete
        ),
    ]
    return all_columns, pd.concat([part for part in parts if len(part)] or [moved], ignore_index=True)


def _member(columns: pd.DataFrame, cells: pd.DataFrame, suite: Suite, name: str, metric: str) -> int | None:
    """The column of one benchmark that an average reads, if there is one."""
    benchmark = next(definition for definition in suite.benchmarks if definition.name == name)
    wanted = benchmark.metrics["primary"] if metric == PRIMARY else metric
    of_benchmark = (untransformed_names(columns) == name) & (columns["fingerprint"] == benchmark.fingerprint)
    candidates = columns.index[of_benchmark & (columns["metric"] == wanted)].tolist()
    return max(candidates, key=lambda column: (cells["column"] == column).sum(), default=None)


def untransformed_name(name: str, transforms: str) -> str:
    """The name of a benchmark without what was done to embeddings (`Result.benchmark_name`)."""
    return name.removesuffix(f" ({transforms})") if transforms else name


def untransformed_names(frame: pd.DataFrame) -> pd.Series:
    """The column `benchmark` of a frame without what was done to embeddings, which its column `transforms` says."""
    names = [untransformed_name(*pair) for pair in zip(frame["benchmark"], frame["transforms"], strict=True)]
    return pd.Series(names, index=frame.index, dtype=object)


def _average(average: Average, members: pd.DataFrame, task: str, transforms: str) -> dict[str, Any]:
    of = [[row.benchmark, row.metric, row.fingerprint, row.dataset] for row in members.itertuples()]
    text = json.dumps(of, ensure_ascii=False)

    def with_transforms(name: str) -> str:
        return f"{name} ({transforms})" if transforms else name

    name = with_transforms(average.name)
    return {
        "kind": AVERAGE, "benchmark": name, "metric": average.metric, "task": task, "version": 0,
        "fingerprint": hashlib.sha256(text.encode()).hexdigest(), "dataset": "", "n": len(of), "images": 0, "items": 0,
        "left_out": 0, "higher_is_better": True, "headline": True, "primary": False, "group": -1,
        "of": tuple(map(with_transforms, average.benchmarks)), "title": name, "transforms": transforms,
    }  # fmt: skip


def _means(cells: pd.DataFrame, members: Sequence[int], column: int) -> pd.DataFrame:
    means = cells[cells["column"].isin(members)].groupby("row")["value"].agg(["mean", "size"])
    complete = means.loc[means["size"] == len(members), "mean"]
    return pd.DataFrame(
        {"row": complete.index, "column": column, "value": complete.to_numpy(), "low": float("nan"),
         "high": float("nan"), "n": len(members)}
    )  # fmt: skip
