"""`cosmos-eval show`: images of what a model does, one command for each task."""

from pathlib import Path
from typing import Annotated

import typer

from cosmos_core.printable import plural
from cosmos_eval.cli.options import Workers
from cosmos_eval.cli.streams import print_line

app = typer.Typer(
    help="Images of what a model does: maps, galleries, predicted masks; and how it is loaded.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog="Example: cosmos-eval show segmentation --model cosmos:toybox --benchmark toybox-segmentation-csa",
)

# Options that all commands of this group share.
ModelSpec = Annotated[str, typer.Option(help="Model spec, see 'list models'.")]
BenchmarkName = Annotated[str, typer.Option(help="Benchmark name or a YAML file of your own.")]
DataRoot = Annotated[
    Path | None, typer.Option(help="Folder that holds the datasets (default: data, or the YAML's own folder).")
]
Out = Annotated[Path, typer.Option(file_okay=False, writable=True, help="Folder for the images; created if absent.")]
Keys = Annotated[
    list[str] | None, typer.Option("--key", metavar="KEY", help="Key of an image to show; repeat for several.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
Precision = Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16. auto: fp32 on CPU, bf16 on CUDA.")]
Results = Annotated[
    Path | None,
    typer.Option(
        help="The --out folder of a run, whose cached features are read (default: the run that --out lies in)."
    ),
]
Cache = Annotated[Path | None, typer.Option(help="Feature cache to read and to store in, instead of a run's.")]


@app.callback()
def group() -> None:
    """Images of what a model does."""


@app.command(epilog="Example: cosmos-eval show segmentation --model open_clip:ViT-B-16/openai --benchmark voc21-csa "
             "--data-root data --out shown --masks")  # fmt: skip
def segmentation(
    model: ModelSpec,
    benchmark: BenchmarkName,
    data_root: DataRoot = None,
    out: Out = Path("shown"),
    images: Annotated[
        int | None, typer.Option(min=0, help="How many, spread evenly over the dataset; 0 is all (default: 4).")
    ] = None,
    former_images: Annotated[
        int | None, typer.Option("--pictures", min=0, hidden=True, help="The former name of --images.")
    ] = None,
    key: Keys = None,
    masks: Annotated[
        bool, typer.Option("--masks", help="Also write predicted masks as PNG in the dataset's palette.")
    ] = False,
    results: Annotated[
        Path | None, typer.Option(help="The --out folder of a run, for the IoU of each class with intervals.")
    ] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Sliding windows in one forward pass.")] = 64,
    workers: Workers = "auto",
) -> None:
    """Predicted label maps beside their images, and the IoU of each class."""
    from cosmos_core.errors import RequestError

    if images is not None and former_images is not None:
        raise RequestError("--pictures is the former name of --images; give one of the two")
    count = images if former_images is None else former_images
    if key and count is not None:
        raise RequestError("--key names the images and --images counts them; give one of the two")
    from cosmos_eval.cli.console import make_reporter
    from cosmos_eval.show.segmentation import IMAGES, show_segmentation

    shown = show_segmentation(
        model,
        benchmark,
        out,
        data_root,
        keys=key or (),
        images=IMAGES if count is None else count,
        masks=masks,
        results=results,
        device=device,
        precision=precision,
        batch_size=batch_size,
        workers=workers,
        reporter=make_reporter(),
    )
    percent = f"mIoU {100 * shown.miou:.1f}" if shown.miou == shown.miou else "all pixels are ignored"
    print_line(f"{shown.images:,} of {plural(shown.total, 'image')}: {percent}")
    drawn = len(shown.overlays)
    selection = ", spread evenly" if 1 < drawn < shown.images else ""
    where = shown.overlays[0] if drawn == 1 else f"{out / 'overlays'} ({drawn:,} files{selection})"
    print_line(f"Overlays: {where}")
    print_line(f"IoU of each class: {shown.bars}, measured on {shown.bars_from}")
    if shown.masks is not None:
        print_line(f"Predicted masks: {shown.masks} ({plural(shown.images, 'file')}; index = class)")
