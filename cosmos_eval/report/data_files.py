"""A board for programs, not rounded: CSV with a line for each cell, and JSON."""

import json
import re
from collections.abc import Sequence
from typing import Any

import pandas as pd

from cosmos_eval.report.board import Board
from cosmos_eval.report.cells import without_width_line
from cosmos_eval.report.frame import COLUMNS

MORE = ("kind", "place", "source")
FORMULA = re.compile(r"[=+\-@\t\r\n]")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
FORM, VERSION = "cosmos-eval leaderboard", 1


def board_frame(board: Board) -> pd.DataFrame:
    """(cells, the columns of `frame.COLUMNS` and `kind`, `place`, `source`): rows in the board's order; results that
    were limited last, without a place.

    `kind` is measured, average or published.
    """
    columns = board.columns.drop(columns=["kind", "n", "group", "of", "title", "headline", "higher_is_better"])
    cells = board.cells.drop(columns=["decimals"])
    frame = cells.join(columns, on="column").join(board.rows.drop(columns="source"), on="row")
    average = frame["column"].map(board.columns["kind"]) == "average"
    frame["kind"] = frame["kind"].where(~average, "average")
    frame = frame.sort_values(["row", "column"]).rename(columns={"label": "model"}).assign(limit=pd.NA)
    limited = board.limited.assign(kind="measured", place=pd.NA, source="")
    wanted = [*COLUMNS, *MORE]
    frame = pd.concat([part[wanted] for part in (frame, limited) if len(part)] or [frame[wanted]], ignore_index=True)
    return frame.astype({"limit": "Int64", "place": "Int64", "n": "Int64"})


def board_csv(board: Board, remarks: Sequence[str] = ()) -> str:
    """The long table. `remarks` are not written: a CSV has no place for them."""
    return csv_text(board_frame(board))


def csv_text(frame: pd.DataFrame) -> str:
    """A frame as CSV in which no text is a formula for a spreadsheet: what could be one gets a `'` before it (OWASP,
    CSV injection). Columns of numbers, and texts that are plain numbers, stay."""
    texts = {
        name: [_no_formula(value) if isinstance(value, str) else value for value in frame[name]]
        for name in frame.columns
        if not pd.api.types.is_numeric_dtype(frame[name].dtype)
    }
    return frame.assign(**texts).to_csv(index=False)


def _no_formula(text: str) -> str:
    return f"'{text}" if FORMULA.match(text) and not NUMBER.fullmatch(text) else text


def board_json(board: Board, remarks: Sequence[str] = ()) -> str:
    """`rows`, `columns` and `cells` as they are on the board; cells refer to rows and columns by index, from 0."""
    record = {
        "format": FORM,
        "version": VERSION,
        "suite": board.suite or None,
        "precision": board.precisions,
        "columns": _records(board.columns),
        "rows": _records(board.rows),
        "cells": _records(board.cells),
        "limited": _records(board.limited[["model", "benchmark", "limit"]].drop_duplicates()),
        "remarks": [*board.remarks, *([without_width_line(board)] if without_width_line(board) else []), *remarks],
    }
    return json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dictionaries of plain values; a missing value is None (null in JSON)."""
    return [
        {key: _plain(value) for key, value in zip(frame.columns, row, strict=True)}
        for row in frame.itertuples(index=False, name=None)
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    if pd.isna(value):
        return None
    return value.item() if hasattr(value, "item") else value
