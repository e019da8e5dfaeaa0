"""What can be set in a training, read from the configuration's own source: the docstrings are the only description."""

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
    """The type, as a reader of YAML would call it."""
    default: Any
    about: str

    def as_text(self) -> str:
        """The default as it would be written after `--set key=`."""
        if isinstance(self.default, tuple):
            return f"[{', '.join(f'{part:.4g}' for part in self.default)}]"
        return str(self.default).lower() if isinstance(self.default, bool) else str(self.default)


def settings(config: type = TrainConfig, prefix: str = "") -> list[Setting]:
    """Every setting in the order of its class; those of a nested configuration under dotted names."""
    types, about = typing.get_type_hints(config), docstrings(config)
    found: list[Setting] = []
    for item in dataclasses.fields(config):
        hint = types[item.name]
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            found += settings(hint, f"{prefix}{item.name}.")
            continue
        default = item.default if item.default is not dataclasses.MISSING else {}  # keys that are free
        found.append(Setting(prefix + item.name, kind_of(hint), default, about.get(item.name, "")))
    return found


def docstrings(config: type) -> dict[str, str]:
    """What the string below each field of a class says, on one line."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(config))).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, below in zip(body.body, body.body[1:], strict=False):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str):
            found[field.target.id] = " ".join(below.value.value.split())
    return found


def kind_of(hint: Any) -> str:
    """A field's type in words: `3 numbers`, `whole number`."""
    names = {int: "whole number", float: "number", bool: "true or false", str: "text", Any: "name or keys"}
    if typing.get_origin(hint) is tuple:
        return f"{len(typing.get_args(hint))} {names[typing.get_args(hint)[0]]}s"
    if typing.get_origin(hint) is dict:
        return "keys"
    return names.get(hint, getattr(hint, "__name__", str(hint)))
