"""Leaderboards in every format, all of them printed from one board."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cosmos_core.errors import RequestError
from cosmos_core.files import atomic_write_text
from cosmos_eval.protocol_suite import Suite
from cosmos_eval.report.board import board_of
from cosmos_eval.report.frame import distinct_labels, results_frame
from cosmos_eval.report.markdown import board_markdown, escape, headline_tables
from cosmos_eval.report.names import HEADLINES, MISSING, SHORT, headlines, short
from cosmos_eval.results.record import Result

__all__ = [
    "FORMATS", "HEADLINES", "MISSING", "SHORT", "escape", "headline_table", "headlines", "markdown", "render", "short",
    "write_leaderboard",
]  # fmt: skip
FORMATS = ("md", "csv")


def write_leaderboard(
    results: Sequence[Result],
    folder: Path,
    formats: Sequence[str] = ("md", "csv"),
    not_run: Sequence[str] = (),
    *,
    references: pd.DataFrame | None = None,
    suite: Suite | None = None,
) -> list[Path]:
    """Write leaderboard.md, leaderboard.csv, ... into a folder; returns their paths. `not_run` are lines for the end.

    Raises:
        RequestError: a format that is not known.
    """
    texts = {name: render(results, name, not_run, references=references, suite=suite) for name in formats}
    for name, text in texts.items():
        atomic_write_text(folder / f"leaderboard.{name}", text)
    return [folder / f"leaderboard.{name}" for name in texts]


def render(
    results: Sequence[Result],
    name: str,
    not_run: Sequence[str] = (),
    *,
    references: pd.DataFrame | None = None,
    suite: Suite | None = None,
) -> str:
    """One leaderboard as text in a format of FORMATS.

    Raises:
        RequestError: a format that is not known.
    """
    if name not in FORMATS:
        raise RequestError(f"no table format {name!r}; known: {', '.join(FORMATS)}")
    frame = results_frame(results)
    warnings = [f"{one.label}, {one.benchmark['name']}: {warning}" for one in results for warning in one.warnings]
    if name == "md":
        return board_markdown(board_of(frame, references, suite), [*warnings, *not_run])
    return distinct_labels(frame).drop(columns="spec_or_digest").to_csv(index=False)


def markdown(frame: pd.DataFrame, remarks: Sequence[str] = ()) -> str:
    """The Markdown page of a long frame of results."""
    return board_markdown(board_of(frame), remarks)


def headline_table(frame: pd.DataFrame) -> str:
    """The headline table of a long frame of results, as Markdown."""
    return headline_tables(board_of(frame))
