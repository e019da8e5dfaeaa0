"""Trainings of a second and their checkpoints, over squares of four colours."""

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cosmos_core.checkpoint import save_checkpoint
from cosmos_core.config import TrainConfig
from cosmos_core.step import Run
from cosmos_core.train import Callback, initial_model
from cosmos_core.views import MultiCrop

TINY = {
    "embed_dim": 16,
    "vision_cfg": {
        "image_size": 16,
        "layers": 1,
        "width": 16,
        "head_width": 8,
        "patch_size": 8,
        "attn_pooler_heads": 2,
    },
    "text_cfg": {"context_length": 10, "vocab_size": 200, "width": 16, "heads": 2, "layers": 1, "attn_pooler_heads": 2},
}
COLOURS = {"red": (220, 30, 30), "green": (30, 220, 30), "blue": (30, 30, 220), "gray": (120, 120, 120)}
CONFIG = TrainConfig(
    name="tiny",
    model=TINY,
    steps=6,
    batch_size=4,
    lr=1e-3,
    warmup=2,
    momentum_teacher=0.9,
    views=MultiCrop(local_crops=1, global_size=16, local_size=8, crop_scale=0.5),
    captions=3,
    log_every=2,
    device="cpu",
)


def coloured(n: int) -> list[Any]:
    """Plain squares of four colours and their names: as easy as a dataset can be."""
    names = [list(COLOURS)[i % 4] for i in range(n)]
    return [
        (str(i), np.full((16, 16, 3), COLOURS[name], np.uint8), {"raw_caption": [name]}) for i, name in enumerate(names)
    ]


def checkpoint(path: Path, step: int, steps: int = 300, seed: int | None = None, **extra: Any) -> Path:
    """A checkpoint as a run writes it: weights of a seed (by default the step), the teacher's of the next one."""
    seed = step if seed is None else seed
    save_checkpoint(
        path,
        config=TINY,
        student=initial_model(TINY, seed + 1000),
        teacher=initial_model(TINY, seed),
        optimizer=None,
        epoch=0,
        name="tiny",
        extra={"step": step, "steps": steps, "training": replace(CONFIG, steps=steps).to_dict(), **extra},
    )
    return path


def same_weights(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    others = b.state_dict()
    return all(torch.equal(value, others[name]) for name, value in a.state_dict().items())


class StopAfter(Callback):
    """Asks this process to stop after a step, by a signal, as a batch system does."""

    def __init__(self, step: int, number: signal.Signals) -> None:
        self.step, self.number = step, number

    def on_step(self, run: Run) -> None:
        if run.step == self.step:
            signal.raise_signal(self.number)
