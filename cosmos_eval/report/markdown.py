"""A board as Markdown: the headline table, then every metric of each benchmark, then remarks."""

import re
import unicodedata
from collections.abc import Sequence

import pandas as pd

from cosmos_core.printable import plural, printable
from cosmos_eval.report.board import MEASURED, PUBLISHED, Board
from cosmos_eval.report.cells import (
    average_lines,
    detail,
    limited_line,
    sections,
    shown,
    with_values,
    without_width_line,
)
from cosmos_eval.report.names import MISSING, short


def board_markdown(board: Board, remarks: Sequence[str] = ()) -> str:
    """The page. Percent with 95 % intervals; the best of a column in bold; published rows in tables of their own.

    Results of a limited run are named below the tables and left out of them.
    """
    parts = ["# Leaderboard"]
    if len(board.rows):
        precision = ", ".join(board.precisions) or "nothing measured"
        parts += ["", f"Percent, with 95 % intervals in brackets; {precision}. {MISSING}: not measured."]
        parts += ["", headline_tables(board)]
        if without_width_line(board):
            parts += ["", f"{escape(without_width_line(board))}."]
        averages = average_lines(board)
        if averages:
            parts += ["", "Averages:", "", *map(bullet, averages)]
        for columns in board.groups():
            parts += ["", benchmark_heading(board, columns), "", benchmark_tables(board, columns)]
    if limited_line(board):
        parts += ["", escape(limited_line(board))]
    remarks = [*board.remarks, *remarks]
    if remarks:
        parts += ["", "## Remarks", "", *map(bullet, remarks)]
    return "\n".join(parts) + "\n"


def headline_tables(board: Board) -> str:
    """Models as rows, the headline metrics of every benchmark as columns; the best mean rank over them first.

    One table, or one for each task where it would be too wide.
    """
    parts = []
    for title, columns in sections(board):
        heads = [board.columns.at[column, "title"] for column in columns]
        heading = f"## {title}\n\n" if title else ""
        parts.append(heading + table(board, board.of_kind(MEASURED), columns, heads))
        parts += published(board, columns, heads)
    return "\n\n".join(parts)


def benchmark_heading(board: Board, columns: pd.DataFrame) -> str:
    """What one table was measured with: version, fingerprints, images and precision."""
    first = columns.iloc[0]
    rows = with_values(board, board.of_kind(MEASURED), columns.index.tolist())
    precision = ", ".join(sorted(board.rows.loc[rows, "precision"].unique()))
    all_items = plural(first["items"] + first["left_out"], "item")
    of_all = f", {first['items']:,} of {all_items}" if first["left_out"] else ""
    return (
        f"## {escape(first['benchmark'])}\n\n{first['task']}, protocol version {first['version']} "
        f"({first['fingerprint'][:8]}), data {first['dataset'][:8]}, {plural(first['images'], 'image')}{of_all}, "
        f"{precision}"
    )


def benchmark_tables(board: Board, columns: pd.DataFrame) -> str:
    """Models as rows, the metrics of one benchmark as columns."""
    ids = detail(columns)
    heads = [short(board.columns.at[column, "metric"]) for column in ids]
    rows = with_values(board, board.of_kind(MEASURED), ids)
    return "\n\n".join([table(board, rows, ids, heads), *published(board, ids, heads)])


def published(board: Board, columns: list[int], heads: list[str]) -> list[str]:
    """A line and a table of what others published for these columns; nothing where there is none."""
    rows = with_values(board, board.of_kind(PUBLISHED), columns)
    if not rows:
        return []
    return ["Published, not measured here:", table(board, rows, columns, heads, sources=True)]


def table(board: Board, rows: list[int], columns: list[int], heads: list[str], *, sources: bool = False) -> str:
    """A pipe table of some rows and columns; with `sources`, each row's source in a column of its own."""
    lines = [
        [
            escape(board.rows.at[row, "label"]),
            *(cell_text(board, row, column) for column in columns),
            *([escape(board.rows.at[row, "source"])] if sources else []),
        ]
        for row in rows
    ]
    return pipe_table(["model", *map(escape, heads), *(["source"] if sources else [])], lines)


def cell_text(board: Board, row: int, column: int) -> str:
    """`value [low, high]`, the best in bold; a dash where nothing was measured."""
    cell = shown(board, row, column)
    if cell is None:
        return MISSING
    value = f"**{cell.value}**" if cell.place == 1 else cell.value
    return f"{value} {cell.interval}{cell.mark}".rstrip()


def pipe_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A GitHub table whose columns line up in a fixed-width font; cells must be escaped."""
    lines = [list(head), *map(list, rows)]
    widths = [max(3, *(width(line[i]) for line in lines)) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell + " " * (n - width(cell)) for cell, n in zip(cells, widths, strict=True)) + " |"

    rule = "|" + "|".join("-" * (n + 2) for n in widths) + "|"
    return "\n".join([line(lines[0]), rule, *map(line, lines[1:])])


def width(text: str) -> int:
    """Width of a text in columns of a terminal: East Asian wide characters two, combining marks none."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    marks = sum(unicodedata.category(character) in ("Mn", "Me", "Cf") for character in text)
    return len(text) + wide - marks


def bullet(text: str) -> str:
    """An item of a list; what would begin a heading, a quotation or another list is escaped."""
    return "- " + re.sub(r"^(\d*)([#>+.)-])", r"\1\\\2", escape(text))


def escape(text: str) -> str:
    """Text escaped for a cell of a Markdown table: one line, no cell separator, no markup, no HTML."""
    text = printable(" ".join(str(text).split())).replace("\\", "\\\\")
    text = re.sub(r"&(?=#?\w+;)", "&amp;", text).replace("<", "&lt;")
    # An underscore within a word stays; elsewhere it may begin emphasis.
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)
    return re.sub(r"([|*`$~\[\]])", r"\\\1", text)
