"""What a task returns: metrics with intervals, and what happened to every sample."""

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Metric:
    """A measured value with its 95 % interval; `n` counts the samples behind it. Fractions, not percent."""

    value: float
    low: float
    high: float
    n: int
    method: str = ""
    """What the interval is made by, such as "mid-p" or "bootstrap"; empty in older results: the bootstrap, whatever it
    had to go by."""

    def record(self) -> dict[str, Any]:
        """Its fields as a result holds them, without an empty `method`."""
        return {key: value for key, value in asdict(self).items() if key != "method" or value}


@dataclass(frozen=True)
class Outcome:
    """Metrics by name (the first one printed is `primary`), one row a sample, and remarks such as "collapsed"."""

    metrics: dict[str, Metric]
    samples: "pandas.DataFrame"
    primary: str
    warnings: tuple[str, ...] = field(default=())
