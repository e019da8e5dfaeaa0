"""`cosmos-eval data`: does the disk hold what a benchmark needs; make what can be made."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Check what is on disk; make what can be made.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog="Example: cosmos-eval data check coco-val2017-retrieval --data-root data",
)


@app.command(epilog="Example: cosmos-eval data check coco-val2017-retrieval my.yaml --data-root data --deep")
def check(
    names: Annotated[
        list[str] | None, typer.Argument(help="Benchmarks, suites or YAML files (default: every benchmark).")
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(help="Folder that holds the datasets (default: data, or the YAML's own folder).")
    ] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Also decode every picture.")] = False,
) -> None:
    """Say for each benchmark whether its data is complete; exit 1 when something is missing."""
    from cosmos_eval.cli.console import make_reporter
    from cosmos_eval.plan import check_data, resolve_benchmarks
    from cosmos_eval.protocol import list_benchmarks

    complete = True
    for benchmark in resolve_benchmarks(list(names or list_benchmarks())):
        _, report = check_data(benchmark, data_root, deep=deep, reporter=make_reporter() if deep else None)
        found = ", ".join(f"{n:,} {what}" for what, n in report.found.items())
        if report.problems:
            complete = False
            for problem in report.problems:
                print(f"missing  {problem}")
        else:
            print(f"ready    {benchmark.name}" + (f": {found}" if found else ""))
    if not complete:
        raise typer.Exit(1)


@app.command(epilog="Example: cosmos-eval data prepare toybox --out data/toybox")
def prepare(
    name: Annotated[str, typer.Argument(help="What to make: toybox.")],
    out: Annotated[Path, typer.Option(help="Data root to write: a folder that is empty or absent.")] = Path(
        "data/toybox"
    ),
    seed: Annotated[int, typer.Option(help="Seed of the world.")] = 0,
    train: Annotated[int, typer.Option(help="Scenes in the training shards.")] = 2000,
    test: Annotated[int, typer.Option(help="Scenes for retrieval and segmentation.")] = 1000,
    per_class: Annotated[int, typer.Option(help="Pictures of each class for classification.")] = 20,
) -> None:
    """Write the toybox world in the formats of COCO, Flickr30k, ImageNet, CIFAR-100, VOC and webdataset."""
    from cosmos_core.errors import RequestError
    from cosmos_eval.cli.console import make_reporter

    if name != "toybox":
        raise RequestError(f"cannot make {name!r}; what can be made: toybox")
    from cosmos_eval.datasets.toybox import prepare as prepare_toybox

    prepare_toybox(out, seed=seed, train=train, test=test, per_class=per_class, reporter=make_reporter())
    print(f"toybox written to {out}; try: cosmos-eval run --benchmark {out}/toybox-coco.yaml")
