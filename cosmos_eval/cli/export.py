"""`cosmos-eval export`: a checkpoint for other programs."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cosmos_eval.cli.streams import print_line

EXAMPLE = "Example: cosmos-eval export runs/toybox/last.pt toybox.safetensors --weights teacher --half"


class Format(StrEnum):
    """What can be written."""

    original = "original"
    safetensors = "safetensors"
    open_clip = "open_clip"
    hf = "hf"


class Weights(StrEnum):
    """The two networks of a training."""

    teacher = "teacher"
    student = "student"


def export(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="A checkpoint file, or a released checkpoint's name.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write, or the folder.")],
    form: Annotated[
        Format | None,
        typer.Option(
            "--format",
            help="original: both networks, in the layout that the original project loads. safetensors: one network. "
            "open_clip, hf: one network in a folder that open_clip or transformers loads. "
            "Default: safetensors for OUT.safetensors, else original.",
        ),
    ] = None,
    weights: Annotated[
        Weights | None, typer.Option(help="The network to write (default: teacher; original: both).")
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="Matrices in float16: half the size.")] = False,
    optimizer: Annotated[
        bool,
        typer.Option(
            "--optimizer/--no-optimizer",
            help="Keep the optimizer's state, for further training with the original code (original only).",
        ),
    ] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it exists.")] = False,
) -> None:
    """Write a checkpoint in the original project's layout, as safetensors, or for open_clip or transformers."""
    from cosmos_core.errors import RequestError
    from cosmos_core.export import FOLDERS, export_checkpoint
    from cosmos_eval.cli.arguments import check_output

    chosen = form or (Format.safetensors if out.suffix == ".safetensors" else Format.original)
    check_output("OUT", out, folder=chosen.value in FOLDERS)
    if chosen.value in FOLDERS and out.suffix in (".pt", ".safetensors"):
        raise RequestError(
            f"--format {chosen.value} writes a folder, and {out} is named like a file; give {out.with_suffix('')}"
        )
    if weights and chosen is Format.original:
        raise RequestError("--weights is for formats of one network: the original's layout holds both networks")
    description = export_checkpoint(
        checkpoint, out, chosen.value, (weights or Weights.teacher).value, half, optimizer, overwrite
    )
    print_line(f"Wrote {out}: {description}")
