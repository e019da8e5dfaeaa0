"""`cosmos-eval show attention`: where a model looks in an image, given a text."""

from pathlib import Path
from typing import Annotated

import typer

from cosmos_eval.cli.show import Device, ModelSpec, Out
from cosmos_eval.cli.streams import print_line

EXAMPLE = 'Example: cosmos-eval show attention --model cosmos:toybox --scene 0 --text "green cross" --kind similarity'


def attention(
    model: ModelSpec,
    image: Annotated[Path | None, typer.Option(help="Image file.")] = None,
    scene: Annotated[int | None, typer.Option(min=0, help="Number of a toybox test scene instead of --image.")] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT", help="Text to look for; repeat for several (default with --scene: its own caption)."
        ),
    ] = None,
    out: Out = Path("shown"),
    kind: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND",
            help="attention: weights of COSMOS's cross-attention poolers. similarity: cosine of patches and text. "
            "Repeat for both side by side (default: attention where the model has it).",
        ),
    ] = None,
    last_block: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ATTENTION",
            help="Similarity: attention in the tower's last block: vanilla, csa, maskclip, clearclip, naclip or raw; "
            "repeat for several (default: vanilla and csa).",
        ),
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=1, max=8192, help="Pixels of the square that the model sees (default: its own).")
    ] = None,
    device: Device = "auto",
) -> None:
    """Where a model looks in an image, given a text: weights of patches and words, as PNG and as an HTML page."""
    from cosmos_eval.show.attention import show_attention

    shown = show_attention(
        model,
        out,
        image=image,
        scene=scene,
        texts=text or (),
        kinds=kind or (),
        attentions=last_block or (),
        size=size,
        device=device,
    )
    maps = shown.maps.texts[0].maps
    height, width = maps[0].values.shape
    print_line(f"{shown.maps.image}, {height} x {width} patches: {'; '.join(patch_map.name for patch_map in maps)}")
    print_line(f"Image: {shown.png}")
    print_line(f"Page: {shown.page}")
