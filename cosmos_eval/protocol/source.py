"""YAML files with the line of every value, so that errors in a definition name file and line."""

from pathlib import Path
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.yaml_text import Keys, read_yaml


class Source:
    """A YAML file as plain values, with their lines.

    Args:
        path: the file.
        value: its content.
        lines: keys that lead to a value -> line of that value.
        base: the definition that this one overrides, if any; values without a line here are looked up there.
    """

    def __init__(self, path: Path, value: Any, lines: dict[Keys, int], base: "Source | None" = None) -> None:
        self.path = path
        self.value = value
        self.lines = lines
        self.base = base

    def refuse(self, keys: Keys, message: str) -> RequestError:
        """Build the error for a value; it is not raised here.

        Args:
            keys: keys that lead to the value. If it has no line (a missing key), the nearest value around it is named.
            message: what is wrong and how to correct it.
        """
        base = self.base
        while base is not None and keys not in base.lines:
            base = base.base
        if base is not None and keys not in self.lines:
            message += f" (from its base {base.path.stem})"
        while keys and keys not in self.lines:
            keys = keys[:-1]
        return RequestError(f"{self.path}:{self.lines.get(keys, 1)}: {message}")


def read_source(path: Path) -> Source:
    """Read one YAML document of maps, lists, texts, numbers and booleans.

    Raises:
        RequestError: see `cosmos_core.yaml_text.read_yaml`; names file and line.
    """
    lines: dict[Keys, int] = {}
    return Source(path, read_yaml(path, lines), lines)
