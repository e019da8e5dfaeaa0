"""`cosmos-eval show geometry`: where a model's embeddings lie, and whether its probabilities can be believed."""

from pathlib import Path
from typing import Annotated

import typer

from cosmos_core.printable import plural
from cosmos_eval.cli.options import BatchSize, Workers
from cosmos_eval.cli.show import BenchmarkName, Cache, DataRoot, Device, ModelSpec, Out, Precision, Results
from cosmos_eval.cli.streams import print_line

EXAMPLE = (
    "Example: cosmos-eval show geometry --model cosmos:toybox --benchmark toybox-classification "
    "--against toybox-retrieval"
)


def geometry(
    model: ModelSpec,
    benchmark: BenchmarkName,
    data_root: DataRoot = None,
    out: Out = Path("shown"),
    against: Annotated[
        str | None, typer.Option(metavar="NAME", help="Benchmark whose images are out of distribution.")
    ] = None,
    results: Results = None,
    cache: Cache = None,
    device: Device = "auto",
    precision: Precision = "auto",
    batch_size: BatchSize = 64,
    workers: Workers = "auto",
) -> None:
    """Modality gap, alignment, uniformity, effective rank, calibration, and images out of distribution."""
    from cosmos_eval.cli.console import make_reporter
    from cosmos_eval.run.options import RunOptions
    from cosmos_eval.show.geometry import show_geometry
    from cosmos_eval.show.geometry_intervals import as_text
    from cosmos_eval.show.opening import choose_cache

    shown = show_geometry(
        model,
        benchmark,
        out,
        data_root,
        against=against,
        options=RunOptions(device=device, precision=precision, batch_size=batch_size, workers=workers),
        reporter=make_reporter(),
        cache=choose_cache(out, results, cache),
    )
    for name, value in shown.figures.items():
        shown_value = f"{value:,}" if isinstance(value, int) else as_text(value, shown.intervals.get(name), 4)
        print_line(f"{name.replace('_', ' ')}: {shown_value}")
    for pair in shown.confused:
        interval = f"[{pair['low']:,.1f}, {pair['high']:,.1f}]"
        print_line(f"confused: {pair['true']} taken for {pair['predicted']}, {as_images(pair['images'])} {interval}")
    for kind, path in shown.files.items():
        print_line(f"{kind}: {path}")
    for line in shown.remarks:
        print_line(line)


def as_images(count: float) -> str:
    """`1 image`; with decimals where ties give a part of an image to each class."""
    return plural(round(count), "image") if count == round(count) else f"{count:,.1f} images"
