"""`cosmos-eval train`: pretrain a model."""

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = "Example: cosmos-eval train toybox --out runs/toybox --set steps=200 --set lr=1e-3"


def train(
    preset: Annotated[str, typer.Argument(metavar="PRESET_OR_YAML", help="A preset (toybox), or a YAML file.")],
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; repeatable.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for checkpoints and metrics (default: runs/NAME).")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a training that stands in the folder.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved configuration, and stop.")] = False,
) -> None:
    """Pretrain a COSMOS (or a plain CLIP, with --set objective=clip) and write its checkpoint."""
    from cosmos_core.config import load_preset

    overrides = list(changes or [])
    if out is not None:
        overrides.append(f"out={out}")
    config = load_preset(preset, overrides)
    if not config.out:
        config = load_preset(preset, [*overrides, f"out={Path('runs') / config.name}"])
    if dry_run:
        import yaml

        print(yaml.safe_dump(config.to_dict(), sort_keys=False), end="")
        return
    if (Path(config.out) / "last.pt").exists() and not overwrite:
        from cosmos_core.errors import RequestError

        raise RequestError(f"{config.out} holds a training already; give another --out, or --overwrite")
    from cosmos_eval.cli.console import make_reporter
    from cosmos_eval.training import train_from

    train_from(config, make_reporter())
    print(f"Trained: {config.out}. Evaluate it: cosmos-eval run --model cosmos:{config.out}/last.pt --suite toybox")
