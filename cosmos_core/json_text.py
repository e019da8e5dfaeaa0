"""JSON of a user, bounded: in size, depth and digits, each key once, and every fault a line that names the place."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

from cosmos_core.errors import RequestError
from cosmos_core.short_repr import short_repr
from cosmos_core.text_files import decode_text, read_content

LARGEST_JSON = 4 * 2**30
"""Bytes: the largest published annotations (LVIS, Visual Genome) have a third of it."""
DEEPEST = 100
"""Levels of lists and maps: deeper values end Python's recursion in whatever handles them next."""
MOST_DIGITS = 300
"""Digits of a whole number: every one fits into a float64, whose largest value has 309."""


class JsonFault(ValueError):
    """What is wrong with a text as JSON, without its place in the file system."""


def parse_json(text: str | bytes, where: object, finite: bool = False) -> Any:
    """The value of a JSON text.

    Args:
        text: as str, or as bytes in UTF-8 with or without a byte order mark.
        where: what an error calls it, a path for one.
        finite: refuse NaN, Infinity and numbers beyond float64, too. Without it they become floats that are not
            finite, and whoever takes a number from the value checks it.

    Raises:
        RequestError: not JSON (with line and column), nested deeper than `DEEPEST`, a whole number of more than
            `MOST_DIGITS` digits, or a key given twice in one map.
    """
    if isinstance(text, bytes):
        text = decode_text(text, where)
    try:
        return load_json(text, finite)
    except JsonFault as error:
        raise RequestError(f"{where} is not JSON: {error}") from error


def read_json(path: Path | str, finite: bool = False, largest: int = LARGEST_JSON) -> Any:
    """The value in a JSON file; arguments and errors as of `parse_json`.

    Raises:
        RequestError: also unreadable, no regular file, or larger than `largest` bytes.
    """
    return parse_json(read_content(path, largest), path, finite)


def load_json(text: str, finite: bool = False) -> Any:
    """The value of a JSON text, for readers that say by themselves where it stands.

    Raises:
        JsonFault: see `parse_json`.
    """
    try:
        value = (_FINITE if finite else _PLAIN).decode(text.removeprefix("\ufeff"))
    except json.JSONDecodeError as error:
        raise JsonFault(f"line {error.lineno} column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise JsonFault(_TOO_DEEP) from error
    _refuse_depth(value)
    return value


_TOO_DEEP = f"nested deeper than {DEEPEST} levels"


def _refuse_depth(value: Any) -> None:
    # level by level: numbers and texts are passed over within a comprehension, a tenth of the time of parsing them
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(DEEPEST):
        if not level:
            return
        level = [
            child
            for container in level
            for child in (container.values() if type(container) is dict else container)
            if type(child) is dict or type(child) is list
        ]
    if level:
        raise JsonFault(_TOO_DEEP)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        raise JsonFault(f"it has {short_repr(twice)} twice in one map; keep one of them")
    return found


def _whole(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise JsonFault(f"a whole number of {len(text):,} digits, {text[:12]}...; at most {MOST_DIGITS} are read")
    return int(text)


def _finite_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        _refuse_constant(text)
    return number


def _refuse_constant(text: str) -> NoReturn:
    raise JsonFault(f"{text[:40]} is not a finite number")


# made once: json.loads with a hook makes a decoder for each line
_PLAIN = json.JSONDecoder(object_pairs_hook=_unique, parse_int=_whole)
_FINITE = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=_whole, parse_float=_finite_float, parse_constant=_refuse_constant
)
