"""Checks of checkpoint files in a run's folder: damage, step, is the run finished, is `last.pt` the newest."""

import re
from pathlib import Path

from cosmos_core.checkpoint import read_file
from cosmos_core.config import TrainConfig
from cosmos_core.errors import RequestError
from cosmos_core.run_lock import LOCK
from cosmos_core.run_state import REQUIRED_KEYS, incompatible_settings, read_training_config

LAST = "last.pt"
"""Name of the newest checkpoint of a run."""
STEP_FILE = re.compile(r"step-(\d{8,})\.pt")


def is_finished(out: Path, config: TrainConfig | None = None) -> bool:
    """Whether a folder holds a finished training, of `config` if given; not if it was killed after its last step."""
    try:
        content = read_file(out / LAST, check=False)
        has_same_settings = config is None or not incompatible_settings(
            read_training_config(content, str(out / LAST)), config
        )
    except (RequestError, KeyError, TypeError, ValueError):  # absent, damaged, or not of a training
        return False
    is_done = type(content.get("step")) is int and content["step"] == content.get("steps")
    return has_same_settings and is_done and not (out / LOCK).exists() and not describe_damage(out / LAST)


def require_newest_last(path: Path) -> None:
    """RequestError if `path` is a `last.pt` and a newer intact checkpoint is in its folder.

    Earlier versions left that when they were killed between two renames: the user would evaluate an older checkpoint
    than the last one.
    """
    if path.name != LAST or not path.is_file():
        return
    step_files = [
        (int(match[1]), file) for file in path.parent.glob("step-*.pt") if (match := STEP_FILE.fullmatch(file.name))
    ]
    newer = sorted((step, file) for step, file in step_files if step > step_of(path) >= 0)
    intact = next((file for _, file in reversed(newer) if not describe_damage(file)), None)
    if intact is not None:
        raise RequestError(
            f"{path} is of step {step_of(path):,}, and {intact.name} beside it is newer: a training was killed while "
            f"it wrote them; name {intact}, or start the training again, which repairs {LAST}"
        )


def is_same_checkpoint(first: Path, second: Path) -> bool:
    """Whether two files hold the same checkpoint, judged by step and size, since comparing all bytes takes long."""
    return step_of(first) == step_of(second) and first.stat().st_size == second.stat().st_size


def step_of(path: Path) -> int:
    """The step of a checkpoint; -1 if it has none or cannot be read."""
    try:
        return int(read_file(path, check=False).get("step", -1))
    except (RequestError, TypeError, ValueError):
        return -1


def describe_damage(path: Path) -> str:
    """Why a run cannot be resumed from a file; empty if it can. Reads the whole file and verifies its checksums."""
    try:
        content = read_file(path)
    except RequestError as error:
        return str(error).removesuffix("; copy or download it again")
    except OSError as error:
        return f"{path} is damaged ({error})"
    missing = [key for key in REQUIRED_KEYS if key not in content]
    if missing:
        return f"{path} cannot be resumed from: it lacks {', '.join(missing)}"
    numbers = [key for key in ("step", "steps", "epoch") if type(content.get(key)) is not int]
    return f"{path} is damaged: its {numbers[0]} is not a whole number" if numbers else ""
