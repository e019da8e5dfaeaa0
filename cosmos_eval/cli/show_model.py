"""`cosmos-eval show model`: how a model is loaded, and what it supports."""

from typing import Annotated

import typer

from cosmos_eval.cli.show import Device
from cosmos_eval.cli.streams import print_line

EXAMPLE = "Example: cosmos-eval show model cosmos:toybox"


def model(
    spec: Annotated[str, typer.Argument(metavar="SPEC", help="Model spec, see 'list models'.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, for programs.")] = False,
    device: Device = "cpu",
) -> None:
    """Input size, normalisation, tokenizer, activation, logit scale, digest, and what a model supports."""
    import json

    from cosmos_core.printable import printable
    from cosmos_eval.engine.precision import resolve_device
    from cosmos_eval.show.model import inspect_model

    sheet = inspect_model(spec, str(resolve_device(device)))
    if as_json:
        print_line(json.dumps(sheet.as_json(), ensure_ascii=True))
        return
    for line in sheet.lines():
        print_line(printable(line))
