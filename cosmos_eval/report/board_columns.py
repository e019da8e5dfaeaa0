"""The columns of a board: one for each metric of a benchmark under one protocol on one set of data."""

from typing import Any

import pandas as pd

from cosmos_eval.metrics.names import is_rank
from cosmos_eval.protocol.suite import Suite
from cosmos_eval.protocol.task_registry import TASKS, headlines
from cosmos_eval.report.names import short

METRIC, AVERAGE = "metric", "average"
FIELDS = (
    "kind", "benchmark", "metric", "task", "version", "fingerprint", "dataset", "n", "images", "items", "left_out",
    "higher_is_better", "headline", "primary", "group", "of", "of_metrics", "of_weights", "title",
    "transforms",
)  # fmt: skip


def column_table(full: pd.DataFrame, suite: Suite | None = None) -> pd.DataFrame:
    """(columns, FIELDS): by task, then in the suite's order or that of the results, headline metrics as they come.

    Args:
        full: a long frame of results that were not limited.
        suite: its benchmarks have a column for each headline metric even where no result has it; it may name other
            headline metrics than the task.
    """
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in full.drop_duplicates(["benchmark", "fingerprint", "dataset", "metric"]).itertuples():
        columns = groups.setdefault((row.benchmark, row.fingerprint, row.dataset), [])
        columns.append({key: getattr(row, key) for key in FIELDS if hasattr(row, key)})
    if suite is not None:
        measured = {key[:2] for key in groups}
        for benchmark in suite.benchmarks:
            if (benchmark.name, benchmark.fingerprint) not in measured:
                groups[benchmark.name, benchmark.fingerprint, ""] = _unmeasured(benchmark, suite)
    order = _order(groups, suite)
    names = [key[0] for key in order]
    table: list[dict[str, Any]] = []
    for number, key in enumerate(order):
        columns = groups[key]
        primary = [column["metric"] for column in columns if column["primary"]]
        wanted = _headline_of(suite, key[0], columns[0]["transforms"]) or headlines(columns[0]["task"], *primary)
        headline = [name for name in wanted if name in {column["metric"] for column in columns}] or primary
        suffix = f" ({key[1][:8]}/{key[2][:8]})" if names.count(key[0]) > 1 else ""
        for column in columns:
            metric = column["metric"]
            added = {
                "kind": METRIC,
                "group": number,
                "of": (),
                "of_metrics": (),
                "of_weights": (),
                "title": f"{key[0]} {short(metric)}{suffix}",
            }
            table.append(
                {
                    **column,
                    **added,
                    "higher_is_better": not is_rank(metric),
                    "headline": metric in headline,
                }
            )
    return pd.DataFrame(table, columns=list(FIELDS)).astype({"higher_is_better": bool, "headline": bool})


def _headline_of(suite: Suite | None, name: str, transforms: str) -> tuple[str, ...]:
    """Headline metrics that a suite names for a benchmark, if it does."""
    return suite.headlines.get(untransformed_name(name, transforms), ()) if suite else ()


def _unmeasured(benchmark: Any, suite: Suite) -> list[dict[str, Any]]:
    """Columns of a benchmark without results: its headline metrics, without data."""
    primary = benchmark.metrics["primary"]
    common = {"benchmark": benchmark.name, "task": benchmark.task, "version": benchmark.version, "dataset": ""}
    common |= {"fingerprint": benchmark.fingerprint, "n": 0, "images": 0, "items": 0, "left_out": 0, "transforms": ""}
    names = dict.fromkeys([*(suite.headlines.get(benchmark.name) or headlines(benchmark.task, primary)), primary])
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


def untransformed_name(name: str, transforms: str) -> str:
    """The name of a benchmark without what was done to embeddings (`Result.benchmark_name`)."""
    return name.removesuffix(f" ({transforms})") if transforms else name


def untransformed_names(frame: pd.DataFrame) -> pd.Series:
    """The column `benchmark` of a frame without what was done to embeddings, which its column `transforms` says."""
    names = [untransformed_name(*pair) for pair in zip(frame["benchmark"], frame["transforms"], strict=True)]
    return pd.Series(names, index=frame.index, dtype=object)
