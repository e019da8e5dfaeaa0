"""YAML with the line of everything in it, so that a mistake in a definition is named with its place."""

from pathlib import Path
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.yaml_text import Keys, read_yaml


class Source:
    """A YAML file read into plain values. `lines` gives the line of each value by the keys that lead to it."""

    def __init__(self, path: Path, value: Any, lines: dict[Keys, int], base: "Source | None" = None) -> None:
        self.path = path
        self.value = value
        self.lines = lines
        self.base = base
        """What it was laid over: values whose keys are not in this file may come from there."""

    def refuse(self, keys: Keys, message: str) -> RequestError:
        """The error that names file and line of the value at `keys` (or of the nearest thing around it)."""
        if self.base is not None and keys not in self.lines and keys in self.base.lines:
            message += f" (from its base {self.base.path.stem})"
        while keys and keys not in self.lines:
            keys = keys[:-1]
        return RequestError(f"{self.path}:{self.lines.get(keys, 1)}: {message}")


def read_source(path: Path) -> Source:
    """Read one YAML document of maps, lists, texts, numbers and truth values.

    Raises:
        RequestError: see `cosmos_core.yaml_text.read_yaml`; names file and line.
    """
    lines: dict[Keys, int] = {}
    return Source(path, read_yaml(path, lines), lines)
