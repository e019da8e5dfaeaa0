"""An objective's own settings (`objective_options`): the parameters of its constructor other than `world`."""

import inspect
import math
import typing
from collections.abc import Mapping
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.overrides import typed
from cosmos_core.printable import printable
from cosmos_core.short_repr import short_list, short_repr

CHECKED = (bool, int, float, str)
"""Annotations whose values are checked here; values of other types are checked by the objective itself."""


def options_of(cls: type) -> dict[str, inspect.Parameter]:
    """The options of an objective's class by name, in the order of its constructor."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(cls).parameters
    return {name: parameter for name, parameter in parameters.items() if parameter.kind in named and name != "world"}


def checked_options(name: str, cls: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """`options` as the constructor of the objective called `name` takes them.

    Raises:
        RequestError: an option that the objective does not have (the message lists those it has), a required one that
            is missing, or a value of another type.
    """
    parameters = options_of(cls)
    if not isinstance(options, Mapping):
        raise RequestError(f"objective_options holds key: value pairs, got {short_repr(options)}")
    listed = f"it has {short_list(list(parameters))}" if parameters else "it has none"
    for key in options:
        if key not in parameters:
            raise RequestError(f"objective {printable(name)} has no option {short_repr(key)}: {listed}")
    for key, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and key not in options:
            raise RequestError(f"objective {printable(name)} needs a value for objective_options.{printable(key)}")
    try:
        hints = typing.get_type_hints(cls.__init__)  # type: ignore[misc]
    except Exception:  # annotations of names that are imported for type checkers only
        hints = {}
    return {key: checked_value(value, hints.get(key), f"objective_options.{key}") for key, value in options.items()}


def checked_value(value: Any, hint: Any, where: str) -> Any:
    """A value of the type that the constructor asks for, that YAML and a checkpoint can hold."""
    kinds = set(typing.get_args(hint))
    if type(None) in kinds:  # `float | None`
        if value is None:
            return None
        (hint,) = kinds - {type(None)} if len(kinds) == 2 else (None,)
    if hint in CHECKED:
        value = typed(value, hint, where)
    if not is_plain(value):
        raise RequestError(
            f"{where} takes numbers that are finite, text, lists and keys of them, got {short_repr(value)}"
        )
    return value


def is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    return value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value))
