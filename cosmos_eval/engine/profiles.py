"""A profile of an engine's work: what it is told at the beginning, and what is measured at the end."""

import json
from functools import partial
from pathlib import Path

import torch

from cosmos_core.files import atomic_write_text
from cosmos_eval.engine.features import Engine
from cosmos_eval.engine.precision import tower_precision
from cosmos_eval.models.base import out_of_memory
from cosmos_eval.profiling import Profile

PROFILE = "profile.json"


def begin_profile(profile: Profile, engine: Engine) -> None:
    """From here on, phases wait for the engine's device."""
    profile.about = {
        "model": engine.model.spec,
        "device": str(engine.device),
        "precision": engine.precision,
        "batch_size": engine.batch_size,
        "workers": engine.workers,
    }
    if engine.device.type == "cuda":
        profile.wait = partial(torch.cuda.synchronize, engine.device)


def end_profile(profile: Profile, engine: Engine, folder: Path | None) -> None:
    """Time the tower alone on the largest batch that it was given, and write `profile.json` into `folder`, if any."""
    if profile.ready is not None:
        batch = profile.ready[: engine.parts.sizes["images"]]
        profile.ready = None
        try:
            with tower_precision(engine.precision, engine.device):
                profile.forward_per_second = engine.tower.rate(batch)
        except Exception as error:  # the results stand; they are not to be lost for a figure
            if not out_of_memory(error):
                raise
    if folder is not None:
        atomic_write_text(folder / PROFILE, json.dumps(profile.as_json(), indent=1, ensure_ascii=False) + "\n")
