"""Options that several commands share."""

from typing import Annotated

import typer


def _allow_pixels(context: typer.Context, most: int | None) -> int | None:
    if context.resilient_parsing:  # the shell completes the line; nothing is run
        return most
    from cosmos_core.image_files import pixels_at_most

    context.with_resource(pixels_at_most(most))  # until the command ends, and in the processes that it starts
    return most


def parse_workers(text: str) -> int | str:
    """A number of workers, or the text for the options of the run, which refuse one other than auto."""
    from cosmos_core.text_files import parse_integer

    number = parse_integer(text)
    return text if number is None else number


Workers = Annotated[
    str,
    typer.Option(
        metavar="N|auto",
        callback=parse_workers,
        help="Processes that decode images; 0: decode in this one; auto: by cores, memory and what there is to decode.",
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Images, or texts, in one forward pass.")]
MaxImagePixels = Annotated[
    int | None,
    typer.Option(
        "--max-image-pixels",
        callback=_allow_pixels,
        help="Pixels of the largest image that is read (default: 178,956,970, Pillow's own limit).",
    ),
]
AllowUnchecked = Annotated[
    bool, typer.Option("--allow-unchecked", help="Accept results whose files have no checksum (schema 1).")
]
