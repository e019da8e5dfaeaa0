"""Differences between two results: fields of the identity, other fields, and metrics."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from cosmos_eval.protocol.feature_transforms import OF_RETRIEVAL
from cosmos_eval.results.record import Result
from cosmos_eval.tasks.outcome import Metric

IDENTITY = (
    "model.digest", "benchmark.fingerprint", "dataset.fingerprint", "precision", "limit",
    *(f"transforms.{name}" for name in OF_RETRIEVAL),
)  # fmt: skip
"""The parts of `Result.identity`, as fields of the record."""
ABSENT = "-"


@dataclass(frozen=True)
class Change:
    """A field of the record (`environment.python`) that differs; ABSENT where one of the two does not have it."""

    kind: str
    """`identity` (it decides the numbers), or the section of the record."""
    field: str
    before: Any
    after: Any


@dataclass(frozen=True)
class MetricChange:
    """A metric that differs; None where one of the two does not have it."""

    name: str
    before: Metric | None
    after: Metric | None

    @property
    def delta(self) -> float | None:
        """Value of the second minus that of the first."""
        return None if self.before is None or self.after is None else self.after.value - self.before.value


def changed_metrics(first: Result, second: Result) -> list[MetricChange]:
    """The metrics that differ in value, interval or n: in the order of the first result, then those that only the
    second has.

    Intervals are not compared where the two were resampled with different seeds or made by different methods (older
    results record no method).
    """
    intervals = not _have_other_seeds(first, second)
    changed = []
    for name in dict.fromkeys((*first.metrics, *second.metrics)):
        ours, theirs = first.metrics.get(name), second.metrics.get(name)
        if ours is None or theirs is None or _differ(ours, theirs, intervals):
            changed.append(MetricChange(name, ours, theirs))
    return changed


def changed_fields(first: Result, second: Result) -> list[Change]:
    """Every field but the metrics that differs: those that decide the numbers first, then in the record's order."""
    ours, theirs = flatten_fields(first), flatten_fields(second)
    absent = object()
    changed = [
        field
        for field in dict.fromkeys((*IDENTITY, *ours, *theirs))
        if ours.get(field, absent) != theirs.get(field, absent)
    ]
    kinds = {field: "identity" if field in IDENTITY else field.partition(".")[0] for field in changed}
    sections = ["identity", *(field.name for field in fields(Result))]
    return [
        Change(kinds[field], field, ours.get(field, ABSENT), theirs.get(field, ABSENT))
        for field in sorted(changed, key=lambda field: sections.index(kinds[field]))
    ]


def flatten_fields(result: Result) -> dict[str, Any]:
    """Every field of the record but the metrics, by its dotted name."""
    record = result.record()
    del record["schema"], record["metrics"]
    return _flat(record)


def _flat(record: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{above}{key}.")
        else:
            flat[f"{above}{key}"] = value
    return flat


def _differ(ours: Metric, theirs: Metric, intervals: bool) -> bool:
    intervals = intervals and ours.method == theirs.method
    return _numbers(ours, intervals) != _numbers(theirs, intervals)


def _numbers(metric: Metric, interval: bool) -> tuple[float, ...]:
    return (metric.value, metric.n, *((metric.low, metric.high) if interval else ()))


def _have_other_seeds(first: Result, second: Result) -> bool:
    seeds = [result.timing.seed for result in (first, second)]
    return None not in seeds and seeds[0] != seeds[1]
