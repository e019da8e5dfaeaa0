"""Parsing JSON of users, with limits on size, depth and digits, unique keys, and errors that name the position."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

from cosmos_core.errors import RequestError
from cosmos_core.short_repr import short_repr
from cosmos_core.text_files import decode_text, read_content

LARGEST_JSON = 4 * 2**30
"""Most bytes; the largest published annotation files (LVIS, Visual Genome) have a third of this."""
MAX_DEPTH = 100
"""Most levels of lists and maps: code that handles deeper values would exceed Python's recursion limit."""
MAX_DIGITS = 300
"""Most digits of an integer: all of these fit into a float64, whose largest value has 309."""


class JsonError(ValueError):
    """What is wrong with a JSON text, without the file's name."""


def parse_json(text: str | bytes, where: object, finite: bool = False) -> Any:
    """The value of a JSON text.

    Args:
        text: as str, or as bytes in UTF-8 with or without a byte order mark.
        where: the name of the text in errors, such as its path.
        finite: refuse NaN, Infinity and numbers beyond float64, too. Otherwise they become floats that are not
            finite, and the caller has to check the numbers it uses.

    Raises:
        RequestError: not JSON (with line and column), nested deeper than `DEEPEST`, a whole number of more than
            `MOST_DIGITS` digits, or a key given twice in one map.
    """
    if isinstance(text, bytes):
        text = decode_text(text, where)
    try:
        return load_json(text, finite)
    except JsonError as error:
        raise RequestError(f"{where} is not JSON: {error}") from error


def read_json(path: Path | str, finite: bool = False, largest: int = LARGEST_JSON) -> Any:
    """The value in a JSON file; arguments and errors as of `parse_json`.

    Raises:
        RequestError: also unreadable, no regular file, or larger than `largest` bytes.
    """
    return parse_json(read_content(path, largest), path, finite)


def load_json(text: str, finite: bool = False) -> Any:
    """The value of a JSON text, for callers that add its name to errors by themselves.

    Raises:
        JsonError: see `parse_json`.
    """
    try:
        value = (_FINITE_DECODER if finite else _DECODER).decode(text.removeprefix("\ufeff"))
    except json.JSONDecodeError as error:
        raise JsonError(f"line {error.lineno} column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise JsonError(_TOO_DEEP) from error
    _refuse_depth(value)
    return value


_TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"


def _refuse_depth(value: Any) -> None:
    # Level by level, in a comprehension that skips numbers and texts: this takes a tenth of the time of parsing.
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_DEPTH):
        if not level:
            return
        level = [
            child
            for container in level
            for child in (container.values() if type(container) is dict else container)
            if type(child) is dict or type(child) is list
        ]
    if level:
        raise JsonError(_TOO_DEEP)


def _require_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        repeated = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        raise JsonError(f"it has {short_repr(repeated)} twice in one map; keep one of them")
    return value


def _parse_integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise JsonError(f"a whole number of {len(text):,} digits, {text[:12]}...; at most {MAX_DIGITS} are read")
    return int(text)


def _parse_finite_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        _refuse_constant(text)
    return number


def _refuse_constant(text: str) -> NoReturn:
    raise JsonError(f"{text[:40]} is not a finite number")


# made once, since json.loads with hooks makes a new decoder for each call
_DECODER = json.JSONDecoder(object_pairs_hook=_require_unique_keys, parse_int=_parse_integer)
_FINITE_DECODER = json.JSONDecoder(
    object_pairs_hook=_require_unique_keys,
    parse_int=_parse_integer,
    parse_float=_parse_finite_float,
    parse_constant=_refuse_constant,
)
