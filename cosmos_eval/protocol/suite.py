"""Suites: an ordered list of benchmarks, averages for tables, and papers to compare with. Nothing of it is hashed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cosmos_core.short_repr import short_repr
from cosmos_core.suggestions import near
from cosmos_eval.metrics.names import is_rank
from cosmos_eval.protocol.source import Keys, Source
from cosmos_eval.protocol.task_registry import task_info

if TYPE_CHECKING:
    from cosmos_eval.protocol.benchmark import Benchmark

PRIMARY = "primary"
"""In place of a metric in an average: the primary metric of each benchmark."""
KEYS = ("name", "benchmarks", "metric")
"""Keys of an average."""


@dataclass(frozen=True)
class Average:
    """A macro average: the unweighted mean of a metric over benchmarks."""

    name: str
    benchmarks: tuple[str, ...]
    metric: str
    """Name of a metric, or `primary`."""


@dataclass(frozen=True)
class Suite:
    """A suite, as `--suite NAME` selects it."""

    name: str
    benchmarks: tuple["Benchmark", ...]
    averages: tuple[Average, ...] = ()
    summary: str = ""
    published: tuple[str, ...] = ()
    """Starts of the names of the papers whose figures `reproduce` compares it with."""


def read_averages(source: Source, benchmarks: Mapping[str, "Benchmark"]) -> tuple[Average, ...]:
    """Read `averages` of a suite: a list of maps with a name, at least two benchmarks of the suite, and a metric.

    Args:
        source: the suite.
        benchmarks: name -> benchmark of the suite.

    Raises:
        RequestError: an unknown or missing key, a repeated name, fewer than two benchmarks, a benchmark that is listed
            twice or is not in the suite, or a metric that is a rank or that one of the benchmarks does not report;
            names file and line.
    """
    averages: dict[str, Average] = {}
    for i, value in enumerate(source.value.get("averages", [])):
        at: Keys = ("averages", i)
        if not isinstance(value, dict):
            raise source.refuse(at, f"an average is a map with the keys {', '.join(KEYS)}")
        for key in value:
            if key not in KEYS:
                raise source.refuse((*at, key), f"unknown key {short_repr(key)} in an average{near(str(key), KEYS)}")
        for key in KEYS:
            if key not in value:
                raise source.refuse(at, f"the key {short_repr(key)} is missing in an average")
        name, names, metric = (value[key] for key in KEYS)
        if not isinstance(name, str) or not name.strip():
            raise source.refuse((*at, "name"), f"name must be a text, not {short_repr(name)}")
        if name in averages:
            raise source.refuse((*at, "name"), f"two averages are called {short_repr(name)}")
        if not isinstance(metric, str):
            raise source.refuse((*at, "metric"), f"metric must be a text, not {short_repr(metric)}")
        if not isinstance(names, list) or len(names) < 2:
            raise source.refuse((*at, "benchmarks"), "benchmarks must be a list of at least two")
        for j, benchmark in enumerate(names):
            _check_member(source, (*at, "benchmarks", j), benchmark, names[:j], benchmarks, metric)
        averages[name] = Average(name, tuple(names), metric)
    return tuple(averages.values())


def _check_member(
    source: Source, at: Keys, name: Any, before: list[str], benchmarks: Mapping[str, "Benchmark"], metric: str
) -> None:
    """Check one benchmark of an average, at `at`; `before` are those listed before it."""
    if not isinstance(name, str) or name not in benchmarks:
        raise source.refuse(at, f"{short_repr(name)} is not in the suite's benchmarks{near(str(name), benchmarks)}")
    if name in before:
        raise source.refuse(at, f"{name} is listed twice")
    benchmark = benchmarks[name]
    averaged = benchmark.metrics["primary"] if metric == PRIMARY else metric
    if not task_info(benchmark.task).reports(averaged, benchmark.metrics):
        raise source.refuse(
            (*at[:2], "metric"), f"{name} does not report {short_repr(averaged)}; write one of its metrics, or primary"
        )
    if is_rank(averaged):
        raise source.refuse((*at[:2], "metric"), f"{averaged} is a rank, but averages are of fractions; choose another")
