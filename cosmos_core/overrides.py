"""Updating a configuration dataclass from plain values; unknown keys and wrong types raise RequestError."""

import dataclasses
import difflib
import typing
from dataclasses import fields, replace
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.printable import plural
from cosmos_core.short_repr import LONGEST, short_repr


def updated(config: Any, values: dict[str, Any], where: str, prefix: str = "") -> Any:
    """A copy of a configuration dataclass with `values` set, each checked against its field's type."""
    types = typing.get_type_hints(type(config))
    hints = {item.name: types[item.name] for item in fields(config)}
    changes: dict[str, Any] = {}
    for key, value in values.items():
        if key not in hints:
            nearest = difflib.get_close_matches(key, hints, n=3, cutoff=0.5)
            hint = (
                f"did you mean {' or '.join(prefix + name for name in nearest)}"
                if nearest
                else f"known: {', '.join(hints)}"
            )
            shown = prefix + (key if len(key) <= LONGEST else short_repr(key))
            raise RequestError(f"{where}: unknown key {shown}; {hint}")
        current = getattr(config, key)
        if dataclasses.is_dataclass(current) and not isinstance(current, type):
            if not isinstance(value, dict):
                raise RequestError(
                    f"{where}: {prefix + key} takes its own keys, as {prefix + key}.{_first_key(current)}=..."
                )
            changes[key] = updated(current, value, where, f"{prefix}{key}.")
        elif typing.get_origin(hints[key]) is dict:
            changes[key] = _merged(current, value, f"{where}: {prefix + key}")
        else:
            changes[key] = typed(value, hints[key], f"{where}: {prefix + key}")
    try:
        return replace(config, **changes)
    except RequestError as error:
        raise RequestError(f"{where}: {error}") from error


def nested(key: str, value: Any) -> dict[str, Any]:
    """`a.b` and a value as {"a": {"b": value}}."""
    head, _, rest = key.partition(".")
    return {head: nested(rest, value) if rest else value}


def _merged(current: dict[str, Any], value: Any, where: str) -> dict[str, Any]:
    """A dict of free keys updated by `value`; an empty `value` empties it, so that a preset's keys can be removed."""
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise RequestError(f"{where} takes key: value pairs, got {short_repr(value)}")
    return {**current, **value} if value else {}


def _first_key(config: Any) -> str:
    return fields(config)[0].name


def typed(value: Any, hint: Any, where: str) -> Any:
    """`value` converted to the field's type: an int to float, and `5e-4` too, which YAML parses as text."""
    if hint is Any:
        return value
    if typing.get_origin(hint) is tuple:
        parts = typing.get_args(hint)
        if not isinstance(value, list | tuple) or len(value) != len(parts):
            raise RequestError(
                f"{where} takes {plural(len(parts), 'value')}, as [{', '.join('0' for _ in parts)}], got "
                f"{short_repr(value)}"
            )
        return tuple(typed(part, kind, where) for part, kind in zip(value, parts, strict=True))
    if hint is float and isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            pass
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise RequestError(f"{where}: {short_repr(value)} is beyond 64 bits")
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is str and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)  # a name or folder that YAML parsed as a number
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise RequestError(f"{where} takes {_with_article(hint)}, got {short_repr(value)}")
    return value


def _with_article(hint: type) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return names.get(hint, hint.__name__)
