"""Which benchmarks have their data, and how to get those of the others: what `data check` without names prints.

The data of a benchmark that has nothing on disk are not searched further, and nothing is rendered: an overview is
asked for often.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from cosmos_core.errors import RequestError
from cosmos_eval.datasets.fetch.plan import FetchPlan, has_some_of, make_fetch_plan, read_paths
from cosmos_eval.datasets.fetch.table import Table, load_table
from cosmos_eval.datasets.reader_registry import reader_info
from cosmos_eval.progress import Reporter, Silent, use_benchmark_name
from cosmos_eval.protocol.benchmark import Benchmark
from cosmos_eval.run.plan import ABSENT, DEFAULT_DATA_ROOT, check_data

LONGEST_PROBLEM = 200
"""Characters of a problem; `data check NAME` prints all of it."""


class State(StrEnum):
    """Whether a benchmark can be run."""

    ready = "ready"
    incomplete = "incomplete"
    """Some of the data are there."""
    not_there = "not there"


class Way(StrEnum):
    """How a benchmark gets what it lacks."""

    none = "none"
    """It lacks nothing that is known, or no source is known."""
    automatic = "automatic"
    token = "token"
    """By `data fetch`, for accounts of the hub that accepted the terms."""
    by_hand = "by hand"
    """At least one part needs a person."""


@dataclass(frozen=True)
class DataState:
    """The data of one benchmark on disk."""

    benchmark: Benchmark
    state: State
    counts: dict[str, int] = field(default_factory=dict)
    """What was found; of data that the program renders, what the definition expects."""
    left_out: int = 0
    """Items that the definition leaves out because images are missing."""
    missing: str = ""
    """The first file or folder that is missing, or the first problem; empty if the data are ready."""
    way: Way = Way.none
    plan: FetchPlan | None = None
    """What is fetched for it; None if the data are ready."""


def find_data_states(
    benchmarks: Sequence[Benchmark],
    data_root: Path | None,
    *,
    deep: bool = False,
    reporter: Reporter | None = None,
    table: Table | None = None,
) -> list[DataState]:
    """Find the state of the data of each benchmark, in their order.

    Args:
        data_root: the folder of the datasets; it need not exist.
        deep: whether every image and mask that is there is decoded.
        table: None: the shipped one.
    """
    reporter = reporter or Silent()
    table = table or load_table()
    states = []
    with reporter.task("checking data", len(benchmarks), "benchmarks") as advance:
        for benchmark in benchmarks:
            with use_benchmark_name(benchmark.name):
                states.append(_find_state(benchmark, data_root, deep, reporter, table))
            advance(1)
    return states


def _find_state(
    benchmark: Benchmark, data_root: Path | None, deep: bool, reporter: Reporter, table: Table
) -> DataState:
    root = data_root or DEFAULT_DATA_ROOT
    paths = read_paths(benchmark.dataset)
    is_rendered = not paths and not reader_info(benchmark.dataset["reader"]).needs_root
    if is_rendered and not deep:  # by the program itself, so that nothing can be missing
        return DataState(benchmark, State.ready, dict(benchmark.dataset.get("expected", {})))
    if paths and not has_some_of(benchmark, table, root):
        shown = str(root / paths[0][0])
        way, plan = _how_to_get(benchmark, root, table)
        return DataState(benchmark, State.not_there, missing=shown, way=way, plan=plan)
    _, report = check_data(benchmark, data_root, deep=deep, reporter=reporter)
    if not report.problems:
        return DataState(benchmark, State.ready, report.found, len(report.left_out))
    missing = describe_missing(benchmark, report.problems[0])
    state = State.incomplete if paths or report.found else State.not_there
    way, plan = _how_to_get(benchmark, root, table)
    return DataState(benchmark, state, report.found, len(report.left_out), missing, way, plan)


def describe_missing(benchmark: Benchmark, problem: str) -> str:
    """The path that a problem says is missing, or else the start of the problem, without the name and the note of the
    benchmark."""
    text = problem.removeprefix(f"{benchmark.name} ").removeprefix(f"{benchmark.name}: ")
    needed, absent, _ = text.partition(ABSENT)
    if absent:
        path = needed.removeprefix("needs ").removeprefix("the folder ").removeprefix("the file ")
        return path.partition(" (and with it ")[0].partition(" or ")[0]
    needs = str(benchmark.dataset.get("needs", ""))
    text = text.replace(f" ({needs})", "") if needs else text
    return text if len(text) <= LONGEST_PROBLEM else f"{text[:LONGEST_PROBLEM]}..."


def _how_to_get(benchmark: Benchmark, root: Path, table: Table) -> tuple[Way, FetchPlan | None]:
    try:
        plan = make_fetch_plan([benchmark], root, table=table)
    except (RequestError, OSError):  # an unreadable folder, of which the problem speaks
        return Way.none, None
    if plan.by_hand:
        way = Way.by_hand
    elif any(planned.first.access == "token" for planned in plan.fetched):
        way = Way.token
    else:
        way = Way.automatic if plan.fetched or plan.prepare else Way.none
    return way, plan
