"""What a run is going to do: models × benchmarks, with everything that is missing found before any compute."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_core.errors import RequestError
from cosmos_eval.progress import Reporter, naming
from cosmos_eval.protocol.benchmark import Benchmark, list_suites, load_benchmark, load_suite, protocol_fingerprint

if TYPE_CHECKING:
    from cosmos_eval.datasets.base import DataCheck

DEFAULT_DATA_ROOT = Path("data")
ABSENT = ", which is not there"
"""What a problem of a file or folder says behind its place, as `Survey.missing` writes it."""


@dataclass(frozen=True)
class Planned:
    """One benchmark of a run: where its data is, and why it cannot run (empty when it can)."""

    benchmark: Benchmark
    data_root: Path
    problems: tuple[str, ...] = ()


def resolve_benchmarks(names: Sequence[str | Path | Benchmark]) -> list[Benchmark]:
    """Definitions for benchmark names, suite names, YAML paths or definitions, in order, each once.

    A definition made in memory is fingerprinted anew, so that a changed copy is another protocol.

    Raises:
        RequestError: a name that is neither, or two definitions of one name (their results would share a folder).
    """
    suites = list_suites()
    found: dict[str, Benchmark] = {}
    for name in names:
        if isinstance(name, Benchmark):
            some = [replace(name, fingerprint=protocol_fingerprint(name))]
        elif str(name) in suites:
            some = load_suite(str(name))
        else:
            some = [load_benchmark(name)]
        for benchmark in some:
            known = found.setdefault(benchmark.name, benchmark)
            if known != benchmark:
                raise RequestError(f"two definitions are called {benchmark.name}; rename one of them")
    if not found:
        raise RequestError("no benchmark was asked for; give --suite or --benchmark")
    return list(found.values())


def make_plan(
    benchmarks: Sequence[str | Path | Benchmark],
    data_root: Path | None = None,
    *,
    skip_missing: bool = False,
    reporter: Reporter | None = None,
) -> list[Planned]:
    """Check the data of every benchmark.

    Definitions read `data_root` (default: `data`). A user's own YAML reads beside itself where no `data_root` is given,
    or where that lacks its data and the YAML's folder has it.

    Raises:
        RequestError: something is missing and `skip_missing` is off; lists it all in one line.
    """
    planned = []
    for benchmark in resolve_benchmarks(benchmarks):
        with naming(benchmark.name):
            root, report = check_data(benchmark, data_root, reporter=reporter)
        planned.append(Planned(benchmark, root, report.problems))
    missing = once_for_each([(item.benchmark.name, problem) for item in planned for problem in item.problems])
    if missing and not skip_missing:
        raise RequestError("; ".join(missing) + "; or run the rest with --skip-missing")
    return planned


def once_for_each(problems: Sequence[tuple[str, str]]) -> list[str]:
    """Problems of benchmarks, each once, with the names of all that have it: several need the same folder.

    Args:
        problems: (benchmark, problem), the problem beginning with the benchmark's name.
    """
    said: dict[str, tuple[list[str], str]] = {}
    for name, problem in problems:
        rest = problem.removeprefix(f"{name} ")
        place, absent, _ = rest.partition(ABSENT)  # behind it is what to fetch, which each benchmark words by itself
        names, _ = said.setdefault(place if absent and rest != problem else problem, ([], problem))
        names.append(name)
    return [
        problem if len(names) == 1 else f"{', '.join(names)} need{problem.removeprefix(f'{names[0]} needs')}"
        for names, problem in said.values()
    ]


def check_data(
    benchmark: Benchmark, data_root: Path | None, *, deep: bool = False, reporter: Reporter | None = None
) -> tuple[Path, "DataCheck"]:
    """The first place that has a definition's data, and what was found there; where none has them, the place that has
    the most of them."""
    from cosmos_eval import datasets, tasks

    own = [benchmark.folder] if benchmark.folder else []
    roots = [data_root, *own] if data_root else own or [DEFAULT_DATA_ROOT]
    reports = []
    for root in roots:
        report = datasets.check(benchmark, root, deep=deep, reporter=reporter, validate=tasks.validate)
        if not report.problems:
            return root, report
        reports.append((root, report))
    return max(reports, key=lambda pair: (sum(pair[1].found.values()), -len(pair[1].problems)))
