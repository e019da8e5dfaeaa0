"""Check that several implementations of one formula agree, in losses and gradients, before their speed is compared."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from cosmos_core.world import World

TEMPERATURES = ("logit_scale", "distill_logit_scale")


@dataclass(frozen=True)
class LossAndGradients:
    """The loss and the gradients of one implementation on this rank."""

    loss: float
    gradients: dict[str, Tensor]


def rescale_gradients(gradients: Mapping[str, Tensor | None], world: World, gather: str) -> dict[str, Tensor]:
    """Return gradients on a common scale, so that all implementations can be compared; None becomes zero.

    With `without_gradient`, gradients are 1 / world size of the true ones, except for those of the temperatures.
    """
    factor = world.size if gather == "without_gradient" else 1
    return {
        name: (torch.zeros(()) if gradient is None else gradient)
        * (1 if name.split(".")[-1] in TEMPERATURES else factor)
        for name, gradient in gradients.items()
    }


def relative_difference(candidate: LossAndGradients, reference: LossAndGradients, world: World) -> float:
    """Return the larger of the relative differences of loss and gradients over all ranks; infinite if not finite.

    The losses and the gradients of the temperatures are compared as means over ranks, because an implementation may
    divide them among the ranks in any way. All other gradients belong to the features of one rank.
    """
    names = [name for name in TEMPERATURES if name in reference.gradients]
    candidate_means, reference_means = (
        world.mean([side.loss, *(side.gradients[name].item() for name in names)]) for side in (candidate, reference)
    )
    loss_difference = abs(candidate_means[0] - reference_means[0]) / abs(reference_means[0])
    squares = [0.0, 0.0]  # of the difference, and of the reference
    for name, expected in reference.gradients.items():
        if name not in names:
            squares[0] += (candidate.gradients[name] - expected).double().square().sum().item()
            squares[1] += expected.double().square().sum().item()
    squares = world.mean(squares)
    difference = squares[0] + sum((a - b) ** 2 for a, b in zip(candidate_means[1:], reference_means[1:], strict=True))
    norm = squares[1] + sum(b**2 for b in reference_means[1:])
    values = torch.tensor([loss_difference, (difference / norm) ** 0.5])
    return values.max().item() if values.isfinite().all() else float("inf")
