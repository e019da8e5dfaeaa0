"""`cosmos-eval train`: pretrain a model."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cosmos_eval.cli.options import MaxImagePixels
from cosmos_eval.cli.streams import print_line

if TYPE_CHECKING:
    from cosmos_core.config import TrainConfig

EXAMPLE = """\b
Example: cosmos-eval train toybox --out runs/toybox --set steps=200 --set lr=1e-3
Plan only: cosmos-eval train cc3m --dry-run --ranks 8
On 8 GPUs: torchrun --nproc-per-node 8 -m cosmos_eval train cc3m \\
             --set 'data=cc3m/{00000..00331}.tar' --out runs/cc3m"""


def train(
    preset: Annotated[
        str,
        typer.Argument(metavar="PRESET_OR_YAML", help="A preset (see 'list presets'), or a YAML file with settings."),
    ],
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting (see 'list settings'); repeatable."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(file_okay=False, writable=True, help="Folder for checkpoints and metrics (default: runs/NAME)."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the training that is in the folder.")] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print all settings, and a plan with length, memory and data; then stop."),
    ] = False,
    max_image_pixels: MaxImagePixels = None,
    ranks: Annotated[
        int | None, typer.Option(min=1, help="Plan for this many processes (default: torchrun's, or 1).")
    ] = None,
) -> None:
    """Pretrain a COSMOS (or with --set objective=clip, siglip, slip, silc another) and write its checkpoints.

    The same command resumes a run that was stopped from its newest checkpoint. Under torchrun the processes share each
    batch. --dry-run prints a settings file, with the plan in comments.
    """
    from cosmos_core.errors import RequestError
    from cosmos_eval.cli.arguments import check_output
    from cosmos_eval.rank_environment import is_main_process, read_world_size
    from cosmos_eval.training.plan import plan_lines, refuse_without_data, require_shares

    try:
        config = resolved(preset, changes or [], out)
        check_output("out", Path(config.out), folder=True)  # `out` can also come from --set or the YAML file
        if ranks is not None and not dry_run:
            raise RequestError("--ranks belongs to --dry-run; a training has as many as torchrun starts")
        started = read_world_size()
        if not dry_run:
            refuse_without_data(config)
            require_shares(config, started)
        plan = plan_lines(config, ranks or started) if dry_run else []
    except RequestError as error:
        error.quiet = not is_main_process()  # every rank has the same error; only the first prints it
        raise
    if dry_run:
        import yaml

        if is_main_process():
            print(yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True), end="")
            print("\n".join(plan))
        return
    from cosmos_eval.cli.console import make_reporter
    from cosmos_eval.progress import Silent
    from cosmos_eval.training.callback import train_from

    try:
        train_from(config, make_reporter() if is_main_process() else Silent(), overwrite=overwrite)
    except RequestError as error:
        if is_main_process() or error.quiet:
            raise
        raise RequestError(f"rank {os.environ['RANK']}: {error}") from error  # other ranks may not have failed
    if is_main_process():
        print_line(
            f"Trained: {config.out}. Evaluate it: cosmos-eval run --model cosmos:{config.out}/last.pt --suite toybox"
        )


def resolved(preset: str, changes: list[str], out: Path | None) -> "TrainConfig":
    """The configuration with all changes, and a folder of its own where none is named."""
    from cosmos_core.config import load_preset

    overrides = [*changes, *([f"out={out}"] if out is not None else [])]
    config = load_preset(preset, overrides)
    return config if config.out else load_preset(preset, [*overrides, f"out={Path('runs') / config.name}"])
