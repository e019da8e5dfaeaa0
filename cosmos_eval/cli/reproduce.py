"""`cosmos-eval reproduce`: measured beside published."""

from pathlib import Path
from typing import Annotated

import typer

from cosmos_eval.cli.options import AllowUnchecked

EXAMPLE = "Example: cosmos-eval reproduce paper-retrieval --results runs/eval --model cosmos:vitb16-merged30m"
DEFAULT_RESULTS = Path("runs/eval")


def reproduce(
    suite: Annotated[str, typer.Argument(help="Such as paper, paper-retrieval, open-clip, sclip, compositional.")],
    results: Annotated[
        Path | None, typer.Option(help=f"The --out folder of runs (default: {DEFAULT_RESULTS}).")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this published model; repeatable. PUBLISHED=SPEC takes the results of SPEC as those of "
            "PUBLISHED, for a copy of its weights say."
        ),
    ] = None,
    secondary: Annotated[
        bool,
        typer.Option(
            "--secondary", help="Also figures that only third parties report; they do not change the exit code."
        ),
    ] = False,
    allow_unchecked: AllowUnchecked = False,
    formats: Annotated[str, typer.Option("--format", help="Files to write: md, json, or both with a comma.")] = "",
    out: Annotated[
        Path | None,
        typer.Option(file_okay=False, writable=True, help="Where to write them (default: beside the results)."),
    ] = None,
) -> None:
    """Compare results with the figures that papers print; exit 1 if one is missed.

    Where nothing was measured, print what to run: weights, data and commands.
    """
    import sys

    from cosmos_core.errors import RequestError
    from cosmos_core.files import atomic_write_text
    from cosmos_eval.cli.console import make_reporter
    from cosmos_eval.progress import use_reporter
    from cosmos_eval.protocol.benchmark import read_suite
    from cosmos_eval.published import reproduce as reproduction
    from cosmos_eval.published import tables as reproduction_tables
    from cosmos_eval.results.record import refuse_unchecked
    from cosmos_eval.results.store import read_results, result_paths

    names = list(dict.fromkeys(name.strip() for name in formats.split(",") if name.strip()))
    reproduction_tables.check_formats(names)
    if out is not None and not names:
        raise RequestError(f"--out {out} without --format writes nothing; add --format md,json")
    folder = results or DEFAULT_RESULTS
    if results is not None and not folder.is_dir():
        raise RequestError(f"no folder {folder}; give the --out folder of a run, or leave --results out")
    measured = read_results(folder) if folder.is_dir() and any(result_paths(folder)) else []
    with use_reporter(make_reporter()):  # an average reads the samples of its benchmarks
        compared = reproduction.reproduce(suite, measured, model or (), secondary)
    of_suite = {benchmark.name for benchmark in read_suite(suite).benchmarks}
    refuse_unchecked([result for result in measured if result.benchmark.name in of_suite], allow_unchecked)
    print(reproduction_tables.render(compared, "md", str(folder)), end="")
    for name in names:
        path = (out or folder) / f"reproduce-{suite}.{name}"
        atomic_write_text(path, reproduction_tables.render(compared, name, str(folder)))
        print(f"written: {path}", file=sys.stderr)
    if compared.missed:
        raise typer.Exit(1)
