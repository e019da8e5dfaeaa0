"""`cosmos-eval report`: one HTML page about a folder of results."""

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = "Example: cosmos-eval report runs/eval --out report.html"


def report(
    folder: Annotated[Path, typer.Argument(help="The --out folder of a run, of a training, or of quickstart.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="The page (default: report.html in the folder).")
    ] = None,
) -> None:
    """Write results, intervals, curves and pictures below a folder as one HTML page that needs nothing else."""
    from cosmos_core.errors import RequestError

    if out is not None and (out.suffix.lower() not in (".html", ".htm") or out.is_dir()):
        raise RequestError(f"--out {out} is no .html file; the report is one page")
    from cosmos_eval.report.html_report import write_report

    done = write_report(folder, out)
    megabytes = done.path.stat().st_size / 1e6
    print(f"{done.models:,} models, {done.benchmarks:,} benchmarks, {done.pictures:,} pictures; {megabytes:.1f} MB")
    for line in done.left_out:
        print(f"left out: {line}")
    print(f"Report: {done.path}")
