"""A suite: an ordered list of benchmarks, with their headline metrics, the averages that its tables show, and the
published figures to compare with. Nothing of it is hashed."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cosmos_core.short_repr import short_repr
from cosmos_core.suggestions import near
from cosmos_eval.metrics.names import is_rank
from cosmos_eval.protocol.source import Keys, Source
from cosmos_eval.protocol.task_registry import task_info

if TYPE_CHECKING:
    from cosmos_eval.protocol.benchmark import Benchmark

PRIMARY = "primary"
"""In place of a metric in an average: the headline of each benchmark in the suite, by default its primary metric."""
KEYS = ("name", "benchmarks", "metric", "weights", "printed")
"""Keys of an average; the first two are needed."""
PRINTED_KEYS = ("paper", "column", "model")
"""Keys of a printed average; the first two are needed."""
Headlines = Mapping[str, tuple[str, ...]]
"""Benchmark -> metrics that the suite's tables show first, in place of those of its task."""


@dataclass(frozen=True)
class PrintedAverage:
    """Where published tables print an average."""

    paper: str
    """Start of the paper's name."""
    column: str
    """What the table calls it."""
    model: str = ""
    """The printed model, where rows of one column are measured in several ways; empty: all models."""


@dataclass(frozen=True)
class Average:
    """A macro average: the mean over benchmarks of a metric, or of a metric of each; unweighted, if not said."""

    name: str
    benchmarks: tuple[str, ...]
    metric: str
    """Name of a metric, or `primary`."""
    own_metrics: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Benchmark -> its metrics in place of `metric`. Of several, such as recall@1 in both directions, the mean counts
    as one benchmark."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Benchmark -> its weight, where tables count one more than another; 1 for those that are not listed."""
    printed: tuple[PrintedAverage, ...] = ()

    def weight(self, benchmark: str) -> float:
        """Return the weight of a benchmark, relative to the others."""
        return self.weights.get(benchmark, 1.0)

    def share(self, benchmark: str, metrics: int) -> float:
        """Return the share of each of the `metrics` of a benchmark in the average; all shares add up to 1."""
        return self.weight(benchmark) / (sum(map(self.weight, self.benchmarks)) * metrics)

    def metrics_of(self, benchmark: str, primary: Sequence[str]) -> tuple[str, ...]:
        """Return the metrics of a benchmark whose mean the average takes; `primary`: its headline in the suite."""
        return self.own_metrics.get(benchmark) or (tuple(primary) if self.metric == PRIMARY else (self.metric,))


@dataclass(frozen=True)
class Suite:
    """A suite, as `--suite NAME` selects it."""

    name: str
    benchmarks: tuple["Benchmark", ...]
    averages: tuple[Average, ...] = ()
    summary: str = ""
    published: tuple[str, ...] = ()
    """Starts of the names of the papers whose figures `reproduce` compares it with."""
    headlines: Headlines = field(default_factory=dict)
    reproduces: str = ""
    """The published table that its figures are those of, as a reader would cite it."""
    lacks: tuple[str, ...] = ()
    """Columns of that table that it does not have, each with the reason."""

    def members(self, average: Average) -> Iterator[tuple["Benchmark", tuple[str, ...]]]:
        """Yield each benchmark of an average with its metrics, whose mean it contributes."""
        by_name = {benchmark.name: benchmark for benchmark in self.benchmarks}
        for name in average.benchmarks:
            primary = self.headlines.get(name, (by_name[name].metrics["primary"],))
            yield by_name[name], average.metrics_of(name, primary)


def read_headlines(source: Source, benchmarks: Mapping[str, "Benchmark"]) -> dict[str, tuple[str, ...]]:
    """Read `headline` of a suite: a map of benchmarks of the suite to a metric or a list of metrics.

    Raises:
        RequestError: not such a map, an unknown benchmark, or a metric that it does not report; names file and line.
    """
    headlines = {}
    for name, value in source.value.get("headline", {}).items():
        at: Keys = ("headline", name)
        _check_member(source, at, name, [], benchmarks)
        headlines[name] = _read_metrics(source, at, benchmarks[name], value)
    return headlines


def read_averages(
    source: Source, benchmarks: Mapping[str, "Benchmark"], headlines: Headlines | None = None
) -> tuple[Average, ...]:
    """Read `averages` of a suite: a list of maps with a name and at least two benchmarks of the suite.

    `benchmarks` of an average is a list of names, or a map of names to metrics, where an empty value stands for
    `metric`. `metric` is `primary` by default. `weights` is a map of some of the benchmarks to numbers above 0.
    `printed` lists published tables that print the average: maps with `paper`, `column` and perhaps `model`.

    Args:
        source: the suite.
        benchmarks: name -> benchmark of the suite.
        headlines: of the suite, for `primary`.

    Raises:
        RequestError: an unknown or missing key, a repeated name, fewer than two benchmarks, a benchmark that is listed
            twice or is not in the suite, a metric that is a rank or that one of the benchmarks does not report, or
            weights or printed averages that are not such maps; names file and line.
    """
    averages: dict[str, Average] = {}
    for i, value in enumerate(source.value.get("averages", [])):
        at: Keys = ("averages", i)
        if not isinstance(value, dict):
            raise source.refuse(at, f"an average is a map with the keys {', '.join(KEYS)}")
        for key in value:
            if key not in KEYS:
                raise source.refuse((*at, key), f"unknown key {short_repr(key)} in an average{near(str(key), KEYS)}")
        for key in KEYS[:2]:
            if key not in value:
                raise source.refuse(at, f"the key {short_repr(key)} is missing in an average")
        average = _read_average(source, at, value, benchmarks, headlines or {})
        if average.name in averages:
            raise source.refuse((*at, "name"), f"two averages are called {short_repr(average.name)}")
        averages[average.name] = average
    return tuple(averages.values())


def _read_average(
    source: Source, at: Keys, value: dict[str, Any], benchmarks: Mapping[str, "Benchmark"], headlines: Headlines
) -> Average:
    """Read one average, whose keys are known."""
    name, listed, metric = value["name"], value["benchmarks"], value.get("metric", PRIMARY)
    if not isinstance(name, str) or not name.strip():
        raise source.refuse((*at, "name"), f"name must be a text, not {short_repr(name)}")
    if not isinstance(metric, str):
        raise source.refuse((*at, "metric"), f"metric must be a text, not {short_repr(metric)}")
    if not isinstance(listed, list | dict) or len(listed) < 2:
        raise source.refuse((*at, "benchmarks"), "benchmarks must be a list of at least two, or a map to their metrics")
    own_metrics = {}
    names = list(listed)
    for j, member in enumerate(names):
        key: str | int = member if isinstance(listed, dict) and isinstance(member, str) else j
        where: Keys = (*at, "benchmarks", key)
        _check_member(source, where, member, names[:j], benchmarks)
        if isinstance(listed, dict) and listed[member] is not None:
            own_metrics[member] = _read_metrics(source, where, benchmarks[member], listed[member])
        elif metric != PRIMARY or member not in headlines:
            used = benchmarks[member].metrics["primary"] if metric == PRIMARY else metric
            _check_metric(source, (*at, "metric") if "metric" in value else where, benchmarks[member], used)
    weights = _read_weights(source, (*at, "weights"), value.get("weights", {}), names)
    printed = _read_printed(source, (*at, "printed"), value.get("printed", []))
    return Average(name, tuple(names), metric, own_metrics, weights, printed)


def _read_weights(source: Source, at: Keys, value: Any, names: list[str]) -> dict[str, float]:
    """Read the weights of an average of the benchmarks `names`."""
    if not isinstance(value, dict):
        raise source.refuse(at, f"weights must be a map of benchmarks to numbers, not {short_repr(value)}")
    for name, weight in value.items():
        if name not in names:
            raise source.refuse((*at, name), f"{short_repr(name)} is not in the average{near(str(name), names)}")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
            raise source.refuse((*at, name), f"the weight of {name} must be a number above 0, not {short_repr(weight)}")
    return {name: float(weight) for name, weight in value.items()}


def _read_printed(source: Source, at: Keys, value: Any) -> tuple[PrintedAverage, ...]:
    """Read where published tables print an average."""
    if not isinstance(value, list):
        raise source.refuse(at, f"printed must be a list of maps with paper and column, not {short_repr(value)}")
    for i, one in enumerate(value):
        if not isinstance(one, dict) or not set(PRINTED_KEYS[:2]) <= set(one) <= set(PRINTED_KEYS):
            raise source.refuse((*at, i), "a printed average is a map with paper and column, and perhaps model")
        for key, text in one.items():
            if not isinstance(text, str) or not text:
                raise source.refuse((*at, i, key), f"{key} must be a text, not {short_repr(text)}")
    return tuple(PrintedAverage(**one) for one in value)


def _read_metrics(source: Source, at: Keys, benchmark: "Benchmark", value: Any) -> tuple[str, ...]:
    """Read a metric, or a list of metrics, that a benchmark reports."""
    metrics = value if isinstance(value, list) else [value]
    if not metrics or not all(isinstance(metric, str) for metric in metrics):
        raise source.refuse(at, f"the metric of {benchmark.name} must be a text or a list, not {short_repr(value)}")
    for metric in metrics:
        _check_metric(source, at, benchmark, metric)
    return tuple(metrics)


def _check_member(source: Source, at: Keys, name: Any, before: list[Any], benchmarks: Mapping[str, Any]) -> None:
    """Check that an entry at `at` is a benchmark of the suite; `before` are those listed before it."""
    if not isinstance(name, str) or name not in benchmarks:
        raise source.refuse(at, f"{short_repr(name)} is not in the suite's benchmarks{near(str(name), benchmarks)}")
    if name in before:
        raise source.refuse(at, f"{name} is listed twice")


def _check_metric(source: Source, at: Keys, benchmark: "Benchmark", metric: str) -> None:
    """Check that a benchmark reports a metric, and that it is not a rank."""
    if not task_info(benchmark.task).reports(metric, benchmark.metrics):
        raise source.refuse(
            at, f"{benchmark.name} does not report {short_repr(metric)}; write one of its metrics, or primary"
        )
    if is_rank(metric):
        raise source.refuse(at, f"{metric} is a rank, but averages are of fractions; choose another")
