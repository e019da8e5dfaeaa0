"""Known differences: why and by how much published figures of a benchmark may differ from ours. Not hashed."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from cosmos_core.short_repr import short_repr
from cosmos_core.suggestions import near
from cosmos_eval.protocol.source import Keys, Source

KEYS = ("why", "points", "paper", "metric", "inferred")


@dataclass(frozen=True)
class KnownDifference:
    """One reason why published figures of a benchmark may differ from ours."""

    why: str
    points: float = 0.0
    """By how much it may change a figure, in percentage points; 0 if unknown."""
    paper: str = ""
    """Start of the names of the papers that it applies to; empty: all."""
    metric: str = "*"
    """Pattern of the metrics that it applies to; `*` matches anything, including `/`."""
    inferred: bool = False
    """Whether the source does not state that this is its protocol (such as the attention), so that a figure cannot
    decide."""

    def applies_to(self, paper: str, metric: str) -> bool:
        """Return whether it applies to a metric of a paper."""
        return paper.startswith(self.paper) and fnmatchcase(metric, self.metric)


def read_differences(source: Source) -> tuple[KnownDifference, ...]:
    """Read `published` of a definition: a list of maps with `why`, and optionally `points`, `paper`, `metric` and
    `inferred`.

    Raises:
        RequestError: not such a list, an unknown key, no `why`, `points` that are not a number from 0 to 100, or an
            `inferred` that is neither true nor false; names file and line.
    """
    differences = []
    for i, value in enumerate(source.value.get("published", [])):
        at: Keys = ("published", i)
        if not isinstance(value, dict):
            raise source.refuse(at, f"a known difference is a map with the keys {', '.join(KEYS)}")
        for key in value:
            if key not in KEYS:
                raise source.refuse(
                    (*at, key), f"unknown key {short_repr(key)} in a known difference{near(str(key), KEYS)}"
                )
        _check_texts(source, at, value)
        points = value.get("points", 0)
        if isinstance(points, bool) or not isinstance(points, int | float) or not 0 <= points <= 100:
            raise source.refuse(
                (*at, "points"), f"points are percentage points from 0 to 100, not {short_repr(points)}"
            )
        inferred = value.get("inferred", False)
        if not isinstance(inferred, bool):
            raise source.refuse((*at, "inferred"), f"inferred is true or false, not {short_repr(inferred)}")
        differences.append(
            KnownDifference(value["why"], float(points), value.get("paper", ""), value.get("metric", "*"), inferred)
        )
    return tuple(differences)


def read_papers(source: Source) -> tuple[str, ...]:
    """Read `published` of a suite: starts of the names of the papers whose figures `reproduce` compares it with.

    Raises:
        RequestError: an entry that is not a text; names file and line.
    """
    papers = source.value.get("published", [])
    for i, paper in enumerate(papers):
        if not isinstance(paper, str) or not paper.strip():
            raise source.refuse(
                ("published", i), f"published must list starts of names of papers, not {short_repr(paper)}"
            )
    return tuple(papers)


def _check_texts(source: Source, at: Keys, value: dict[Any, Any]) -> None:
    """Check that `why` is there, and that `why`, `paper` and `metric` are texts."""
    if "why" not in value:
        raise source.refuse(at, "the key 'why' is missing in a known difference")
    for key in ("why", "paper", "metric"):
        if key in value and (not isinstance(value[key], str) or not value[key].strip()):
            raise source.refuse((*at, key), f"{key} must be a text, not {short_repr(value[key])}")
