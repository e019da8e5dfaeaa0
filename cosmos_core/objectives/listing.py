"""Descriptions of all objectives for `cosmos-eval list`, from the docstrings and constructors of their classes."""

import inspect
from dataclasses import dataclass

from cosmos_core.objectives.base import Objective
from cosmos_core.objectives.options import options_of
from cosmos_core.plugins import Registry


@dataclass(frozen=True)
class ListedObjective:
    """One line of `cosmos-eval list objectives`."""

    name: str
    about: str
    """The first line of its docstring."""
    needs: str
    """What the training runs for it besides the student's towers."""
    options: str
    """What `objective_options` may hold, each with its default; empty where there are none."""
    source: str
    """Distribution and version of its plug-in; empty for a built-in one."""


def listed_objectives(registry: Registry) -> list[ListedObjective]:
    """Every objective that can be used; imports all plug-ins, and a broken one is a warning."""
    listed = []
    for name, cls in registry.available().items():
        plugin = registry.plugin(name)
        source = "" if plugin is None else f"{plugin.distribution} {plugin.version}"
        listed.append(ListedObjective(name, first_line(cls), needs_of(cls), options_in_words(cls), source))
    return listed


def first_line(cls: type) -> str:
    """The first line of a class's own docstring, not of an inherited one."""
    return inspect.cleandoc(cls.__dict__.get("__doc__") or "-").partition("\n")[0]


def needs_of(cls: type[Objective]) -> str:
    """Networks that run for an objective, in words."""
    parts = {"averaged teacher": cls.needs_teacher, "cross-attention": cls.cross_attention}
    return ", ".join(part for part, needed in parts.items() if needed) or "-"


def options_in_words(cls: type) -> str:
    """`init_bias=-10.0, width` for an option with a default and one without."""
    return ", ".join(
        name if option.default is inspect.Parameter.empty else f"{name}={option.default}"
        for name, option in options_of(cls).items()
    )
