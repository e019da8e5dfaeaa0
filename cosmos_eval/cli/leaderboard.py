"""`cosmos-eval leaderboard`: tables from results."""

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = "Example: cosmos-eval leaderboard runs/eval --suite paper --reference paper --format md,tex"


def leaderboard(
    folder: Annotated[Path, typer.Argument(help="The --out folder of a run.")],
    formats: Annotated[
        str,
        typer.Option(
            "--format",
            help="One or several, with commas: md, csv, tex, html, json; clip-benchmark (its JSON, one file for each "
            "model and dataset), model-index (YAML of a model card, one file for each model).",
        ),
    ] = "md,csv",
    suite: Annotated[
        str | None,
        typer.Option(help="Only the benchmarks of this suite (or its YAML file), in its order, with its averages."),
    ] = None,
    reference: Annotated[
        list[str] | None,
        typer.Option(
            help="Published rows, set apart from the measured ones: paper, or a file with results of clip-benchmark or "
            "a table of open_clip; repeat for several."
        ),
    ] = None,
    secondary: Annotated[
        bool, typer.Option("--secondary", help="With --reference paper: also figures that only third parties report.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(file_okay=False, writable=True, help="Where to write the tables (default: beside the results)."),
    ] = None,
) -> None:
    """Write leaderboard.md, leaderboard.csv, ... from the results below a folder, and print the first of them."""
    import sys

    from cosmos_core.errors import RequestError
    from cosmos_eval.protocol.benchmark import read_suite
    from cosmos_eval.published.references import PAPER, read_references
    from cosmos_eval.report.board import check_of_suite
    from cosmos_eval.report.tables import check_format, write_leaderboard
    from cosmos_eval.results.store import read_not_run, read_results

    names = list(dict.fromkeys(name.strip() for name in formats.split(",") if name.strip()))
    if not names:
        raise RequestError("--format names no format; write md, or several with commas")
    for name in names:
        check_format(name)
    if secondary and PAPER not in (reference or ()):
        raise RequestError("--secondary is for --reference paper")
    chosen = read_suite(suite) if suite is not None else None
    references = read_references(reference, secondary=secondary, suite=chosen) if reference else None
    results, not_run = read_results(folder), read_not_run(folder)
    if chosen is not None and references is None:
        check_of_suite(results, chosen, folder)
    paths = write_leaderboard(results, out or folder, names, not_run, references=references, suite=chosen)
    if paths[0].is_file():
        print(paths[0].read_text(encoding="utf-8"))
    for path in paths:
        print(f"written: {path}", file=sys.stderr)
