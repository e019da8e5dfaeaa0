"""A model of a few thousand parameters, batches of noise for it, and a run of it that is ready to step."""

import torch

from cosmos_core.config import TrainConfig
from cosmos_core.data import Batch
from cosmos_core.fsdp import shard_networks, whole_tensor
from cosmos_core.networks import build_optimizer
from cosmos_core.prepare import initial_objective
from cosmos_core.step import Run, Stepper
from cosmos_core.train import initial_model
from cosmos_core.views import MultiCrop
from cosmos_core.world import World

MODEL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 60, "width": 16, "heads": 2, "layers": 2},
}
CONFIG = TrainConfig(
    model=MODEL,
    steps=20,
    batch_size=8,
    lr=1e-2,
    warmup=2,
    weight_decay=0.2,
    momentum_teacher=0.9,
    views=MultiCrop(global_crops=2, local_crops=2, global_size=16, local_size=8),
    captions=3,
    device="cpu",
)


def noise(config: TrainConfig, seed: int = 0, dtype: torch.dtype = torch.float32) -> Batch:
    """A batch of the views that the objective asks for: images of noise, captions of any words and lengths."""
    generator = torch.Generator().manual_seed(seed)
    wanted = config.required_views()
    n, crops = config.batch_size, wanted.images
    sizes = [crops.global_size] * crops.global_crops + [crops.local_size] * crops.local_crops
    images = [torch.randn(n, 3, size, size, generator=generator, dtype=torch.float64).to(dtype) for size in sizes]
    vocabulary, length = MODEL["text_cfg"]["vocab_size"], MODEL["text_cfg"]["context_length"]
    texts = torch.zeros(n, wanted.kept_captions or wanted.captions, length, dtype=torch.long)
    for caption in texts.flatten(0, 1):
        words = int(torch.randint(1, length - 1, (), generator=generator))
        caption[0], caption[words + 1] = vocabulary - 2, vocabulary - 1
        caption[1 : words + 1] = torch.randint(1, vocabulary - 2, (words,), generator=generator)
    return Batch(images, texts, keys=[f"{seed}-{i}" for i in range(n)])


def share(batch: Batch, world: World) -> Batch:
    """The samples of one rank."""
    n = len(batch.texts) // world.size
    own = slice(world.rank * n, (world.rank + 1) * n)
    return Batch([view[own] for view in batch.images], batch.texts[own], batch.keys[own])


def stepper(config: TrainConfig, dtype: torch.dtype = torch.float32, world: World | None = None) -> Stepper:
    """A run at its first step, with a teacher that differs from the student."""
    student = initial_model(config.model, 0).to(dtype).train()
    teacher = initial_model(config.model, 1).to(dtype).train().requires_grad_(False)
    world = world or World()
    objective = initial_objective(config, world).to(dtype)
    if config.fsdp:
        shard_networks(student, teacher, world, torch.device("cpu"), None)
    optimizer = build_optimizer(config, student, objective)
    return Stepper(Run(config, student, teacher, optimizer, steps=20, world=world, objective=objective))


def parameters(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: whole_tensor(value.detach()).clone() for name, value in model.named_parameters()}


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: whole_tensor(p.grad).clone() for name, p in model.named_parameters() if p.grad is not None}
