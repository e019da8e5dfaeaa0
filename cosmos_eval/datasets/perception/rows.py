"""Rows of the files that the authors publish: tables, lists and maps, each value of the kind that is read below."""

import csv
import io
import math
from pathlib import Path
from typing import Any

from cosmos_core.short_repr import short_list, short_repr
from cosmos_core.text_files import parse_integer, read_text
from cosmos_eval.datasets.dataset_checks import Survey, check_inside

LARGEST_TABLE = 2**30
"""Bytes of a CSV that is read whole."""
NAMED: dict[type, str] = {str: "a text", int: "a whole number", float: "a number", list: "a list"}


def read_table(path: Path, columns: tuple[str, ...], survey: Survey) -> list[tuple[int, dict[str, str]]]:
    """The rows of a CSV with a header, each with the number of its (last) line; other columns are kept, too.

    Raises:
        DataProblems: a column is missing or there twice, a row has another number of cells than the header, or a quote
            takes several lines into one cell and does not close as quotes do.
        RequestError: unreadable, or not UTF-8.
    """
    lines = io.StringIO(read_text(path, LARGEST_TABLE), newline="").readlines()
    reader = csv.reader(lines)
    begun = 0
    rows: list[tuple[int, dict[str, str]]] = []
    header: list[str] | None = None
    try:
        for cells in reader:
            own, begun = lines[begun : reader.line_num], reader.line_num
            if not cells:
                continue
            if len(own) > 1 and not _is_quoted_well(own):
                survey.refuse(
                    f"finds a quote in {path}:{begun - len(own) + 1} that does not close there and takes all up to "
                    f"line {begun} into one cell; write the cell in quotes, and a quote in it twice"
                )
            if header is None:
                header = [cell.strip() for cell in cells]
                missing = [column for column in columns if column not in header]
                twice = [column for column in columns if header.count(column) > 1]
                if twice:
                    survey.refuse(f"finds the column {twice[0]!r} twice in {path}; leave one of them")
                if missing:
                    survey.refuse(f"finds no column {' and '.join(map(repr, missing))} in {path}: {short_list(header)}")
                continue
            if len(cells) != len(header):
                survey.refuse(f"finds {len(cells)} cells for {len(header)} columns in {path}:{reader.line_num}")
            rows.append((reader.line_num, dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        survey.refuse(f"cannot use {path}:{reader.line_num}: {error}")
    if not rows:
        survey.refuse(f"finds no rows in {path}")
    return rows


def _is_quoted_well(lines: list[str]) -> bool:
    """Whether a row of several lines is one by the rules: its quotes end where their cells end."""
    try:
        return len(list(csv.reader(lines, strict=True))) == 1
    except csv.Error:
        return False


def list_of_rows(content: Any, path: Path, survey: Survey) -> list[Any]:
    """A file's list with at least one row."""
    if not isinstance(content, list) or not content:
        survey.refuse(f"finds no list of rows in {path}")
    return content


def value(row: Any, key: str, kind: type, where: str, survey: Survey) -> Any:
    """`row[key]`, which must be of that kind; a text must not be empty."""
    found = row.get(key) if isinstance(row, dict) else None
    right = isinstance(found, int | float if kind is float else kind) and not isinstance(found, bool)
    right = right and not (isinstance(found, float) and not math.isfinite(found))
    if not right:
        survey.refuse(f"finds no {key!r} ({NAMED[kind]}) in {where}")
    if isinstance(found, str) and not found.strip():
        survey.refuse(f"has an empty {key!r} in {where}")
    return found


def whole(text: str, column: str, where: str, survey: Survey) -> int:
    """A cell that holds a whole number from 0 on."""
    number = parse_integer(text, 10**18)
    if number is None:
        survey.refuse(f"finds {short_repr(text)} for {column!r} in {where}; it is a whole number")
    return number


def folders_inside(base: Path, names: tuple[str, ...], survey: Survey) -> Path | None:
    """The first of the folders below `base` that is there; None with a problem noted."""
    for name in names:
        check_inside(name, survey.name)
        if (base / name).is_dir():
            return base / name
    survey.missing("the folder " + " or ".join(str(base / name) for name in names))
    return None
