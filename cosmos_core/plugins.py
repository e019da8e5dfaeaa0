"""Plug-ins: what other installed packages add to our tables through entry points (`importlib.metadata`).

A table maps names to objects: ours stand in a dictionary, those of plug-ins in one group of entry points.

    OBJECTIVES = Registry("cosmos_core.objectives", "objective", {"clip": "cosmos_core.objectives.clip:Clip"}, check)
    OBJECTIVES.names()            # ours, then those of plug-ins; imports nothing
    OBJECTIVES.load("siglip")     # the object behind a name; only its module is imported; RequestError in one line
    OBJECTIVES.plugin("siglip")   # who provides it: .distribution and .version; None for ours
    OBJECTIVES.available()        # every usable object by name, for `list`; imports all, a broken one is a warning

A plug-in is code that runs with the rights of the user. It is imported only when its name is used or when `list` asks
for all. It cannot take one of our names. `COSMOS_EVAL_PLUGINS=0` turns all of them off.
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
"""How notes on errors begin that say whose they are."""
UNKNOWN = "unknown"
"""Name or version of a distribution that does not tell."""


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
        """The object that `target` names. Raises whatever importing it raises."""
        match = metadata.EntryPoint.pattern.match(self.target)
        if match is None:
            raise ValueError(f"its entry point is {self.target!r}, not module:attribute")
        found: Any = importlib.import_module(match["module"])
        for attribute in filter(None, (match["attr"] or "").split(".")):
            found = getattr(found, attribute)
        return found


class Registry:
    """Names and what stands behind them: ours, and those that plug-ins add in one group of entry points.

    Args:
        group: of the entry points, as `cosmos_core.objectives`.
        what: an entry in one word, for messages: `objective`.
        built_in: our names, each with its `module:attribute` or the object itself. Read at every call: a test may add
            to it.
        check: what is wrong with an object that a plug-in provides, in words; empty where nothing is.
        named: whether objects have a `name`, which must be that of their entry point.
    """

    def __init__(
        self,
        group: str,
        what: str,
        built_in: Mapping[str, Any],
        check: Callable[[Any], str] = lambda found: "",
        named: bool = False,
    ) -> None:
        self.group = group
        self.what = what
        self.built_in = built_in
        self.check = check
        self.named = named

    def names(self) -> list[str]:
        """Ours in their order, then those of plug-ins in alphabetical order, usable or not: none is imported."""
        return list(dict.fromkeys([*self.built_in, *sorted(one.name for one in entry_points(self.group))]))

    def plugin(self, name: str) -> Plugin | None:
        """The plug-in that provides `name`; None where the name is ours or nobody's.

        Raises:
            RequestError: several distributions provide it.
        """
        found = [one for one in entry_points(self.group) if one.name == name]
        if name in self.built_in:
            for one in found:
                warnings.warn(self.taken(one), stacklevel=2)
            return None
        if len(found) > 1:
            raise RequestError(self.ambiguous(found))
        return found[0] if found else None

    def load(self, name: str) -> Any:
        """The object behind `name`.

        Raises:
            RequestError: there is no such name, or it is a plug-in's that cannot be imported or used.
        """
        plugin = self.plugin(name)  # looked for where the name is ours, too: a plug-in that wants it is named
        if name in self.built_in:
            return resolve(self.built_in[name])
        if plugin is None:
            raise self.unknown(name)
        return self.usable(plugin)

    def available(self) -> dict[str, Any]:
        """Every usable object by name, ours first; what of the plug-ins cannot be used is left out with a warning."""
        found = {}
        for name in self.names():
            try:
                found[name] = self.load(name)
            except RequestError as error:
                if name in self.built_in:
                    raise
                warnings.warn(str(error), stacklevel=2)
        return found

    def usable(self, plugin: Plugin) -> Any:
        """The object of a plug-in, checked; RequestError in one line where it cannot be used."""
        try:
            found = plugin.load()
            problem = self.check(found)
            if not problem and self.named and found.name != plugin.name:
                problem = f"it calls itself {short_repr(found.name)}; it must have the name of its entry point"
        except (Exception, SystemExit) as error:  # somebody else's module: it may raise anything, and call exit()
            problem = f"{type(error).__name__}: {one_line(error)}"
        if problem:
            raise RequestError(
                f"{self.what} {printable(plugin.name)} of {plugin} ({printable(plugin.target)}) cannot be used: "
                f"{problem}; correct or uninstall {printable(plugin.distribution)}"
            )
        return found

    @contextmanager
    def at_work(self, name: str) -> Iterator[None]:
        """Around code of the object behind `name`: a bug of a plug-in is marked as its own (`plugin_of_bug`)."""
        try:
            yield
        except (RequestError, OSError):
            raise
        except Exception as error:
            plugin = self.plugin(name)
            if plugin is not None:
                error.add_note(f"{BUG}{self.what} {printable(name)} of {plugin}")
            raise

    def unknown(self, name: Any) -> RequestError:
        """What is said of a name that nobody provides."""
        return RequestError(f"{self.what}: {short_repr(name)} is none of {short_list(self.names())}{off_note()}")

    def taken(self, plugin: Plugin) -> str:
        """What is said of a plug-in that wants one of our names."""
        return (
            f"{plugin} is ignored where it provides the {self.what} {printable(plugin.name)}, a name of ours; give it "
            f"another name in the entry points of {self.group}"
        )

    def ambiguous(self, plugins: Iterable[Plugin]) -> str:
        """What is said of a name that several distributions provide."""
        found = list(plugins)
        return (
            f"{self.what} {printable(found[0].name)} is provided by {' and '.join(str(one) for one in found)}; "
            "uninstall all but one of them"
        )


def plugin_of_bug(error: Exception) -> str:
    """Where a bug of a plug-in is, as in `task probe of plug-in extras 1.0`; empty for one of ours."""
    notes = [note for note in getattr(error, "__notes__", []) if isinstance(note, str) and note.startswith(BUG)]
    return notes[0].removeprefix(BUG) if notes else ""


def resolve(target: Any) -> Any:
    """What `"package.module:name"` names; anything else as it is."""
    if not isinstance(target, str):
        return target
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def enabled() -> bool:
    """Whether plug-ins are looked for at all."""
    return os.environ.get(SWITCH, "") != "0"


def off_note() -> str:
    """What to say behind a name that is not found; empty where plug-ins are looked for."""
    return "" if enabled() else f" (plug-ins are turned off by {SWITCH}=0)"


def first_sentence(found: Any) -> str:
    """What an object of a plug-in says of itself, for `list`; empty where it says nothing."""
    return " ".join((found.__doc__ or "").split()).partition(". ")[0].rstrip(".")


def entry_points(group: str) -> list[Plugin]:
    """The plug-ins of one group, by name and distribution; empty where plug-ins are turned off."""
    return installed(group, tuple(sys.path)) if enabled() else []


@cache
def installed(group: str, path: tuple[str, ...]) -> list[Plugin]:
    """The entry points of one group on `path`, which is `sys.path`: reading those of 125 packages takes 10 ms."""
    try:
        found = list(metadata.entry_points(group=group))
    except Exception:  # one distribution's file is no list of entry points: it must not hide the others
        found = readable_entry_points(group)
    plugins = {Plugin(one.name, one.value, *identity(one.dist)) for one in found}
    return sorted(plugins, key=lambda one: (one.name, one.distribution))


def readable_entry_points(group: str) -> list[metadata.EntryPoint]:
    """Those of every distribution whose file can be read, the first one of a name on `sys.path` as usual."""
    found: dict[str, list[metadata.EntryPoint]] = {}
    for number, distribution in enumerate(metadata.distributions()):
        name, _ = identity(distribution)
        found.setdefault(f"{number}" if name == UNKNOWN else name, readable(distribution, group))
    return [one for entries in found.values() for one in entries]


def readable(distribution: metadata.Distribution, group: str) -> list[metadata.EntryPoint]:
    """The entry points of a distribution in one group; none, with a warning, where its file cannot be read."""
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
    """Name and version of a distribution, `unknown` where its metadata do not tell."""
    try:
        return distribution.metadata["Name"] or UNKNOWN, distribution.version or UNKNOWN
    except Exception:  # no METADATA file, or one that is not text
        return UNKNOWN, UNKNOWN
