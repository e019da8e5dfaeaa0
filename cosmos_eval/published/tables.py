"""A reproduction as Markdown (terminal and file) and JSON."""

import json
from collections.abc import Sequence
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.printable import plural
from cosmos_eval.published.plan import commands, data, not_run_lines, weights, what_to_run
from cosmos_eval.published.targets import (
    NOT_RUN,
    REPRODUCED,
    VERDICTS,
    AverageTarget,
    Cell,
    Measurement,
    Reproduction,
)
from cosmos_eval.report.markdown import escape, pipe_table
from cosmos_eval.report.names import MISSING, short
from cosmos_eval.results.portable import portable_spec

FORMATS = ("md", "json")
HEAD = ("model", "benchmark", "metric", "published", "measured", "difference", "tolerance", "verdict", "notes")
ROWS = 60
"""Figures up to which the table also has those that were not measured; otherwise they are listed below it."""
SCHEMA = 1


def check_formats(names: Sequence[str]) -> None:
    """RequestError for a format that is not known."""
    for name in names:
        if name not in FORMATS:
            raise RequestError(f"no format {name!r} of a reproduction; known: {', '.join(FORMATS)}")


def render(reproduction: Reproduction, name: str, results: str) -> str:
    """One reproduction as text in a format of FORMATS; `results`: the folder that the printed commands write to.

    Raises:
        RequestError: a format that is not known.
    """
    check_formats([name])
    return as_json(reproduction, results) if name == "json" else markdown(reproduction, results)


def summary(reproduction: Reproduction) -> str:
    """One line: numbers of figures and models, and of verdicts."""
    decide = [cell for cell in reproduction.cells if cell.target.decides]
    models = len({cell.target.spec for cell in decide})
    line = f"{plural(len(decide), 'published figure')} of {plural(models, 'model')}: {_counts(reproduction)}."
    if len(decide) < len(reproduction.cells):
        others = [cell.target for cell in reproduction.cells if not cell.target.decides]
        kinds = ["secondary"] if any(target.secondary for target in others) else []
        kinds += ["of an inferred protocol"] if any(not target.secondary for target in others) else []
        line += f" Figures that do not decide ({', '.join(kinds)}): {_counts(reproduction, deciding=False)}."
    return line


def _counts(reproduction: Reproduction, deciding: bool = True) -> str:
    return ", ".join(f"{reproduction.count(verdict, deciding)} {verdict}" for verdict in VERDICTS)


def markdown(reproduction: Reproduction, results: str) -> str:
    """Summary, table of measurements, known differences, refused results, and what to run for the rest."""
    parts = [f"# Reproduction of {reproduction.suite.name}", "", summary(reproduction)]
    reasons: dict[str, int] = {}
    has_several_papers = len({cell.target.paper for cell in reproduction.cells}) > 1
    rows = []
    for cell in reproduction.cells:
        rows += [_row(cell, measurement, has_several_papers, reasons) for measurement in cell.measured]
        if cell.incomplete or (not cell.measured and len(reproduction.cells) <= ROWS):
            figure = _figure(cell, cell.target.spec, has_several_papers)
            notes = " ".join(_sentences(cell.incomplete))
            rows.append([*figure, MISSING, MISSING, _tolerance(cell), NOT_RUN, notes])
    if rows:
        parts += [
            "",
            "Percent; difference and tolerance in percentage points. Reproduced: the measured figure rounds to the "
            "printed one; within: it differs by no more than rounding and the known differences with points.",
            "",
            pipe_table(HEAD, rows),
        ]
    if reasons:
        parts += ["", "Known differences:", ""]
        parts += [f"{number}. {escape(reason)}" for reason, number in reasons.items()]
    shown = [cell for cell in reproduction.cells if cell.measured or cell.incomplete or len(reproduction.cells) <= ROWS]
    sources = dict.fromkeys(f"{cell.target.paper}: {cell.target.source}" for cell in shown)
    if sources:
        parts += ["", "Published in:", "", *(f"- {escape(source)}" for source in sources)]
    refused = dict.fromkeys(line for cell in reproduction.cells for line in cell.refused)
    if refused:
        parts += ["", "Not compared:", "", *(f"- {escape(line)}" for line in refused)]
    parts += [f"\n{line}" for line in _left_out(reproduction)]
    lines = not_run_lines(reproduction)
    if lines:
        parts += ["", "## Not run", "", *(f"- {escape(line)}" for line in lines), ""]
        parts += what_to_run(reproduction, results)
    return "\n".join(parts) + "\n"


def _left_out(reproduction: Reproduction) -> list[str]:
    """Lines about figures and benchmarks that are left out."""
    lines = []
    if reproduction.secondary_left_out:
        reported = (
            "is reported by third parties only"
            if reproduction.secondary_left_out == 1
            else "are reported by third parties only"
        )
        lines.append(
            f"{plural(reproduction.secondary_left_out, 'more figure')} {reported} and left out; --secondary shows them."
        )
    if reproduction.without_spec:
        lines.append(
            f"{plural(reproduction.without_spec, 'figure')} of these tables left out: no model spec is known for them."
        )
    wanted = {name for cell in reproduction.cells for name in cell.target.benchmarks}
    without = [benchmark.name for benchmark in reproduction.suite.benchmarks if benchmark.name not in wanted]
    if without:
        lines.append(f"No published figure of the requested models on: {', '.join(without)}.")
    return lines


def _figure(cell: Cell, model: str, has_several_papers: bool) -> list[str]:
    """The published cells of a row; with several papers the paper is named."""
    target = cell.target
    printed = f"{target.printed} {escape(target.paper.partition(' ')[0])}" if has_several_papers else target.printed
    return [escape(model), target.benchmark, escape(short(target.metric)), printed]


def _tolerance(cell: Cell) -> str:
    return f"{cell.target.tolerance:.3f}".rstrip("0").rstrip(".")


def _row(cell: Cell, result: Measurement, has_several_papers: bool, reasons: dict[str, int]) -> list[str]:
    """A row of the table; reasons of differences are numbered in order of appearance."""
    target = cell.target
    reason = "secondary" if target.secondary else "inferred protocol"
    notes = [*result.notes, *([] if target.decides else [f"{reason}, does not decide"])]
    if isinstance(target, AverageTarget) and result.verdict != REPRODUCED and target.points:
        notes.append(f"its benchmarks have known differences, on average of up to {target.points:g} points")
    if result.verdict != REPRODUCED:
        for difference in target.differences:
            points = f" (up to {difference.points:g} points)" if difference.points else ""
            number = reasons.setdefault(f"{target.benchmark}: {difference.why}{points}", len(reasons) + 1)
            notes.append(f"({number})")
    verdict = result.verdict if result.verdict == REPRODUCED else f"**{result.verdict}**"
    digits = len(target.printed.partition(".")[2]) + 1  # one more than printed, so that rounding can be checked by eye
    return [
        *_figure(cell, result.label, has_several_papers),
        f"{100 * result.value:.{digits}f} [{100 * result.low:.{digits}f}, {100 * result.high:.{digits}f}]",
        f"{result.difference:+.{digits}f}",
        _tolerance(cell),
        verdict if result.decides and target.decides else f"({result.verdict})",
        " ".join(_sentences(notes)),
    ]


def _sentences(notes: Sequence[str]) -> list[str]:
    return [note if note.startswith("(") else f"{escape(note)}." for note in notes]


def as_json(reproduction: Reproduction, results: str) -> str:
    """Everything, figures not run included; values are fractions, differences and tolerances percentage points."""
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "suite": reproduction.suite.name,
        "counts": {verdict: reproduction.count(verdict) for verdict in VERDICTS},
        "missed": reproduction.missed,
        "cells": [_cell(cell) for cell in reproduction.cells],
        "left_out": {"secondary": reproduction.secondary_left_out, "without_spec": reproduction.without_spec},
        "to_run": {
            "commands": commands(reproduction, results),
            "weights": weights(reproduction),
            "data": data(reproduction),
        },
    }
    return json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _cell(cell: Cell) -> dict[str, Any]:
    target = cell.target
    names = ("paper", "model", "spec", "benchmark", "metric", "printed", "as_printed", "source", "secondary")
    return {
        **{name: getattr(target, name) for name in names},
        "rounding": float(target.rounding),
        "tolerance": float(target.tolerance),
        "known_differences": [
            {"why": difference.why, "points": difference.points} for difference in target.differences
        ],
        "decides": target.decides,
        "verdict": cell.verdict,
        "measured": [
            {
                "model": {
                    "spec": portable_spec(measurement.spec),
                    "label": measurement.label,
                    "digest": measurement.digest,
                },
                "precision": measurement.precision,
                "value": measurement.value,
                "low": measurement.low,
                "high": measurement.high,
                "difference": float(measurement.difference),
                "verdict": measurement.verdict,
                "decides": measurement.decides,
                "notes": list(measurement.notes),
            }
            for measurement in cell.measured
        ],
        "not_compared": list(cell.refused),
        **_average(cell),
    }


def _average(cell: Cell) -> dict[str, Any]:
    """What only a published average has: its benchmarks with their metrics, and what lacks some of them."""
    if not isinstance(cell.target, AverageTarget):
        return {}
    return {"members": {name: list(metrics) for name, metrics in cell.target.members.items()},
            "incomplete": list(cell.incomplete)}  # fmt: skip
