"""`cosmos-eval show retrieval` and `show perception`: the best, the worst and the most confused cases."""

from pathlib import Path
from typing import Annotated

import typer

from cosmos_eval.cli.options import BatchSize, Workers
from cosmos_eval.cli.show import BenchmarkName, Cache, DataRoot, Device, ModelSpec, Out, Precision, Results
from cosmos_eval.cli.streams import print_line

RETRIEVAL = "Example: cosmos-eval show retrieval --model cosmos:toybox --benchmark toybox-retrieval --cases 6"
PERCEPTION = (
    "Example: cosmos-eval show perception --model cosmos:toybox --model cosmos:runs/x/last.pt "
    "--benchmark toybox-perception"
)
Cases = Annotated[int, typer.Option(min=1, help="How many of each kind.")]


def retrieval(
    model: ModelSpec,
    benchmark: BenchmarkName,
    data_root: DataRoot = None,
    out: Out = Path("shown"),
    cases: Cases = 4,
    results: Results = None,
    cache: Cache = None,
    device: Device = "auto",
    precision: Precision = "auto",
    batch_size: BatchSize = 64,
    workers: Workers = "auto",
) -> None:
    """Queries with their candidates: the best, the worst, the most confused."""
    from cosmos_eval.cli.console import make_reporter
    from cosmos_eval.run.options import RunOptions
    from cosmos_eval.show.gallery import show_retrieval
    from cosmos_eval.show.opening import choose_cache

    options = RunOptions(device=device, precision=precision, batch_size=batch_size, workers=workers)
    chosen = choose_cache(out, results, cache)
    shown = show_retrieval(model, benchmark, out, data_root, cases, options, make_reporter(), chosen)
    for kind, path in shown.files.items():
        print_line(f"{kind}: {path}")
    print_cache(shown.cache)


def perception(
    model: Annotated[list[str], typer.Option(help="Model spec; give two to see where they disagree.")],
    benchmark: BenchmarkName,
    data_root: DataRoot = None,
    out: Out = Path("shown"),
    cases: Cases = 4,
    results: Results = None,
    cache: Cache = None,
    device: Device = "auto",
    precision: Precision = "auto",
    batch_size: BatchSize = 64,
    workers: Workers = "auto",
) -> None:
    """Items that a model answers right or wrong by the largest margin, or that two models disagree on."""
    from cosmos_eval.cli.console import make_reporter
    from cosmos_eval.run.options import RunOptions
    from cosmos_eval.show.gallery import show_perception
    from cosmos_eval.show.opening import choose_cache

    options = RunOptions(device=device, precision=precision, batch_size=batch_size, workers=workers)
    chosen = choose_cache(out, results, cache)
    shown = show_perception(model, benchmark, out, data_root, cases, options, make_reporter(), chosen)
    for kind, count in shown.counts.items():
        print_line(f"{kind}: {shown.files[kind] if count else 'no such item'}")
    print_cache(shown.cache)


def print_cache(line: str) -> None:
    """Print the line about the feature cache, if there is one."""
    if line:
        print_line(line)
