"""A reproduction as Markdown, for the terminal and for a file, and as JSON."""

import json
from collections.abc import Sequence
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_eval.published.plan import commands, data, not_run_lines, weights, what_to_run
from cosmos_eval.published.reproduce import NOT_RUN, REPRODUCED, VERDICTS, Cell, Measurement, Reproduction
from cosmos_eval.report.markdown import escape, pipe_table
from cosmos_eval.report.names import MISSING, short
from cosmos_eval.results.portable import portable_spec

FORMATS = ("md", "json")
HEAD = ("model", "benchmark", "metric", "published", "measured", "difference", "tolerance", "verdict", "notes")
ROWS = 60
"""Figures of a table that also shows those which were not measured; in longer ones they are named below it."""
SCHEMA = 1


def check_formats(names: Sequence[str]) -> None:
    """RequestError for a format that is not known."""
    for name in names:
        if name not in FORMATS:
            raise RequestError(f"no format {name!r} of a reproduction; known: {', '.join(FORMATS)}")


def render(found: Reproduction, name: str, results: str) -> str:
    """One reproduction as text in a format of FORMATS; `results` is the folder that the commands are to write to.

    Raises:
        RequestError: a format that is not known.
    """
    check_formats([name])
    return as_json(found, results) if name == "json" else markdown(found, results)


def summary(found: Reproduction) -> str:
    """One line: how many figures of how many models, and their verdicts."""
    decide = [cell for cell in found.cells if not cell.target.secondary]
    models = len({cell.target.spec for cell in decide})
    line = f"{_many(len(decide), 'published figure')} of {_many(models, 'model')}: {_counts(found)}."
    if len(decide) < len(found.cells):
        line += f" Secondary figures, which do not decide: {_counts(found, secondary=True)}."
    return line


def _counts(found: Reproduction, secondary: bool = False) -> str:
    return ", ".join(f"{found.count(verdict, secondary)} {verdict}" for verdict in VERDICTS)


def markdown(found: Reproduction, results: str) -> str:
    """Summary, table of what was measured, reasons, what was refused, and what to run for the rest."""
    parts = [f"# Reproduction of {found.suite.name}", "", summary(found)]
    reasons: dict[str, int] = {}
    several = len({cell.target.paper for cell in found.cells}) > 1
    rows = []
    for cell in found.cells:
        rows += [_row(cell, one, several, reasons) for one in cell.measured]
        if not cell.measured and len(found.cells) <= ROWS:
            rows.append([*_figure(cell, cell.target.spec, several), MISSING, MISSING, _tolerance(cell), NOT_RUN, ""])
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
    shown = [cell for cell in found.cells if cell.measured or len(found.cells) <= ROWS]
    sources = dict.fromkeys(f"{cell.target.paper}: {cell.target.source}" for cell in shown)
    if sources:
        parts += ["", "Published in:", "", *(f"- {escape(source)}" for source in sources)]
    refused = dict.fromkeys(line for cell in found.cells for line in cell.refused)
    if refused:
        parts += ["", "Not compared:", "", *(f"- {escape(line)}" for line in refused)]
    parts += [f"\n{line}" for line in _left_out(found)]
    lines = not_run_lines(found)
    if lines:
        parts += ["", "## Not run", "", *(f"- {escape(line)}" for line in lines), ""]
        parts += what_to_run(found, results)
    return "\n".join(parts) + "\n"


def _left_out(found: Reproduction) -> list[str]:
    """What of the tables is not shown, in words."""
    lines = []
    if found.hearsay:
        told = "is told by a third party" if found.hearsay == 1 else "are told by third parties"
        lines.append(f"{_many(found.hearsay, 'more figure')} {told} and left out; --secondary shows them.")
    if found.nameless:
        lines.append(f"{_many(found.nameless, 'figure')} of these tables left out: no model spec names their network.")
    wanted = {cell.target.benchmark for cell in found.cells}
    without = [benchmark.name for benchmark in found.suite.benchmarks if benchmark.name not in wanted]
    if without:
        lines.append(f"No published figure at hand of what was asked for, on: {', '.join(without)}.")
    return lines


def _figure(cell: Cell, model: str, several: bool) -> list[str]:
    """The published side of a row; of several papers it says which."""
    target = cell.target
    printed = f"{target.printed} {escape(target.paper.partition(' ')[0])}" if several else target.printed
    return [escape(model), target.benchmark, escape(short(target.metric)), printed]


def _tolerance(cell: Cell) -> str:
    return f"{cell.target.tolerance:.3f}".rstrip("0").rstrip(".")


def _row(cell: Cell, one: Measurement, several: bool, reasons: dict[str, int]) -> list[str]:
    """A row of the table; the reasons of a difference are numbered as they come."""
    target = cell.target
    notes = [*one.notes, *(["secondary, does not decide"] if target.secondary else [])]
    if one.verdict != REPRODUCED:
        for difference in target.differences:
            points = f" (up to {difference.points:g} points)" if difference.points else ""
            number = reasons.setdefault(f"{target.benchmark}: {difference.why}{points}", len(reasons) + 1)
            notes.append(f"({number})")
    verdict = one.verdict if one.verdict == REPRODUCED else f"**{one.verdict}**"
    digits = len(target.printed.partition(".")[2]) + 1  # one more than printed, so that rounding can be checked by eye
    return [
        *_figure(cell, one.label, several),
        f"{100 * one.value:.{digits}f} [{100 * one.low:.{digits}f}, {100 * one.high:.{digits}f}]",
        f"{one.difference:+.{digits}f}",
        _tolerance(cell),
        verdict if one.decides and not target.secondary else f"({one.verdict})",
        " ".join(_sentences(notes)),
    ]


def _sentences(notes: Sequence[str]) -> list[str]:
    return [note if note.startswith("(") else f"{escape(note)}." for note in notes]


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def as_json(found: Reproduction, results: str) -> str:
    """Everything, figures not run included; values are fractions, differences and tolerances percentage points."""
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "suite": found.suite.name,
        "counts": {verdict: found.count(verdict) for verdict in VERDICTS},
        "missed": found.missed,
        "cells": [_cell(cell) for cell in found.cells],
        "left_out": {"secondary": found.hearsay, "without_spec": found.nameless},
        "to_run": {"commands": commands(found, results), "weights": weights(found), "data": data(found)},
    }
    return json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _cell(cell: Cell) -> dict[str, Any]:
    target = cell.target
    names = ("paper", "model", "spec", "benchmark", "metric", "printed", "as_printed", "source", "secondary")
    return {
        **{name: getattr(target, name) for name in names},
        "rounding": float(target.rounding),
        "tolerance": float(target.tolerance),
        "known_differences": [{"why": one.why, "points": one.points} for one in target.differences],
        "verdict": cell.verdict,
        "measured": [
            {
                "model": {"spec": portable_spec(one.spec), "label": one.label, "digest": one.digest},
                "precision": one.precision,
                "value": one.value,
                "low": one.low,
                "high": one.high,
                "difference": float(one.difference),
                "verdict": one.verdict,
                "decides": one.decides,
                "notes": list(one.notes),
            }
            for one in cell.measured
        ],
        "not_compared": list(cell.refused),
    }
