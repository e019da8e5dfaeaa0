"""The work of one device in a training step: towers, views, captions and tokens, from a configuration."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from cosmos_core.batch_sharing import share_of_rank, size_of_part
from cosmos_core.config import TrainConfig
from cosmos_core.configs import checked, preset
from cosmos_core.model import COSMOS
from cosmos_core.objectives import Objective, Views, build_objective, objective_class
from cosmos_core.parts import frozen_names

FLOAT = 4
"""Bytes of float32."""


@dataclass(frozen=True)
class TowerShape:
    """The shape of one transformer."""

    width: int
    layers: int
    ratio: float
    """Hidden width over width."""
    patch_values: int = 0
    """Values of a patch, which a matrix product turns into a token; 0 for texts, whose tokens are looked up."""

    def flops(self, sequences: int, tokens: int, embed_dim: int) -> float:
        """Operations of a forward over `sequences` of `tokens` each, with the projection of one token per sequence."""
        blocks = self.layers * (2 * tokens * self.width**2 * (4 + 2 * self.ratio) + 4 * tokens**2 * self.width)
        return sequences * (blocks + 2 * (tokens - 1) * self.patch_values * self.width + 2 * self.width * embed_dim)

    def kept_bytes(self, sequences: int, tokens: int, item: int, checkpointing: bool = False) -> float:
        """Bytes that autograd keeps of that forward; `item` is the size in bytes of a value of a matrix product."""
        values = sequences * tokens * self.width
        block = values * FLOAT if checkpointing else self.block_bytes(sequences, tokens, item)
        # the last block's output, input of a norm; for images also the input of the norm before the first block, and
        # patches
        ends = values * FLOAT * (2 if self.patch_values else 1) + sequences * (tokens - 1) * self.patch_values * item
        return ends + self.layers * block

    def block_bytes(self, sequences: int, tokens: int, item: int) -> float:
        """Bytes that autograd keeps of one block."""
        return sequences * tokens * self.width * (2 * FLOAT + item * (6 + 2 * self.ratio))


@dataclass(frozen=True)
class Workload:
    """The work of one device in a step, from a configuration and the number of ranks that share the batch.

    Raises:
        RequestError: the batch cannot be shared, or the model or the objective cannot be built.
    """

    config: TrainConfig
    ranks: int = 1

    def __post_init__(self) -> None:
        size_of_part(share_of_rank(self.config.batch_size, self.ranks), self.config.accumulate)

    @property
    def local_batch(self) -> int:
        """Samples of a step on this device."""
        return self.config.batch_size // self.ranks

    @cached_property
    def model(self) -> dict[str, Any]:
        """The checked configuration of one network."""
        config = self.config.model
        return preset(config) if isinstance(config, str) else checked(config)

    @cached_property
    def patch(self) -> tuple[int, int]:
        """(height, width) of a patch in pixels."""
        return pair(self.model["vision_cfg"].get("patch_size", 16))

    @cached_property
    def image(self) -> tuple[int, int]:
        """(height, width) of an image in pixels."""
        return pair(self.model["vision_cfg"].get("image_size", 224))

    @cached_property
    def image_tower(self) -> TowerShape:
        vision = self.model["vision_cfg"]
        values = 3 * self.patch[0] * self.patch[1]
        return TowerShape(vision.get("width", 768), vision.get("layers", 12), vision.get("mlp_ratio", 4.0), values)

    @cached_property
    def text_tower(self) -> TowerShape:
        text = self.model["text_cfg"]
        return TowerShape(text.get("width", 512), text.get("layers", 12), text.get("mlp_ratio", 4.0))

    @cached_property
    def item(self) -> int:
        """Bytes of a value of a matrix product."""
        return 2 if half_precision(self.config) else FLOAT

    @cached_property
    def views(self) -> Views:
        """The views that the objective needs of a sample."""
        return self.config.required_views()

    @cached_property
    def objective(self) -> type[Objective]:
        return objective_class(self.config.objective)

    @cached_property
    def objective_parameters(self) -> int:
        """Number of the objective's own trained parameters; builds the objective to count them."""
        return sum(
            parameter.numel() for parameter in build_for_counting(self.config).parameters() if parameter.requires_grad
        )

    @cached_property
    def image_views(self) -> list[tuple[int, int]]:
        """(views of a sample, pixels on a side), the global ones first."""
        views = self.views.images
        sizes = [(views.global_crops, views.global_size), (views.local_crops, views.local_size)]
        return [(count, size) for count, size in sizes if count]

    @cached_property
    def captions(self) -> int:
        """Captions of a sample that are encoded."""
        return self.views.kept_captions or self.views.captions

    @property
    def context(self) -> int:
        """Tokens of a caption."""
        return self.model["text_cfg"].get("context_length", 77)

    @cached_property
    def frozen(self) -> set[str]:
        """Names of the parameters that the setting `freeze` keeps as they are."""
        with torch.device("meta"):
            network = COSMOS.from_config(self.model)
        return frozen_names([name for name, _ in network.named_parameters()], self.config.freeze)

    def image_tokens(self, size: int) -> int:
        """Tokens of a square image, including the class token."""
        return (size // self.patch[0]) * (size // self.patch[1]) + 1


def half_precision(config: TrainConfig) -> bool:
    """Whether matrix products are in 16 bits: mixed precision is set, and the device is not a CPU.

    `auto` is resolved for this machine. `amp` counts even without a GPU here: a dry run is often done elsewhere.
    """
    if config.device.startswith("cpu") or config.precision == "fp32":
        return False
    return config.precision != "auto" or torch.cuda.is_available()


def pair(size: int | Sequence[int]) -> tuple[int, int]:
    """(height, width) of a size that may be one number for both."""
    return (size[0], size[1]) if isinstance(size, Sequence) else (size, size)


def build_for_counting(config: TrainConfig) -> Objective:
    """The configured objective for one process; the state of torch's global generator is kept."""
    with torch.random.fork_rng(devices=[]):
        return build_objective(config.objective, None, config.objective_options)


def steps_of(config: TrainConfig, samples: int) -> tuple[int, int]:
    """(optimizer steps of the run, steps of an epoch) for an epoch of `samples`; 0 if unknown."""
    epoch = samples // config.batch_size
    return config.steps or config.epochs * epoch, epoch
