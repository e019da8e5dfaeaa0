"""`cosmos-eval report`: one HTML page about a folder of results."""

from pathlib import Path
from typing import Annotated

import typer

from cosmos_core.printable import plural
from cosmos_eval.cli.streams import print_line

EXAMPLE = "Example: cosmos-eval report runs/eval --suite paper --reference paper --out report.html"


def report(
    folder: Annotated[Path, typer.Argument(help="The --out folder of a run, of a training, or of quickstart.")],
    out: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False, writable=True, metavar="FILE.html", help="The page (default: report.html in the folder)."
        ),
    ] = None,
    suite: Annotated[
        str | None, typer.Option(help="The leaderboard of a suite, in its order, with the averages that it declares.")
    ] = None,
    reference: Annotated[
        list[str] | None,
        typer.Option(help="Published rows, set apart from the measured ones, as in 'leaderboard'; repeat for several."),
    ] = None,
    secondary: Annotated[
        bool, typer.Option("--secondary", help="With --reference paper: also figures that only third parties report.")
    ] = False,
    title: Annotated[str | None, typer.Option(help="Title of the page (default: the name of the folder).")] = None,
) -> None:
    """Write results, intervals, curves and images below a folder as one self-contained HTML page."""
    from cosmos_core.errors import RequestError

    if out is not None and (out.suffix.lower() not in (".html", ".htm") or out.is_dir()):
        raise RequestError(f"--out {out} is not an .html file; give one, such as report.html")
    from cosmos_eval.page.report import write_report
    from cosmos_eval.protocol.benchmark import read_suite
    from cosmos_eval.published.references import PAPER, read_references

    if secondary and PAPER not in (reference or ()):
        raise RequestError("--secondary is for --reference paper")
    chosen = read_suite(suite) if suite is not None else None
    references = read_references(reference, secondary=secondary, suite=chosen) if reference else None
    done = write_report(folder, out, title=title, references=references, suite=chosen)
    megabytes = done.path.stat().st_size / 1e6
    counts = {"model": done.models, "benchmark": done.benchmarks, "image": done.images}
    print(", ".join(plural(n, word) for word, n in counts.items()) + f"; {megabytes:.1f} MB")
    for line in done.left_out:
        print_line(f"left out: {line}")
    print_line(f"Report: {done.path}")
