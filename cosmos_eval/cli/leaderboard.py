"""`cosmos-eval leaderboard`: tables from results."""

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = "Example: cosmos-eval leaderboard runs/eval --format md,csv"


def leaderboard(
    folder: Annotated[Path, typer.Argument(help="The --out folder of a run.")],
    formats: Annotated[str, typer.Option("--format", help="md, csv, or both with a comma.")] = "md,csv",
    out: Annotated[Path | None, typer.Option(help="Where to write the tables (default: beside the results).")] = None,
) -> None:
    """Write leaderboard.md and leaderboard.csv from the results below a folder, and print the table."""
    from cosmos_eval.report.tables import render, write_leaderboard
    from cosmos_eval.results.store import read_not_run, read_results

    results, not_run = read_results(folder), read_not_run(folder)
    names = [name.strip() for name in formats.split(",") if name.strip()]
    paths = write_leaderboard(results, out or folder, names, not_run)
    print(render(results, names[0] if names else "md", not_run))
    for path in paths:
        print(f"written: {path}")
