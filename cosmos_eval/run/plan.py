"""The plan of a run: which benchmarks, where their data is, and everything that is missing, before any compute."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_core.errors import RequestError
from cosmos_core.file_checks import user_path
from cosmos_eval.progress import Reporter, use_benchmark_name
from cosmos_eval.protocol.benchmark import Benchmark, list_suites, load_benchmark, load_suite
from cosmos_eval.protocol.fingerprint import protocol_fingerprint
from cosmos_eval.protocol.own_suite import is_suite_file
from cosmos_eval.run.fetch_advice import advise_fetching

if TYPE_CHECKING:
    from cosmos_eval.datasets.dataset_checks import DataReport
    from cosmos_eval.datasets.stream.plan import StreamPlan

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
    stream: "StreamPlan | None" = None
    """Where the data are streamed from; None: they are read from `data_root`."""


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
                    f"two benchmarks are called {benchmark.name}; name data that you pass, as in "
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
    stream: bool = False,
    reporter: Reporter | None = None,
    skip_option: str = "--skip-missing",
) -> list[PlannedBenchmark]:
    """Resolve benchmarks and check their data.

    Data that are not on disk are streamed if `stream` asks for it, or if the definition has their address.

    Data is read from `data_root` (default: `data`). Data of a user's own YAML file is read from the folder of that file
    if no `data_root` is given, or if `data_root` lacks the data and the folder of the file has it; if no `data_root` is
    given and that folder lacks the data, from `data`.

    Args:
        skip_option: how the caller sets `skip_missing`, for the message.

    Raises:
        RequestError: data is missing and `skip_missing` is False; lists all that is missing in one line.
    """
    from cosmos_eval.datasets.stream.plan import plan_stream

    plan: list[PlannedBenchmark] = []
    cannot_stream: list[Benchmark] = []
    for benchmark in resolve_benchmarks(benchmarks):
        with use_benchmark_name(benchmark.name):
            root, report = check_data(benchmark, data_root, reporter=reporter)
        source, problems_of_data = None, report.problems
        if problems_of_data:
            try:
                source = plan_stream(benchmark, root, asked=stream)
            except RequestError as error:
                problems_of_data, cannot_stream = (str(error),), [*cannot_stream, benchmark]
        plan.append(PlannedBenchmark(benchmark, root, () if source else problems_of_data, source))
    problems = merge_equal_problems(
        [(planned.benchmark.name, problem) for planned in plan for problem in planned.problems]
    )
    if problems and not skip_missing:
        advice = advise_fetching([planned.benchmark for planned in plan if planned.problems], data_root)
        if stream and cannot_stream:
            streamed = [planned.benchmark.name for planned in plan if planned.stream]
            others = f"of those asked for, {', '.join(streamed)} can be; " if streamed else ""
            advice = f"{others}for the rest leave --stream out and add --fetch" + (f" ({advice})" if advice else "")
        rest = [f"or run the rest with {skip_option}"] if any(not planned.problems for planned in plan) else []
        raise RequestError("; ".join([*problems, *([advice] if advice else []), *rest]))
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
        data_root: searched first; then the folder of the benchmark's YAML file, if it is a user's own. None: that
            folder, and then `data`, where `data fetch` puts data. It has no meaning for a benchmark that was given as
            the folder of its data.
        deep: whether every image and mask is decoded.

    Returns:
        The first folder that has all data, and the report on it. If no folder has, the one with the most data.
    """
    from cosmos_eval import datasets, tasks

    own_folder = [benchmark.folder] if benchmark.folder else []
    roots = [data_root, *own_folder] if data_root else [*own_folder, DEFAULT_DATA_ROOT]
    if benchmark.data_root is not None:
        roots = [benchmark.data_root]
    reports = []
    for root in roots:
        report = datasets.check(benchmark, root, deep=deep, reporter=reporter, validate=tasks.validate)
        if not report.problems:
            return root, report
        reports.append((root, report))
    return max(reports, key=lambda pair: (sum(pair[1].found.values()), -len(pair[1].problems)))
