"""`cosmos-eval show classification`: what a model confuses, and the images that it gets wrong."""

from pathlib import Path
from typing import Annotated

import typer

from cosmos_core.printable import plural
from cosmos_eval.cli.options import BatchSize, Workers
from cosmos_eval.cli.show import (
    BenchmarkName,
    Cache,
    DataRoot,
    Device,
    Keys,
    ModelSpec,
    Out,
    Precision,
    Results,
)
from cosmos_eval.cli.streams import print_line

EXAMPLE = (
    "Example: cosmos-eval show classification --model cosmos:toybox --benchmark toybox-classification "
    '--class "red ring"'
)


def classification(
    model: ModelSpec,
    benchmark: BenchmarkName,
    data_root: DataRoot = None,
    out: Out = Path("shown"),
    class_name: Annotated[
        str | None,
        typer.Option("--class", metavar="NAME", help="Show wrong images of this class, and images taken for it."),
    ] = None,
    key: Keys = None,
    images: Annotated[
        int | None, typer.Option(min=1, max=200, help="Most wrong images of a gallery (default: 12).")
    ] = None,
    results: Results = None,
    cache: Cache = None,
    device: Device = "auto",
    precision: Precision = "auto",
    batch_size: BatchSize = 64,
    workers: Workers = "auto",
) -> None:
    """Confusion matrix, recall of each class (multi-label: average precision), and the images that are wrong."""
    from cosmos_core.errors import RequestError

    if key and images is not None:
        raise RequestError("--key names the images and --images counts them; give one of the two")
    from cosmos_eval.cli.console import make_reporter
    from cosmos_eval.run.options import RunOptions
    from cosmos_eval.show.classification import IMAGES, show_classification
    from cosmos_eval.show.opening import choose_cache

    shown = show_classification(
        model,
        benchmark,
        out,
        data_root,
        class_name=class_name,
        keys=key or (),
        images=IMAGES if images is None else images,
        options=RunOptions(device=device, precision=precision, batch_size=batch_size, workers=workers),
        reporter=make_reporter(),
        cache=choose_cache(out, results, cache),
    )
    print_line(f"{shown.summary}: {shown.wrong:,} of {plural(shown.images, 'image')} with a wrong class first")
    for kind, path in shown.files.items():
        print_line(f"{kind}: {path}")
    for line in shown.remarks:
        print_line(line)
