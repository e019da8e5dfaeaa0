"""Reading the annotation files that authors publish: tables, lists and maps, with a check of each value's type."""

import ast
import csv
import io
import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from cosmos_core.json_text import read_json
from cosmos_core.printable import plural
from cosmos_core.short_repr import short_list, short_repr
from cosmos_core.text_files import parse_integer, read_text
from cosmos_eval.datasets.dataset_checks import DatasetChecker, require_inside_data_root

LARGEST_TABLE = 2**30
"""Most bytes of a CSV, which is read into memory."""
MAX_LITERAL = 100_000
"""Most characters of a cell with a list of texts, which is parsed as a Python literal."""
TYPE_NAMES: dict[type, str] = {str: "a text", int: "a whole number", float: "a number", list: "a list", dict: "a map"}


def read_table(path: Path, columns: tuple[str, ...], checker: DatasetChecker) -> list[tuple[int, dict[str, str]]]:
    """Read a CSV with a header.

    Args:
        columns: columns that the header must have; others are read, too.

    Returns:
        (number of its last line, column -> cell) for each row.

    Raises:
        DataProblems: a column is missing or repeated, a row has more or fewer cells than the header, a quote is not
            closed in its cell, or there are no rows.
        RequestError: unreadable, or not UTF-8.
    """
    lines = io.StringIO(read_text(path, LARGEST_TABLE), newline="").readlines()
    reader = csv.reader(lines)
    rows: list[tuple[int, dict[str, str]]] = []
    header: list[str] | None = None
    previous_line = 0
    try:
        for cells in reader:
            row_lines, first_line = lines[previous_line : reader.line_num], previous_line + 1
            previous_line = reader.line_num
            if not cells:
                continue
            # A stray quote at the start of a cell joins all lines up to the next quote into this cell, and those rows
            # would be lost without an error. A cell of several lines is right only if its quotes are.
            if len(row_lines) > 1 and not _is_quoted_well(row_lines):
                checker.refuse(
                    f"finds a quote in {path}:{first_line} that is not closed in its cell, so that everything up to "
                    f"line {previous_line} is one cell; put the cell in quotes and double each quote inside it"
                )
            if header is None:
                header = [cell.strip() for cell in cells]
                _check_header(header, columns, path, checker)
                continue
            if len(cells) != len(header):
                checker.refuse(
                    f"finds {plural(len(cells), 'cell')} for {plural(len(header), 'column')} in "
                    f"{path}:{reader.line_num}"
                )
            rows.append((reader.line_num, dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        checker.refuse(f"cannot use {path}:{reader.line_num}: {error}")
    if not rows:
        checker.refuse(f"finds no rows in {path}")
    return rows


def _check_header(header: list[str], columns: tuple[str, ...], path: Path, checker: DatasetChecker) -> None:
    repeated = [column for column in columns if header.count(column) > 1]
    if repeated:
        checker.refuse(f"finds the column {repeated[0]!r} twice in {path}; remove one of them")
    missing = [column for column in columns if column not in header]
    if missing:
        checker.refuse(f"finds no column {' and '.join(map(repr, missing))} in {path}: {short_list(header)}")


def _is_quoted_well(lines: list[str]) -> bool:
    """Whether the lines are one row by the strict rules: every quote ends where its cell ends."""
    try:
        return len(list(csv.reader(lines, strict=True))) == 1
    except csv.Error:
        return False


def read_rows(path: Path, checker: DatasetChecker) -> Iterator[tuple[int, Any, str]]:
    """Yield the number and the content of each row of a JSON list, and how messages name the row.

    Raises:
        DataProblems: it is not a list with at least one row.
        RequestError: not JSON.
    """
    for number, row in enumerate(require_list(read_json(path), path, checker)):
        yield number, row, f"row {number} of {path}"


def require_list(content: Any, path: Path, checker: DatasetChecker) -> list[Any]:
    """Return the content of a file, which must be a list with at least one row.

    Raises:
        DataProblems: it is not.
    """
    if not isinstance(content, list) or not content:
        checker.refuse(f"finds no list of rows in {path}")
    return content


def require_value(row: Any, key: str, kind: type, where: str, checker: DatasetChecker) -> Any:
    """Return `row[key]`, which must be of the type `kind`; a text must not be empty and a number must be finite.

    `float` accepts integers, too. `where` names the row in messages.

    Raises:
        DataProblems: the row is not a map, lacks the key, or has another value.
    """
    value = row.get(key) if isinstance(row, dict) else None
    has_type = isinstance(value, int | float if kind is float else kind) and not isinstance(value, bool)
    if not has_type or (isinstance(value, float) and not math.isfinite(value)):
        checker.refuse(f"finds no {key!r} ({TYPE_NAMES[kind]}) in {where}")
    if isinstance(value, str) and not value.strip():
        checker.refuse(f"has an empty {key!r} in {where}")
    return value


def parse_whole_number(cell: str, column: str, where: str, checker: DatasetChecker) -> int:
    """Return the whole number, 0 or more, in a cell of a table.

    Raises:
        DataProblems: the cell has something else.
    """
    number = parse_integer(cell, 10**18)
    if number is None:
        checker.refuse(f"finds {short_repr(cell)} for {column!r} in {where}; it must be a whole number")
    return number


def parse_text_list(cell: str, column: str, where: str, checker: DatasetChecker) -> list[str]:
    """Return the list of texts in a cell of a table, written as in Python. Nothing else is evaluated.

    Raises:
        DataProblems: the cell has something else.
    """
    try:
        texts = ast.literal_eval(cell) if len(cell) <= MAX_LITERAL else None
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        texts = None
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        checker.refuse(f"finds {short_repr(cell)} for {column!r} in {where}; it must be a list of texts")
    return list(texts)


def parts_of_address(address: str, where: str, checker: DatasetChecker) -> tuple[str, ...]:
    """Return the parts of the path of an address, or of a path: folders, then the name of a file.

    Raises:
        DataProblems: there are none.
    """
    try:
        # in a path, # and ? are characters of a name
        parts = PurePosixPath(urlsplit(address).path if "://" in address else address).parts
    except ValueError:  # such as http://[
        parts = ()
    if not parts:
        checker.refuse(f"finds {short_repr(address)} for an image in {where}; it must be an address or a path")
    return parts


def find_folder_inside(base: Path, names: tuple[str, ...], checker: DatasetChecker) -> Path | None:
    """Return the first of the folders below `base` that exists; if none does, add a problem and return None."""
    for name in names:
        require_inside_data_root(name, checker.name)
        if (base / name).is_dir():
            return base / name
    checker.add_missing("the folder " + " or ".join(str(base / name) for name in names))
    return None
