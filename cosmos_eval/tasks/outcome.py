"""What a task returns: metrics with intervals, and what happened to every sample."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Metric:
    """A measured value with its 95 % interval; `n` counts the samples behind it. Fractions, not percent."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Outcome:
    """Metrics by name (the first one printed is `primary`), one row a sample, and remarks such as "collapsed"."""

    metrics: dict[str, Metric]
    samples: "pandas.DataFrame"
    primary: str
    warnings: tuple[str, ...] = field(default=())
