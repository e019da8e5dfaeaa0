"""`cosmos-eval watch`: evaluate a run's checkpoints as they appear."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cosmos_eval.cli.options import BatchSize, Workers
from cosmos_eval.cli.streams import print_line

if TYPE_CHECKING:
    from cosmos_core.layouts import NetworkName

EXAMPLE = "Example: cosmos-eval watch runs/toybox --suite toybox --network both"
NETWORKS: "dict[str, tuple[NetworkName, ...]]" = {
    "teacher": ("teacher",),
    "student": ("student",),
    "both": ("teacher", "student"),
}


def watch(
    folder: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="The --out folder of a training.")],
    suite: Annotated[list[str] | None, typer.Option(help="Suite; repeatable (default: toybox).")] = None,
    benchmark: Annotated[
        list[str] | None, typer.Option(help="Benchmark name or a YAML file of your own; repeatable.")
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(help="Folder that holds the datasets (default: data, or the YAML's own folder).")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(file_okay=False, writable=True, help="Folder for results and curve (default: RUN_DIR/watch)."),
    ] = None,
    network: Annotated[str, typer.Option(help="teacher, student or both.")] = "teacher",
    once: Annotated[bool, typer.Option("--once", help="Evaluate the checkpoints that exist, and stop.")] = False,
    interval: Annotated[
        float, typer.Option(min=0.1, max=86_400, help="Seconds between two checks of the folder.")
    ] = 30.0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16. auto: fp32 on CPU, bf16 on CUDA.")] = "auto",
    batch_size: BatchSize = 64,
    workers: Workers = "auto",
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Measure on this many images only; such results are marked and never ranked."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the resampling behind the intervals.")] = 0,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="First fetch data that is missing, as 'data fetch' does; asks once.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --fetch: do not ask before fetching.")] = False,
) -> None:
    """Evaluate each checkpoint of a run once, as it appears, and draw the curve; ends when the run has ended."""
    from cosmos_core.errors import RequestError
    from cosmos_eval.cli.console import make_reporter
    from cosmos_eval.cli.fetching import fetch_missing
    from cosmos_eval.protocol.benchmark import load_suite
    from cosmos_eval.run.plan import make_plan

    if network not in NETWORKS:
        raise RequestError(f"--network {network!r} is not one of {', '.join(NETWORKS)}")
    if not folder.is_dir():
        raise RequestError(f"no folder {folder}; give the --out folder of a training")
    if not suite and not benchmark:
        suite = ["toybox"]
    suite_benchmarks = [definition for name in suite or () for definition in load_suite(name)]
    reporter = make_reporter()
    names = [*suite_benchmarks, *(benchmark or ())]
    data_root, _ = fetch_missing(names, data_root, reporter, fetch, yes)
    plan = make_plan(names, data_root, reporter=reporter)

    from cosmos_eval.report.curves import curve_table
    from cosmos_eval.run.options import RunOptions
    from cosmos_eval.run.session import Session
    from cosmos_eval.training.watch import Watcher

    options = RunOptions(
        device=device, precision=precision, batch_size=batch_size, workers=workers, limit=limit, seed=seed
    )
    session = Session(None, options, reporter)
    watcher = Watcher(
        folder,
        plan,
        session,
        out or folder / "watch",
        networks=NETWORKS[network],
        reporter=reporter,
    )
    lines = watcher.run(once=once, interval=interval)
    print(curve_table(lines))
    print_line(f"Curve, table and results: {watcher.out}")
