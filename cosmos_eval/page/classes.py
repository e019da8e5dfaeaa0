"""The classes of results as data of the page: names and prompts once for each benchmark, values for each result."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_eval.report.names import short
from cosmos_eval.results.portable import portable_text
from cosmos_eval.results.record import Result

MOST_CHARACTERS = 1_200_000
"""Most characters of the values of classes in a page: about 50 results of 1,000 classes."""
DIGITS = 5
"""Digits of values after the point; tables show three of them."""


@dataclass
class ClassData:
    """Collects the classes of results, in the order in which the page shows them."""

    characters: int = 0
    left_out: list[str] = field(default_factory=list)
    """Lines about what the page does not have."""

    def add(self, result: Result, group: dict[str, Any], path: str) -> list[Any] | None:
        """Return the values of each class, [value, low, high] or 0; the first result of a group names its classes.

        None where there are no classes, where the metrics of the result have the same values, or where the page is
        full.

        Args:
            result: of the benchmark that `group` describes.
            group: gets `classes`: `metric`, `title`, `names`, `n` and `templates`.
            path: of the RESULT.json, for a line about what is left out.
        """
        try:
            table = result.classes
        except RequestError as error:
            self.left_out.append(portable_text(f"classes of {path}: {error}"))
            return None
        if table is None:
            return None
        names = [entry.name for entry in table.classes]
        stored = group.setdefault(
            "classes",
            {
                "metric": table.metric,
                "title": "IoU" if table.metric == "iou" else short(table.metric),
                "names": names,
                "n": [entry.n for entry in table.classes],
                "templates": list(table.templates),
            },
        )
        if _are_metrics(names, table.metric, result.metrics):
            return None
        values: list[Any] = [
            [round(number, DIGITS) for number in (entry.metric.value, entry.metric.low, entry.metric.high)]
            if entry.metric
            else 0
            for entry in table.classes
        ]
        if stored["names"] != names:  # equal fingerprints have equal classes, unless a table was made by hand
            self.left_out.append(portable_text(f"classes of {path}: not those of the other results of this benchmark"))
            return None
        size = len(repr(values))
        if self.characters + size > MOST_CHARACTERS:
            self.left_out.append(portable_text(f"classes of {path}: no room; see cosmos-eval results classes"))
            return None
        self.characters += size
        return values


def _are_metrics(names: list[str], metric: str, metrics: Mapping[str, Any]) -> bool:
    """Whether the values of the classes are metrics of the result, named CLASS/METRIC."""
    return any(f"{name}/{metric}" in metrics for name in names)
