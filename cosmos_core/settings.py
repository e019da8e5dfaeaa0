"""The settings of a training with their descriptions, which are the docstrings in the configuration's source."""

import ast
import dataclasses
import inspect
import textwrap
import typing
from dataclasses import dataclass
from typing import Any

from cosmos_core.config import TrainConfig


@dataclass(frozen=True)
class Setting:
    """One key of `--set` and of a YAML file."""

    key: str
    kind: str
    """The type in words, as in `whole number`."""
    default: Any
    about: str

    def as_text(self) -> str:
        """The default as text for `--set key=`."""
        if isinstance(self.default, tuple):
            return f"[{', '.join(f'{part:.4g}' for part in self.default)}]"
        return str(self.default).lower() if isinstance(self.default, bool) else str(self.default)


def settings(config: type = TrainConfig, prefix: str = "") -> list[Setting]:
    """Every setting in the order of its class; those of a nested configuration under dotted names."""
    types, about = typing.get_type_hints(config), docstrings(config)
    listed: list[Setting] = []
    for item in dataclasses.fields(config):
        hint = types[item.name]
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            listed += settings(hint, f"{prefix}{item.name}.")
            continue
        default = item.default if item.default is not dataclasses.MISSING else {}  # a dict of free keys
        listed.append(Setting(prefix + item.name, kind_of(hint), default, about.get(item.name, "")))
    return listed


def docstrings(config: type) -> dict[str, str]:
    """The docstring below each field of a class, on one line."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(config))).body
    assert isinstance(body, ast.ClassDef)
    texts = {}
    for field, statement in zip(body.body, body.body[1:], strict=False):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        if (
            isinstance(statement, ast.Expr)
            and isinstance(statement.value, ast.Constant)
            and isinstance(statement.value.value, str)
        ):
            texts[field.target.id] = " ".join(statement.value.value.split())
    return texts


def kind_of(hint: Any) -> str:
    """A field's type in words: `3 numbers`, `whole number`."""
    names = {int: "whole number", float: "number", bool: "true or false", str: "text", Any: "name or keys"}
    if typing.get_origin(hint) is tuple:
        return f"{len(typing.get_args(hint))} {names[typing.get_args(hint)[0]]}s"
    if typing.get_origin(hint) is dict:
        return "keys"
    return names.get(hint, getattr(hint, "__name__", str(hint)))
