"""Before the first step: device, initial weights, initial objective, checks of view sizes, the run's length."""

from collections.abc import Sequence
from typing import Any

import torch

from cosmos_core.config import TrainConfig
from cosmos_core.devices import choose_device, require_device
from cosmos_core.errors import RequestError
from cosmos_core.model import COSMOS
from cosmos_core.objective_state import require_savable_state
from cosmos_core.objectives import Objective, build_objective
from cosmos_core.seeds import derive_seed
from cosmos_core.views import MultiCrop
from cosmos_core.world import World


def device_of(name: str, world: World | None = None) -> torch.device:
    """The torch device called `name`, under torchrun the rank's own GPU; RequestError if this machine lacks it.

    `auto` is a GPU if one computes, else the CPU. Of several ranks none falls back alone: that is an error.
    """
    index = 0 if world is None else world.local_rank
    if name == "auto":
        device, reason = choose_device(index)
        if reason and world is not None and world.size > 1:
            raise RequestError(f"rank {world.rank} has no GPU that computes: {reason}; set device=cpu for all ranks")
        return device
    if name == "cuda":
        name = f"cuda:{index}"
    return require_device(name)


def initial_model(config: Any, seed: int) -> COSMOS:
    """A model whose initial weights depend on `seed` alone; the state of torch's global generator is kept."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "weights"))
        return COSMOS.from_config(config)


def initial_objective(config: TrainConfig, world: World | None = None) -> Objective:
    """The run's objective, ready to train; its draws depend on the seed alone, and the global generator's state is
    kept.

    Raises:
        RequestError: it cannot be built, or its state could not be saved.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, "objective"))
        objective = build_objective(config.objective, world, config.objective_options).train()
    require_savable_state(config.objective, objective)
    return objective


def check_sizes(views: MultiCrop, patch: Sequence[int], image: Sequence[int]) -> None:
    """RequestError if a view is smaller than a patch of the model; sizes are (height, width) in pixels."""
    sizes = {"global_size": views.global_size, **({"local_size": views.local_size} if views.local_crops else {})}
    for name, size in sizes.items():
        if size < max(patch):
            raise RequestError(
                f"views.{name}={size} is below the model's patch of {' x '.join(map(str, patch))} pixels; "
                f"its images are {' x '.join(map(str, image))}"
            )


def run_length(config: TrainConfig, samples: int) -> int:
    """Optimizer steps of the run, given the samples of an epoch (0: unknown).

    Raises:
        RequestError: neither the configuration nor the data give the length of an epoch, or it is less than a batch.
    """
    if config.steps:
        return config.steps
    samples = samples or config.samples  # the data's own length first: a table may be shorter than the preset says
    if samples < config.batch_size:
        raise RequestError(
            f"an epoch has {samples or 'an unknown number of'} samples for a batch_size of {config.batch_size}: "
            "set steps, or samples and epochs"
        )
    return config.epochs * (samples // config.batch_size)
