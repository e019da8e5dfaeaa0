"""`cosmos-eval quickstart`: train, evaluate and report on the embedded toybox dataset."""

from pathlib import Path
from typing import Annotated

import typer

from cosmos_eval.cli.streams import print_line

EXAMPLE = "Example: cosmos-eval quickstart --out quickstart --seed 0"


def quickstart(
    out: Annotated[
        Path, typer.Option(file_okay=False, writable=True, help="Folder for checkpoints, results and tables.")
    ] = Path("quickstart"),
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of all random draws; with one seed, a machine gives bit-identical numbers.")
    ] = 0,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the training preset; repeatable."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Train and measure again, even what is finished.")
    ] = False,
) -> None:
    """Render toybox, pretrain a small COSMOS and its baseline, evaluate both, and write a leaderboard and a report."""
    import time

    from cosmos_eval.cli.console import duration, make_reporter
    from cosmos_eval.report.frame import to_frame
    from cosmos_eval.report.tables import headline_table, short
    from cosmos_eval.training.quickstart import quickstart as run_quickstart
    from cosmos_eval.training.quickstart import times_chance

    start = time.monotonic()
    done = run_quickstart(out, seed=seed, changes=changes or (), overwrite=overwrite, reporter=make_reporter())
    print(headline_table(to_frame(done.results)))
    print()
    for result in done.results:
        ratios = ", ".join(f"{short(name)} {times:.1f} × chance" for name, times in times_chance(result).items())
        if ratios:
            print_line(f"{result.label}, {result.benchmark.name}: {ratios}")
    print("\n".join(["", *done.verdict]))
    print(f"\nDone in {duration(time.monotonic() - start)}.")
    print_line(f"Leaderboard: {done.leaderboard}")
    print_line(f"Report, for a browser: {done.report}")
    print_line(f"Is COSMOS worse than its baseline? {done.regress}")
    print("Next: cosmos-eval run --model open_clip:ARCH/TAG --suite quick --data-root data")
