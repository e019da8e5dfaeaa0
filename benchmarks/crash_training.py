"""Trainings to be killed at file operations, and the checks after each kill and at the end."""

import hashlib
import json
import os
import random
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.crash_chains import Scenario, run_in

STEPS = 4
TINY = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 8, "layers": 1, "width": 8, "head_width": 8, "patch_size": 8, "attn_pooler_heads": 1},
    "text_cfg": {"context_length": 6, "vocab_size": 64, "width": 8, "heads": 1, "layers": 1, "attn_pooler_heads": 1},
}
SETTINGS: dict[str, Any] = {
    "model": TINY,
    "steps": STEPS,
    "batch_size": 2,
    "warmup": 1,
    "captions": 2,
    "log_every": 1,
    "save_every": 1,
    "keep": 2,
    "threads": 1,
    "device": "cpu",
}
SPEED = ("samples_per_second", "data_wait", "memory", "seconds")
"""Fields of a line of metrics that differ between any two runs."""


def train_tiny(overwrite: bool = False, links: bool = True, **settings: Any) -> None:
    """Train for four steps in the folder `run`, with a callback that writes a file at the end.

    Args:
        links: False: hard links fail, as on some file systems.
    """
    from cosmos_core.config import TrainConfig
    from cosmos_core.files import atomic_write_text
    from cosmos_core.train import Callback, Run, train
    from cosmos_core.views import MultiCrop

    class Mark(Callback):
        def on_end(self, run: Run) -> None:
            atomic_write_text(Path(run.config.out) / "evaluated.txt", f"{run.step}\n")

    if not links:

        def refuse(*_: Any, **__: Any) -> None:
            raise OSError(1, "Operation not permitted")

        os.link = refuse
    torch.set_num_threads(1)
    for set_seed in (torch.manual_seed, random.seed, np.random.seed):
        set_seed(0)  # checkpoints contain the states of these generators, although the training does not use them
    views = MultiCrop(local_crops=0, global_size=8, local_size=8)
    config = TrainConfig(out="run", views=views, **{**SETTINGS, **settings})
    data = [(str(n), np.full((8, 8, 3), 30 * n, np.uint8), {"raw_caption": f"number {n}. it is {n}"}) for n in range(4)]
    train(config, data, callbacks=[Mark()], overwrite=overwrite)


def import_training() -> None:
    """Train once, so that forked processes have all imports of a training."""
    current_folder = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            train_tiny()
        finally:
            os.chdir(current_folder)


def digest(path: Path) -> str:
    """Return the content of a file, without times and memory."""
    if path.name == "metrics.jsonl":
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return repr([{key: value for key, value in line.items() if key not in SPEED} for line in lines])
    if path.suffix == ".pt":
        return describe_content(torch.load(path, weights_only=True))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def describe_content(value: Any) -> str:
    """Describe the content of a checkpoint to the bit, without the id that torch writes to each file."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key!r}: {describe_content(item)}' for key, item in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(describe_content, value))}]"
    if isinstance(value, torch.Tensor):
        return f"{value.dtype} {tuple(value.shape)} {hashlib.sha256(value.numpy().tobytes()).hexdigest()}"
    return repr(value)


def find_problems(folder: Path) -> list[str]:
    """Return what is wrong with the checkpoints after a kill: damaged files, or a `last.pt` that is not the newest."""
    from cosmos_core.snapshot_checks import describe_damage, step_of

    run = folder / "run"
    problems = [describe_damage(path) for path in run.glob("*.pt")]
    steps = [int(match[1]) for path in run.glob("step-*.pt") if (match := re.fullmatch(r"step-(\d+)\.pt", path.name))]
    last = run / "last.pt"
    if steps and last.exists() and step_of(last) < max(steps):
        problems.append(f"last.pt is of step {step_of(last)}, and there is step {max(steps)}")
    return [problem for problem in problems if problem]


def create_older_training(folder: Path) -> None:
    """Create a folder with a finished, longer training of another seed; it is trained once and then copied."""
    older = folder.parent.parent / "older" / "work"
    if not older.exists():
        older.mkdir(parents=True)
        result = run_in(older, Scenario("older", lambda: train_tiny(seed=1, steps=STEPS + 2)), 0)
        assert isinstance(result, list), f"the training that is to be replaced ended with {result}"
    shutil.copytree(older, folder)


SCENARIOS = [
    Scenario("training", train_tiny, digest=digest, check=find_problems),
    Scenario("training without hard links", lambda: train_tiny(links=False), digest=digest, check=find_problems),
    Scenario(
        "training --overwrite",
        lambda: train_tiny(overwrite=True),
        create_older_training,
        digest=digest,
        check=find_problems,
    ),
]
