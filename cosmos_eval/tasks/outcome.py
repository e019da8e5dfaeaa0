"""What a task returns: metrics with intervals, and one record for each sample."""

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas

    from cosmos_eval.tasks.class_table import ClassTable


@dataclass(frozen=True)
class Metric:
    """The value of a metric with its 95 % interval. Fractions, not percent."""

    value: float
    low: float
    high: float
    n: int
    """Number of samples behind the value."""
    method: str = ""
    """How the interval was computed, such as "mid-p" or "bootstrap". Empty in older results, which all used the
    bootstrap."""

    def record(self) -> dict[str, Any]:
        """The fields as they are written to RESULT.json; an empty `method` is left out."""
        return {key: value for key, value in asdict(self).items() if key != "method" or value}


@dataclass(frozen=True)
class Outcome:
    """The result of one task on one benchmark."""

    metrics: dict[str, Metric]
    """By name."""
    samples: "pandas.DataFrame"
    """One row per sample: the columns of the task's `sample_keys`, and what was computed for the sample."""
    primary: str
    """The name of the metric that tables print first."""
    warnings: tuple[str, ...] = field(default=())
    """Remarks printed beside the metrics, such as "collapsed: ..."."""
    classes: "ClassTable | None" = None
    """The metric of each class with the prompts of the classes, if the task has classes."""
