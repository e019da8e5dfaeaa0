"""Steps of a tiny model with made-up images and captions, in double precision, whole or shared out to ranks."""

import copy
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from cosmos_core.loss import Losses
from cosmos_core.model import COSMOS
from cosmos_core.objectives import OBJECTIVES, build_objective
from cosmos_core.world import World

TINY: dict[str, Any] = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 8, "layers": 1, "width": 8, "head_width": 4, "patch_size": 4, "attn_pooler_heads": 2},
    "text_cfg": {"context_length": 6, "vocab_size": 40, "width": 8, "heads": 2, "layers": 1, "attn_pooler_heads": 2},
}


@dataclass
class Inputs:
    """Views of a batch: two global crops and `locals` of half their size; captions."""

    images: list[Tensor]
    """(B, 3, H, W) each."""
    texts: Tensor
    """(B, n, L)"""

    @classmethod
    def some(cls, samples: int = 8, local_crops: int = 2, captions: int = 3, seed: int = 0) -> "Inputs":
        draw = torch.Generator().manual_seed(seed)
        sizes = [8, 8, *[4] * local_crops]
        images = [torch.randn(samples, 3, size, size, generator=draw, dtype=torch.float64) for size in sizes]
        texts = torch.randint(1, 39, (samples, captions, 6), generator=draw)
        texts[..., -2], texts[..., -1] = 39, 0  # the end token, and padding
        return cls(images, texts)

    def share(self, world: World) -> "Inputs":
        size = len(self.texts) // world.size
        own = slice(world.rank * size, (world.rank + 1) * size)
        return Inputs([view[own] for view in self.images], self.texts[own])


def networks() -> tuple[COSMOS, COSMOS]:
    """A student, and a teacher that is another network."""
    found = []
    with torch.random.fork_rng(devices=[]):
        for seed in (0, 1):
            torch.manual_seed(seed)
            found.append(COSMOS.from_config(copy.deepcopy(TINY)).double().train())
    return found[0], found[1].requires_grad_(False)


def step(name: str, inputs: Inputs, world: World) -> tuple[Losses, COSMOS, Any]:
    """Forward and backward of the objective called `name` on this rank's share, DDP around the student."""
    own = inputs.share(world)
    objective = build_objective(name, world)
    student, teacher = networks()
    for parameter, value in student.named_parameters():
        value.requires_grad_(not objective.unused(parameter))
    called = DistributedDataParallel(student) if world.size > 1 else student
    size, texts = len(own.texts), own.texts.transpose(0, 1).flatten(0, 1)
    targets = teacher(own.images[:2], texts[: 2 * size]) if objective.needs_teacher else None
    features = called(own.images, texts, size if objective.cross_attention else None)
    losses = objective(features, targets, size)
    losses.total.backward()
    return losses, student, objective


def gradients(student: COSMOS) -> dict[str, Tensor]:
    return {name: p.grad for name, p in student.named_parameters() if p.grad is not None}


def scalars(losses: Losses) -> dict[str, float]:
    found = {name: getattr(losses, name).item() for name in ("total", "clip_loss", "distill_loss")}
    return found | {name: term.item() for name, term in losses.distill_terms.items()}


def all_objectives(world: World) -> dict[str, Any]:
    """Losses, gradients and collectives of one step of every objective."""
    found: dict[str, Any] = {}
    for name in OBJECTIVES:
        losses, student, objective = step(name, Inputs.some(), world)
        found[name] = {
            "losses": scalars(losses),
            "gradients": gradients(student),
            "calls": dict(objective.collectives.calls),
        }
    return found


def counted_collectives(world: World) -> dict[str, dict[str, int]]:
    """Collectives of tensors that torch was asked for in the losses of two steps, and what the objective counted."""
    names = ("all_gather_into_tensor", "all_gather", "all_reduce", "reduce_scatter_tensor", "broadcast", "all_to_all")
    sent: Counter[str] = Counter()
    objective = build_objective("cosmos", world)
    student, teacher = networks()
    own = Inputs.some(local_crops=5, captions=7).share(world)
    size, texts = len(own.texts), own.texts.transpose(0, 1).flatten(0, 1)
    targets = teacher(own.images[:2], texts[: 2 * size])
    objective.collectives.gather_shapes = lambda shape: [shape] * world.size  # its own traffic is not a step's
    for name in names:
        original = getattr(dist, name)

        def counted(*args: Any, name: str = name, original: Any = original, **kwargs: Any) -> Any:
            sent[name] += 1
            return original(*args, **kwargs)

        setattr(dist, name, counted)
    for _ in range(2):
        objective(student(own.images, texts, size), targets, size).total.backward()
    return {"torch": dict(sent), "ours": dict(objective.collectives.calls)}
