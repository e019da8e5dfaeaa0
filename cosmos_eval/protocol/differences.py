"""What a definition knows of published figures: why and how far they may differ from ours. Nothing of it is hashed."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from cosmos_core.short_repr import short_repr
from cosmos_core.suggestions import near
from cosmos_eval.protocol.source import Keys, Source

KEYS = ("why", "points", "paper", "metric")


@dataclass(frozen=True)
class Difference:
    """One known difference between a published figure and ours."""

    why: str
    points: float = 0.0
    """How far it may move a figure, in percentage points; 0 where nobody knows."""
    paper: str = ""
    """The papers that it is about, by the start of their name; empty for all."""
    metric: str = "*"
    """The metrics that it is about; `*` stands for anything, `/` included."""

    def concerns(self, paper: str, metric: str) -> bool:
        """Whether it is about this figure."""
        return paper.startswith(self.paper) and fnmatchcase(metric, self.metric)


def read_differences(source: Source) -> tuple[Difference, ...]:
    """The `published` of a definition: a list of maps with `why`, and `points`, `paper` and `metric` where they apply.

    Raises:
        RequestError: not such a list, an unknown key, no reason, or points that are no number from 0 to 100; names the
            line.
    """
    found = []
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
        found.append(Difference(value["why"], float(points), value.get("paper", ""), value.get("metric", "*")))
    return tuple(found)


def read_papers(source: Source) -> tuple[str, ...]:
    """The `published` of a suite: the papers, by the start of their name, whose figures it is compared with."""
    papers = source.value.get("published", [])
    for i, paper in enumerate(papers):
        if not isinstance(paper, str) or not paper.strip():
            raise source.refuse(("published", i), f"a paper is the start of its name, not {short_repr(paper)}")
    return tuple(papers)


def _check_texts(source: Source, at: Keys, value: dict[Any, Any]) -> None:
    if "why" not in value:
        raise source.refuse(at, "the key 'why' is missing in a known difference")
    for key in ("why", "paper", "metric"):
        if key in value and (not isinstance(value[key], str) or not value[key].strip()):
            raise source.refuse((*at, key), f"{key} must be a text, not {short_repr(value[key])}")
