"""A suite: an ordered list of benchmarks, averages for tables, papers to compare with. Nothing of it is hashed."""

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
"""In an average: of each benchmark its own primary metric."""
KEYS = ("name", "benchmarks", "metric")


@dataclass(frozen=True)
class Average:
    """A macro average: the plain mean of one metric over benchmarks, each with the same weight."""

    name: str
    benchmarks: tuple[str, ...]
    metric: str
    """A metric's name, or `primary`."""


@dataclass(frozen=True)
class Suite:
    """What `--suite NAME` stands for."""

    name: str
    benchmarks: tuple["Benchmark", ...]
    averages: tuple[Average, ...] = ()
    summary: str = ""
    published: tuple[str, ...] = ()
    """The papers, by the start of their name, whose figures `reproduce` compares it with."""


def read_averages(source: Source, benchmarks: Mapping[str, "Benchmark"]) -> tuple[Average, ...]:
    """The `averages` of a suite's YAML: a list of maps with a name, benchmarks of the suite, and a metric.

    Raises:
        RequestError: an unknown or missing key, a name given twice, a benchmark that the suite lacks or that is listed
            twice, fewer than two, or a metric that one of them does not report or that is a rank; names the line.
    """
    found: dict[str, Average] = {}
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
        if name in found:
            raise source.refuse((*at, "name"), f"two averages are called {short_repr(name)}")
        if not isinstance(metric, str):
            raise source.refuse((*at, "metric"), f"metric must be a text, not {short_repr(metric)}")
        if not isinstance(names, list) or len(names) < 2:
            raise source.refuse((*at, "benchmarks"), "benchmarks must be a list of at least two")
        for j, one in enumerate(names):
            _check_member(source, (*at, "benchmarks", j), one, names[:j], benchmarks, metric)
        found[name] = Average(name, tuple(names), metric)
    return tuple(found.values())


def _check_member(
    source: Source, at: Keys, name: Any, before: list[str], benchmarks: Mapping[str, "Benchmark"], metric: str
) -> None:
    if not isinstance(name, str) or name not in benchmarks:
        raise source.refuse(at, f"{short_repr(name)} is not in the suite's benchmarks{near(str(name), benchmarks)}")
    if name in before:
        raise source.refuse(at, f"{name} is listed twice")
    benchmark = benchmarks[name]
    asked = benchmark.metrics["primary"] if metric == PRIMARY else metric
    if not task_info(benchmark.task).reports(asked, benchmark.metrics):
        raise source.refuse(
            (*at[:2], "metric"), f"{name} does not report {short_repr(asked)}; write one of its metrics, or primary"
        )
    if is_rank(asked):
        raise source.refuse((*at[:2], "metric"), f"{asked} is a rank; averages are of fractions")
