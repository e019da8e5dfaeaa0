"""Plug-ins: objects that other installed packages add to our registries through entry points (`importlib.metadata`).

A registry maps names to objects: built-in ones are in a dictionary, those of plug-ins in one group of entry points.

    OBJECTIVES = Registry("cosmos_core.objectives", "objective", {"clip": "cosmos_core.objectives.clip:Clip"}, check)
    OBJECTIVES.names()            # built-in names, then those of plug-ins; imports nothing
    OBJECTIVES.load("siglip")     # the object of a name; imports only its module; RequestError if that fails
    OBJECTIVES.plugin("siglip")   # who provides it: .distribution and .version; None for built-in ones
    OBJECTIVES.available()        # every usable object by name, for `list`; imports all; warns of broken ones

A plug-in is code that runs with the rights of the user. It is imported only when its name is used or when `list` asks
for all. It cannot take a built-in name. `COSMOS_EVAL_PLUGINS=0` turns all of them off.
"""

import importlib
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.printable import one_line, printable
from cosmos_core.short_repr import short_list, short_repr

SWITCH = "COSMOS_EVAL_PLUGINS"
"""Environment variable; `0` turns plug-ins off."""
BUG = "a bug in the "
"""Prefix of the notes on exceptions that name the plug-in."""
UNKNOWN = "unknown"
"""Name or version of a distribution without usable metadata."""


@dataclass(frozen=True)
class Plugin:
    """One entry point of an installed distribution; nothing of it is imported before `load`."""

    name: str
    target: str
    """`module:attribute`, or a module alone."""
    distribution: str
    version: str

    def __str__(self) -> str:
        return printable(f"plug-in {self.distribution} {self.version}")

    def load(self) -> Any:
        """Import the object that `target` names; raises any exception of that import."""
        match = metadata.EntryPoint.pattern.match(self.target)
        if match is None:
            raise ValueError(f"its entry point is {self.target!r}, not module:attribute")
        loaded: Any = importlib.import_module(match["module"])
        for attribute in filter(None, (match["attr"] or "").split(".")):
            loaded = getattr(loaded, attribute)
        return loaded


class Registry:
    """A mapping of names to objects: built-in ones, and those that plug-ins add in one group of entry points.

    Args:
        group: group of the entry points, such as `cosmos_core.objectives`.
        entry_kind: what an entry is, for messages, such as `objective`.
        built_in: built-in names, each with its `module:attribute` or the object itself. Read at every call, so that
            tests may add to it.
        check: returns what is wrong with an object of a plug-in, in words; empty if nothing is.
        named: whether objects have a `name`, which must be that of their entry point.
    """

    def __init__(
        self,
        group: str,
        entry_kind: str,
        built_in: Mapping[str, Any],
        check: Callable[[Any], str] = lambda candidate: "",
        named: bool = False,
    ) -> None:
        self.group = group
        self.entry_kind = entry_kind
        self.built_in = built_in
        self.check = check
        self.named = named

    def names(self) -> list[str]:
        """Built-in names in their order, then those of plug-ins sorted, whether usable or not; imports none."""
        return list(dict.fromkeys([*self.built_in, *sorted(entry.name for entry in entry_points(self.group))]))

    def plugin(self, name: str) -> Plugin | None:
        """The plug-in that provides `name`; None for a built-in or unknown name.

        Raises:
            RequestError: several distributions provide it.
        """
        plugins = [plugin for plugin in entry_points(self.group) if plugin.name == name]
        if name in self.built_in:
            for plugin in plugins:
                warnings.warn(self.taken(plugin), stacklevel=2)
            return None
        if len(plugins) > 1:
            raise RequestError(self.ambiguous(plugins))
        return plugins[0] if plugins else None

    def load(self, name: str) -> Any:
        """The object of `name`.

        Raises:
            RequestError: there is no such name, or it is a plug-in's that cannot be imported or used.
        """
        plugin = self.plugin(name)  # also for built-in names: warns of a plug-in with the same name
        if name in self.built_in:
            return resolve(self.built_in[name])
        if plugin is None:
            raise self.unknown(name)
        return self.usable(plugin)

    def available(self) -> dict[str, Any]:
        """Every usable object by name, built-in ones first; warns of plug-ins that cannot be used and leaves them
        out."""
        usable = {}
        for name in self.names():
            try:
                usable[name] = self.load(name)
            except RequestError as error:
                if name in self.built_in:
                    raise
                warnings.warn(str(error), stacklevel=2)
        return usable

    def usable(self, plugin: Plugin) -> Any:
        """The object of a plug-in, checked; RequestError if it cannot be used."""
        try:
            loaded = plugin.load()
            problem = self.check(loaded)
            if not problem and self.named and loaded.name != plugin.name:
                problem = f"it calls itself {short_repr(loaded.name)}; it must have the name of its entry point"
        except (Exception, SystemExit) as error:  # foreign code: it may raise anything, or call exit()
            problem = f"{type(error).__name__}: {one_line(error)}"
        if problem:
            raise RequestError(
                f"{self.entry_kind} {printable(plugin.name)} of {plugin} ({printable(plugin.target)}) cannot be used: "
                f"{problem}; correct or uninstall {printable(plugin.distribution)}"
            )
        return loaded

    @contextmanager
    def at_work(self, name: str) -> Iterator[None]:
        """A context for code of the object `name`: marks its exceptions as the plug-in's bugs (`plugin_of_bug`)."""
        try:
            yield
        except (RequestError, OSError):
            raise
        except Exception as error:
            plugin = self.plugin(name)
            if plugin is not None:
                error.add_note(f"{BUG}{self.entry_kind} {printable(name)} of {plugin}")
            raise

    def unknown(self, name: Any) -> RequestError:
        """The error for an unknown name."""
        return RequestError(
            f"{self.entry_kind}: {short_repr(name)} is not one of {short_list(self.names())}{off_note()}"
        )

    def taken(self, plugin: Plugin) -> str:
        """The warning for a plug-in with a built-in name."""
        return (
            f"{plugin} is ignored where it provides the {self.entry_kind} {printable(plugin.name)}, "
            f"which cosmos-eval has itself; give it another name in the entry points of {self.group}"
        )

    def ambiguous(self, plugins: Iterable[Plugin]) -> str:
        """The error message for a name that several distributions provide."""
        listed = list(plugins)
        return (
            f"{self.entry_kind} {printable(listed[0].name)} is provided by "
            f"{' and '.join(str(entry) for entry in listed)}; uninstall all but one of them"
        )


def plugin_of_bug(error: Exception) -> str:
    """The plug-in that raised an exception, as in `task probe of plug-in extras 1.0`; empty for our own code."""
    notes = [note for note in getattr(error, "__notes__", []) if isinstance(note, str) and note.startswith(BUG)]
    return notes[0].removeprefix(BUG) if notes else ""


def resolve(target: Any) -> Any:
    """Import the object named by `"package.module:name"`; anything else is returned unchanged."""
    if not isinstance(target, str):
        return target
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def enabled() -> bool:
    """Whether plug-ins are turned on."""
    return os.environ.get(SWITCH, "") != "0"


def off_note() -> str:
    """A note for errors about unknown names; empty if plug-ins are turned on."""
    return "" if enabled() else f" (plug-ins are turned off by {SWITCH}=0)"


def first_sentence(found: Any) -> str:
    """The first sentence of an object's docstring, for `list`; empty if it has none."""
    return " ".join((found.__doc__ or "").split()).partition(". ")[0].rstrip(".")


def entry_points(group: str) -> list[Plugin]:
    """The plug-ins of one group, sorted by name and distribution; empty if plug-ins are turned off."""
    return installed(group, tuple(sys.path)) if enabled() else []


@cache
def installed(group: str, path: tuple[str, ...]) -> list[Plugin]:
    """The entry points of one group on `path` (`sys.path`), cached: reading those of 125 packages takes 10 ms."""
    try:
        points = list(metadata.entry_points(group=group))
    except Exception:  # one distribution's malformed file must not hide the others
        points = readable_entry_points(group)
    plugins = {Plugin(entry.name, entry.value, *identity(entry.dist)) for entry in points}
    return sorted(plugins, key=lambda entry: (entry.name, entry.distribution))


def readable_entry_points(group: str) -> list[metadata.EntryPoint]:
    """The entry points of every distribution whose file can be read; of equal names the first on `sys.path` counts."""
    by_distribution: dict[str, list[metadata.EntryPoint]] = {}
    for number, distribution in enumerate(metadata.distributions()):
        name, _ = identity(distribution)
        by_distribution.setdefault(f"{number}" if name == UNKNOWN else name, readable(distribution, group))
    return [point for entries in by_distribution.values() for point in entries]


def readable(distribution: metadata.Distribution, group: str) -> list[metadata.EntryPoint]:
    """The entry points of a distribution in one group; none, with a warning, if its file cannot be read."""
    try:
        return list(distribution.entry_points.select(group=group))
    except Exception as error:
        name, version = identity(distribution)
        warnings.warn(
            f"the entry points of {printable(name)} {printable(version)} cannot be read ({one_line(error)}): "
            "what it adds is left out; install it again",
            stacklevel=2,
        )
        return []


def identity(distribution: Any) -> tuple[str, str]:
    """Name and version of a distribution, `unknown` if its metadata are missing."""
    try:
        return distribution.metadata["Name"] or UNKNOWN, distribution.version or UNKNOWN
    except Exception:  # no METADATA file, or it is not text
        return UNKNOWN, UNKNOWN
