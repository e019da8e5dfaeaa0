"""What a run is going to do: models × benchmarks, with everything that is missing found before any compute."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cosmos_core.errors import RequestError
from cosmos_eval.protocol import Benchmark, list_suites, load_benchmark, load_suite

DEFAULT_DATA_ROOT = Path("data")


@dataclass(frozen=True)
class Planned:
    """One benchmark of a run: where its data is, and why it cannot run (empty when it can)."""

    benchmark: Benchmark
    data_root: Path
    problems: tuple[str, ...] = ()


def resolve_benchmarks(names: Sequence[str | Path | Benchmark]) -> list[Benchmark]:
    """Definitions for benchmark names, suite names, YAML paths or definitions, in order, each once.

    Raises:
        RequestError: a name that is neither, or two definitions of one name (their results would share a folder).
    """
    suites = list_suites()
    found: dict[str, Benchmark] = {}
    for name in names:
        if isinstance(name, Benchmark):
            some = [name]
        elif str(name) in suites:
            some = load_suite(str(name))
        else:
            some = [load_benchmark(name)]
        for benchmark in some:
            known = found.setdefault(benchmark.name, benchmark)
            if known.fingerprint != benchmark.fingerprint:
                raise RequestError(f"two definitions are called {benchmark.name}; rename one of them")
    if not found:
        raise RequestError("no benchmark was asked for; give --suite or --benchmark")
    return list(found.values())


def make_plan(
    benchmarks: Sequence[str | Path | Benchmark], data_root: Path | None = None, *, skip_missing: bool = False
) -> list[Planned]:
    """Check the data of every benchmark.

    A user's own YAML without `data_root` reads beside the YAML; the others read `data_root` (default: `data`).

    Raises:
        RequestError: something is missing and `skip_missing` is off; lists it all in one line.
    """
    from cosmos_eval import datasets

    planned = []
    for benchmark in resolve_benchmarks(benchmarks):
        root = data_root or benchmark.folder or DEFAULT_DATA_ROOT
        planned.append(Planned(benchmark, root, datasets.check(benchmark, root).problems))
    missing = [problem for item in planned for problem in item.problems]
    if missing and not skip_missing:
        raise RequestError("; ".join(missing) + "; or run the rest with --skip-missing")
    return planned
