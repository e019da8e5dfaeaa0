"""What a loss costs for a pair of samples: similarities and bytes, measured on random features."""

import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from cosmos_core.config import TrainConfig
from cosmos_core.model import Features
from cosmos_core.peak_bytes import PeakBytes
from cosmos_core.workload import Workload, build_for_counting


def loss_costs(config: TrainConfig) -> tuple[float, float]:
    """Similarities that the objective computes for a pair of samples, and the most bytes that it needs for them.

    Measured by running the objective on random features, so that any objective can be counted. Three batch sizes give
    the quadratic part of its cost by second differences; the objective's own layers are linear in the batch size.
    """
    runs = [measure_loss(config, batch) for batch in LOSS_BATCHES]
    step = LOSS_BATCHES[1] - LOSS_BATCHES[0]
    similarities, peak_bytes = ((c - 2 * b + a) / (2 * step**2) for a, b, c in zip(*runs, strict=True))
    return similarities, peak_bytes


LOSS_BATCHES = (32, 64, 96)
"""Large enough that the similarities, not the features, decide when the most memory is needed."""


def measure_loss(config: TrainConfig, batch: int) -> tuple[float, int]:
    """(similarities, most bytes at one time) of the objective's loss and its backward pass on `batch` samples."""
    work = Workload(config, 1)
    objective, width = build_for_counting(config), work.model["embed_dim"]
    generator = torch.Generator().manual_seed(0)

    def features(views: int, grad: bool) -> torch.Tensor:
        return F.normalize(torch.randn(views * batch, width, generator=generator), dim=-1).requires_grad_(grad)

    def network(images: int, texts: int, cross: bool, grad: bool) -> Features:
        scales = [torch.tensor(10.0, requires_grad=grad) for _ in range(2)]
        crosses = [features(n, grad) for n in (images, texts)] if cross else [None, None]
        return Features(features(images, grad), features(texts, grad), scales[0], scales[1], crosses[0], crosses[1])

    student = network(sum(n for n, _ in work.image_views), work.captions, objective.cross_attention, True)
    teacher = network(2, min(2, work.captions), False, False) if objective.needs_teacher else None
    with FlopCounterMode(display=False) as counter:
        total = objective(student, teacher, batch).total
    similarities = counter.get_total_flops() / (2 * width)
    del total
    with PeakBytes() as counted:
        objective(student, teacher, batch).total.backward()
    return similarities, counted.peak
