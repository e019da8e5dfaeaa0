"""Options of the splits that a task needs besides the evaluated one. Imports nothing, so that a check of a definition
is fast."""

from collections.abc import Mapping
from typing import Any


def options_of_split(dataset: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the options of a further split: its own, and those of `dataset` that it inherits.

    `expected` is of the evaluated split. With another reader nothing is inherited.
    """
    own = dataset["splits"][name]
    if own.get("reader", dataset.get("reader")) != dataset.get("reader"):
        return dict(own)
    return {**{key: value for key, value in dataset.items() if key not in ("splits", "expected")}, **own}
