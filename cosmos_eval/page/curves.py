"""Curves of metrics over training steps as data of the page, from every evaluations.jsonl below a folder."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cosmos_eval.report.curves import measurement_conditions
from cosmos_eval.report.evaluations import EVALUATIONS, Line, headlines, read_evaluations
from cosmos_eval.report.tables import short

POINTS = 150
"""Points of one curve at most; a longer one is thinned evenly, its last point kept."""
TEXTS = ("network", "benchmark", "task", "primary", "precision", "digest", "fingerprint", "dataset")


def curve_data(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Panels of curves, and remarks on what was left out.

    A panel is one headline metric under one protocol, dataset, precision and limit; a curve in it is one network of one
    training. A point holds the step, value, low, high, n, the digest of the weights and the duration in seconds.
    """
    panels: dict[tuple[str, ...], dict[str, Any]] = {}
    remarks = []
    files = list(evaluation_files(folder))
    for path in files:
        lines = [line for line in read_evaluations(path) if is_complete(line)]
        run = path.parent.relative_to(folder).as_posix().removeprefix(".") if len(files) > 1 else ""
        for line in sorted(lines, key=lambda line: line["step"]):
            for name in headlines(line):
                add_point(panels, line, name, " ".join(filter(None, (run, line["network"]))))
    names = [panel["name"] for panel in panels.values()]
    for key, panel in panels.items():
        panel["title"] = panel.pop("name")
        if names.count(panel["title"]) > 1:
            panel["title"] += f" ({', '.join(key[2:])})"
        elif panel["limit"]:
            panel["title"] += f" (first {panel['limit']})"
        for series in panel["series"]:
            if len(series["points"]) > POINTS:
                remarks.append(
                    f"{panel['title']}, {series['name']}: {POINTS} of {len(series['points']):,} points are drawn"
                )
                series["points"] = thinned(series["points"])
    return list(panels.values()), remarks


def evaluation_files(folder: Path) -> Iterator[Path]:
    """Every evaluations.jsonl below a folder, sorted."""
    for current, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if EVALUATIONS in names:
            yield Path(current) / EVALUATIONS


def is_complete(line: Line) -> bool:
    """Whether a line has all fields of a curve with the right types: the file may have been edited."""
    return (
        all(isinstance(line.get(key), str) for key in TEXTS)
        and is_count(line.get("step"))
        and (line.get("limit") is None or is_count(line["limit"]))
        and (line.get("seconds") is None or is_finite(line["seconds"]))
        and all(
            isinstance(metric, dict)
            and all(is_finite(metric.get(key)) for key in ("value", "low", "high"))
            and is_count(metric.get("n"))
            for metric in (line["metrics"].get(name) for name in headlines(line))
        )
    )


def is_finite(number: Any) -> bool:
    """Whether it is a number that JavaScript holds exactly: not NaN, and below 2^53."""
    return isinstance(number, int | float) and abs(number) < 2**53


def is_count(number: Any) -> bool:
    """Whether it is a non-negative integer that JavaScript holds exactly."""
    return type(number) is int and 0 <= number < 2**53


def add_point(panels: dict[tuple[str, ...], dict[str, Any]], line: Line, metric: str, series: str) -> None:
    """Add one point to the curve `series` of its panel; both are created if needed."""
    key = (line["benchmark"], metric, *measurement_conditions(line))
    panel = panels.setdefault(
        key,
        {
            "name": f"{line['benchmark']} {short(metric)}",
            "metric": metric,
            "limit": line["limit"],
            "shared": {key: line[key] for key in ("benchmark", "fingerprint", "dataset", "precision", "limit")},
            "series": [],
        },
    )
    curve = next((existing for existing in panel["series"] if existing["name"] == series), None)
    if curve is None:
        panel["series"].append(curve := {"name": series, "points": []})
    value = line["metrics"][metric]
    numbers = [value[key] for key in ("value", "low", "high")]
    curve["points"].append([line["step"], *numbers, value["n"], line["digest"], line.get("seconds")])


def thinned(points: Sequence[Any], most: int = POINTS) -> list[Any]:
    """`most` of the points, spread evenly, the first and the last among them."""
    return [points[round(i * (len(points) - 1) / (most - 1))] for i in range(most)]
