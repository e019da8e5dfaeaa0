"""Training objectives: one class in one file for each, chosen by the `objective` setting."""

import inspect
from collections.abc import Mapping
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.objectives.base import Objective, Views
from cosmos_core.objectives.listing import ListedObjective, listed_objectives
from cosmos_core.objectives.options import checked_options
from cosmos_core.plugins import Registry
from cosmos_core.printable import one_line, printable
from cosmos_core.world import World

__all__ = ["OBJECTIVES", "REGISTRY", "Objective", "Views", "build_objective", "list_objectives", "objective_class"]

OBJECTIVES = {
    "cosmos": "cosmos_core.objectives.cosmos:CosmosLoss",
    "clip": "cosmos_core.objectives.clip:Clip",
    "slip": "cosmos_core.objectives.slip:Slip",
    "silc": "cosmos_core.objectives.silc:Silc",
    "multiview": "cosmos_core.objectives.multiview:MultiView",
    "distill": "cosmos_core.objectives.distill:Distill",
    "siglip": "cosmos_core.objectives.siglip:SigLip",
}
"""Built-in objectives: setting -> module:class. A new one is a file here and a line in this table."""


def why_not_an_objective(candidate: Any) -> str:
    """Why an object is not an objective; empty if it is one."""
    if not (isinstance(candidate, type) and issubclass(candidate, Objective)):
        return "it is not a subclass of cosmos_core.objectives.Objective"
    if candidate.forward is Objective.forward:
        return "it has no forward"
    for name in ("views", "unused"):
        if not isinstance(inspect.getattr_static(candidate, name), classmethod | staticmethod):
            return f"its {name} must be a classmethod"
    return ""


REGISTRY = Registry("cosmos_core.objectives", "objective", OBJECTIVES, why_not_an_objective)
"""Built-in objectives and those of plug-ins."""


def objective_class(name: str) -> type[Objective]:
    """The class of the objective called `name`; RequestError if there is none, or if its plug-in is broken."""
    cls: type[Objective] = REGISTRY.load(name)
    return cls


def list_objectives() -> list[ListedObjective]:
    """Every usable objective, built-in ones first, described for people; imports all plug-ins."""
    return listed_objectives(REGISTRY)


def build_objective(name: str, world: World | None = None, options: Mapping[str, Any] | None = None) -> Objective:
    """The objective called `name`, on the CPU, with the settings that `objective_options` gives it.

    Raises:
        RequestError: there is no such objective, or it does not take these options.
    """
    cls = objective_class(name)
    values = checked_options(name, cls, options or {})
    try:
        return cls(world or World(), **values)
    except RequestError:
        raise
    except Exception as error:
        plugin = REGISTRY.plugin(name)
        if plugin is None and not values:
            raise
        source = f" of {plugin}" if plugin else ""
        options_text = (
            ", ".join(f"{key}={one_line(value, 40)}" for key, value in values.items()) or "no objective_options"
        )
        raise RequestError(
            f"objective {printable(name)}{source} cannot be built with {options_text}: "
            f"{type(error).__name__}: {one_line(error)}"
        ) from error
