"""The plan of a run: which benchmarks, where their data is, and everything that is missing, before any compute."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_core.errors import RequestError
from cosmos_core.file_checks import user_path
from cosmos_eval.progress import Reporter, use_benchmark_name
from cosmos_eval.protocol.benchmark import Benchmark, list_suites, load_benchmark, load_suite, protocol_fingerprint
from cosmos_eval.protocol.own_suite import is_suite_file
from cosmos_eval.run.fetch_advice import advise_fetching

if TYPE_CHECKING:
    from cosmos_eval.datasets.dataset_checks import DataReport

DEFAULT_DATA_ROOT = Path("data")
ABSENT = ", which is not there"
"""Follows the path in the message about a missing file or folder (`add_missing`); what to fetch comes next."""


@dataclass(frozen=True)
class PlannedBenchmark:
    """One benchmark of a run."""

    benchmark: Benchmark
    data_root: Path
    """The folder that its data is read from."""
    problems: tuple[str, ...] = ()
    """Why it cannot run, such as missing data; empty if it can."""


def resolve_benchmarks(names: Sequence[str | Path | Benchmark]) -> list[Benchmark]:
    """The definitions of benchmarks and suites, given by names, paths or definitions, in order, each once.

    A path is that of a YAML file, of a benchmark or a suite, or of a folder of data.

    A definition made in memory gets a new fingerprint, since a changed copy of a benchmark is another protocol.

    Raises:
        RequestError: no names, an unknown name, or two different definitions with one name, whose results would go to
            one folder.
    """
    suites = list_suites()
    by_name: dict[str, Benchmark] = {}
    for name in names:
        if isinstance(name, Benchmark):
            definitions = [replace(name, fingerprint=protocol_fingerprint(name))]
        elif str(name) in suites or is_suite_file(user_path(name)):
            definitions = load_suite(str(name))
        else:
            definitions = [load_benchmark(name)]
        for benchmark in definitions:
            first = by_name.setdefault(benchmark.name, benchmark)
            if first.data is not benchmark.data:
                raise RequestError(
                    f"two benchmarks are called {benchmark.name}; name data that you hand over, as in "
                    "evaluate(model, {'my-data': data}) or make_benchmark(data, 'my-data')"
                )
            if first != benchmark:
                raise RequestError(f"two definitions are called {benchmark.name}; rename one of them")
    if not by_name:
        raise RequestError("no benchmark to evaluate; give --suite or --benchmark")
    return list(by_name.values())


def make_plan(
    benchmarks: Sequence[str | Path | Benchmark],
    data_root: Path | None = None,
    *,
    skip_missing: bool = False,
    reporter: Reporter | None = None,
    skip_option: str = "--skip-missing",
) -> list[PlannedBenchmark]:
    """Resolve benchmarks and check their data.

    Data is read from `data_root` (default: `data`). Data of a user's own YAML file is read from the folder of that file
    if no `data_root` is given, or if `data_root` lacks the data and the folder of the file has it.

    Args:
        skip_option: how the caller sets `skip_missing`, for the message.

    Raises:
        RequestError: data is missing and `skip_missing` is False; lists all that is missing in one line.
    """
    plan = []
    for benchmark in resolve_benchmarks(benchmarks):
        with use_benchmark_name(benchmark.name):
            root, report = check_data(benchmark, data_root, reporter=reporter)
        plan.append(PlannedBenchmark(benchmark, root, report.problems))
    problems = merge_equal_problems(
        [(planned.benchmark.name, problem) for planned in plan for problem in planned.problems]
    )
    if problems and not skip_missing:
        advice = advise_fetching([planned.benchmark for planned in plan if planned.problems], data_root)
        raise RequestError("; ".join([*problems, *([advice] if advice else []), f"or run the rest with {skip_option}"]))
    return plan


def merge_equal_problems(problems: Sequence[tuple[str, str]]) -> list[str]:
    """Merge equal problems: several benchmarks may need the same missing folder.

    Args:
        problems: (benchmark, problem) pairs; a problem begins with the name of its benchmark.

    Returns:
        each problem once, in order of first appearance, with the names of all benchmarks that have it:
        "a, b need FOLDER, which is not there; fetch ...".
    """
    merged: dict[str, tuple[list[str], str]] = {}  # what is missing -> the benchmarks, and the problem of the first
    for name, problem in problems:
        without_name = problem.removeprefix(f"{name} ")
        missing_path, absent, _ = without_name.partition(ABSENT)
        # Two problems are equal if the path is: the advice behind it may be worded for each benchmark.
        key = missing_path if absent and without_name != problem else problem
        names, _ = merged.setdefault(key, ([], problem))
        names.append(name)
    lines = []
    for names, problem in merged.values():
        if len(names) > 1:
            problem = f"{', '.join(names)} need{problem.removeprefix(f'{names[0]} needs')}"
        lines.append(problem)
    return lines


def check_data(
    benchmark: Benchmark, data_root: Path | None, *, deep: bool = False, reporter: Reporter | None = None
) -> tuple[Path, "DataReport"]:
    """Find the folder with a benchmark's data.

    Args:
        data_root: searched first; then the folder of the benchmark's YAML file, if it is a user's own. It has no
            meaning for a benchmark that was given as the folder of its data.
        deep: whether every image and mask is decoded.

    Returns:
        The first folder that has all data, and the report on it. If no folder has, the one with the most data.
    """
    from cosmos_eval import datasets, tasks

    own_folder = [benchmark.folder] if benchmark.folder else []
    roots = [data_root, *own_folder] if data_root else own_folder or [DEFAULT_DATA_ROOT]
    if benchmark.data_root is not None:
        roots = [benchmark.data_root]
    reports = []
    for root in roots:
        report = datasets.check(benchmark, root, deep=deep, reporter=reporter, validate=tasks.validate)
        if not report.problems:
            return root, report
        reports.append((root, report))
    return max(reports, key=lambda pair: (sum(pair[1].found.values()), -len(pair[1].problems)))
