"""The profile of an engine's work (`run --profile`): what is set before the run, and what is measured after it."""

import json
from functools import partial
from pathlib import Path

from cosmos_core.devices import synchronize
from cosmos_core.files import atomic_write_text
from cosmos_core.memory_errors import is_out_of_memory
from cosmos_eval.engine.engine import Engine
from cosmos_eval.engine.kept_casts import kept_casts
from cosmos_eval.engine.precision import tower_precision
from cosmos_eval.profiling import Profile

PROFILE = "profile.json"


def begin_profile(profile: Profile, engine: Engine) -> None:
    """Set what the profile says about the run, and let phases wait for the engine's device.

    A GPU computes asynchronously: without waiting, its work would count in a later phase.
    """
    profile.about = {
        "model": engine.model.spec,
        "device": str(engine.device),
        "precision": engine.precision,
        "batch_size": engine.batch_size,
        "workers": engine.workers.recorded,
    }
    profile.synchronize = partial(synchronize, engine.device)


def end_profile(profile: Profile, engine: Engine, folder: Path | None) -> None:
    """Measure the rate of the tower alone, on its largest batch, and write `profile.json` if there is a folder."""
    profile.about["workers"] = engine.workers.used_in_run if engine.workers.is_auto else engine.workers.recorded
    if profile.largest_batch is not None:
        batch = profile.largest_batch[: engine.batch_splitter.sizes["images"]]
        profile.largest_batch = None
        try:
            # as batches are encoded, or the pipeline could be faster than the tower alone
            with kept_casts(engine.model, engine.keeps_casts), tower_precision(engine.precision, engine.device):
                profile.forward_per_second = engine.tower.rate(batch)
        except Exception as error:
            if not is_out_of_memory(error):  # then the profile has no rate: results are more important than this figure
                raise
    if folder is not None:
        atomic_write_text(folder / PROFILE, json.dumps(profile.as_json(), indent=1, ensure_ascii=False) + "\n")
