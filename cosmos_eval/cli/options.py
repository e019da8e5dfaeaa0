"""Options that several commands share."""

from typing import Annotated

import typer


def _allow_pixels(context: typer.Context, most: int | None) -> int | None:
    if context.resilient_parsing:  # the shell completes the line; nothing is run
        return most
    from cosmos_core.image_files import pixels_at_most

    context.with_resource(pixels_at_most(most))  # until the command ends, and in the processes that it starts
    return most


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
