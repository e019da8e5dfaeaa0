"""Leaderboards in every format, all of them printed from one board."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from cosmos_core.errors import RequestError
from cosmos_core.files import atomic_write_text
from cosmos_eval.protocol.suite import Suite
from cosmos_eval.protocol.task_registry import headlines
from cosmos_eval.report.board import Board, board_of, make_board
from cosmos_eval.report.data_files import board_csv, board_json
from cosmos_eval.report.exchange_clip_benchmark import clip_benchmark_files
from cosmos_eval.report.exchange_model_index import model_index_files
from cosmos_eval.report.html_table import board_html
from cosmos_eval.report.latex import board_latex
from cosmos_eval.report.markdown import board_markdown, escape, headline_tables
from cosmos_eval.report.names import MISSING, SHORT, short
from cosmos_eval.results.portable import portable_text
from cosmos_eval.results.record import Result, unchecked_legend

__all__ = [
    "FORMATS", "MISSING", "SHORT", "escape", "headline_table", "headlines", "markdown", "render", "short",
    "write_leaderboard",
]  # fmt: skip
Render = Callable[[Board, Sequence[str]], str]
FORMATS: dict[str, Render] = {
    "md": board_markdown, "csv": board_csv, "tex": board_latex, "html": board_html, "json": board_json,
}  # fmt: skip
"""File extension -> function that prints a board and remarks."""
EXCHANGE: dict[str, Callable[[Board], dict[str, str]]] = {
    "clip-benchmark": clip_benchmark_files,
    "model-index": model_index_files,
}
"""Formats of other programs: each is a folder of files."""
DEFAULT = ("md", "csv")


def write_leaderboard(
    results: Sequence[Result],
    folder: Path,
    formats: Sequence[str] = DEFAULT,
    not_run: Sequence[str] = (),
    *,
    references: pd.DataFrame | None = None,
    suite: Suite | None = None,
) -> list[Path]:
    """Write leaderboard.md, leaderboard.csv, ... into a folder; returns their paths. `not_run` are lines for the end.

    A format of EXCHANGE is written to a subfolder with its name; other files in that subfolder stay as they are.

    Raises:
        RequestError: a format that is not known; nothing is written then.
    """
    for name in formats:
        check_format(name)
    board = make_board(results, references, suite)
    remarks = [*warnings_of(results), *map(portable_text, not_run)]
    texts: dict[Path, str] = {}
    paths = []
    for name in formats:
        if name in EXCHANGE:
            paths.append(folder / name)
            texts |= {folder / name / file: text for file, text in EXCHANGE[name](board).items()}
        else:
            paths.append(folder / f"leaderboard.{name}")
            texts[paths[-1]] = FORMATS[name](board, remarks)
    for path, text in texts.items():
        atomic_write_text(path, text)
    return paths


def render(results: Sequence[Result], name: str, not_run: Sequence[str] = ()) -> str:
    """One leaderboard as text in a format of FORMATS.

    Raises:
        RequestError: a format that is not known.
    """
    if name not in FORMATS:
        raise RequestError(f"no table format {name!r}; known: {', '.join(FORMATS)}")
    return FORMATS[name](make_board(results), [*warnings_of(results), *map(portable_text, not_run)])


def check_format(name: str) -> None:
    """Refuse a format that is not known."""
    if name not in FORMATS and name not in EXCHANGE:
        raise RequestError(f"no table format {name!r}; known: {', '.join([*FORMATS, *EXCHANGE])}")


def warnings_of(results: Sequence[Result]) -> list[str]:
    """A line for each warning of a result, and what the mark of unchecked ones means."""
    lines = [
        portable_text(f"{result.label}, {result.benchmark_name}: {warning}")
        for result in results
        for warning in result.warnings
    ]
    return [*unchecked_legend(results), *lines]


def markdown(frame: pd.DataFrame, remarks: Sequence[str] = ()) -> str:
    """The Markdown page of a long frame of results."""
    return board_markdown(board_of(frame), remarks)


def headline_table(frame: pd.DataFrame) -> str:
    """The headline table of a long frame of results, as Markdown."""
    return headline_tables(board_of(frame))
