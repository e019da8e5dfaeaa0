"""Checks of the keys of a map in a definition or suite and of the types of its values."""

from typing import Any

from cosmos_core.short_repr import short_repr
from cosmos_core.suggestions import near
from cosmos_eval.protocol.source import Keys, Source

_TYPE_NAMES = {
    str: "a text",
    int: "a whole number",
    dict: "a map",
    list: "a list",
    float: "a number",
    bool: "true or false",
}


def check_keys(
    source: Source, at: Keys, value: dict[Any, Any], required: dict[str, Any], optional: dict[str, Any]
) -> None:
    """Check the keys of a map and the types of its values.

    Args:
        at: keys that lead to the map; empty for the whole definition.
        value: the map.
        required: key -> type; a kind of reader option (a text) instead of a type is checked elsewhere.
        optional: likewise.
    """
    where = f" in {at[-1]}" if at else ""
    for key in value:
        if key not in required and key not in optional:
            known = [*required, *optional]
            raise source.refuse((*at, key), f"unknown key {short_repr(key)}{where}{near(str(key), known)}")
    for key in required:
        if key not in value:
            raise source.refuse(at, f"the key {short_repr(key)} is missing{where}")
    for key, kind in (required | optional).items():
        if key in value and isinstance(kind, type):
            check_type(source, (*at, key), value[key], kind)


def check_type(source: Source, at: Keys, value: Any, kind: type) -> None:
    """Check the type of the value at `at`; whole numbers are also floats, but booleans are not numbers."""
    allowed = (int, float) if kind is float else kind
    if isinstance(value, allowed) and not (kind in (int, float) and isinstance(value, bool)):
        return
    name = at[-1] if isinstance(at[-1], str) else f"{at[-2]}[{at[-1]}]"
    raise source.refuse(at, f"{name} must be {_TYPE_NAMES[kind]}, not {_describe(value)}")


def _describe(value: Any) -> str:
    """Describe a wrong value in a message."""
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return "a map" if isinstance(value, dict) else "a list"
    return short_repr(value)
