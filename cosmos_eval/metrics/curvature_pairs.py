"""What L-BFGS remembers: the last steps and the changes of the gradient (Nocedal & Wright, 2006, algorithm 7.4)."""

import torch
from torch import Tensor

HISTORY = 30
"""Pairs of steps and gradient changes that approximate the Hessian."""


class CurvaturePairs:
    """The last steps and changes of the gradient of S fits, which approximate the inverse Hessians."""

    def __init__(self, inverse: Tensor) -> None:
        self.inverse = inverse  # (S, D + 1, C) diagonal of the first approximation
        self.steps: list[Tensor] = []
        self.changes: list[Tensor] = []
        self.rates: list[Tensor] = []

    def keep(self, here: Tensor) -> None:
        """Keep the fits that are True in (S,) `here`."""
        self.inverse = self.inverse[here]
        self.steps, self.changes, self.rates = (
            [one[here] for one in list_] for list_ in (self.steps, self.changes, self.rates)
        )

    def pairs(self, fit: int) -> list[tuple[Tensor, Tensor]]:
        """Return the steps and changes (1, D + 1, C) of one of the fits."""
        return [
            (step[fit : fit + 1], change[fit : fit + 1]) for step, change in zip(self.steps, self.changes, strict=True)
        ]

    def add(self, step: Tensor, change: Tensor) -> None:
        """Add a pair; where the curvature is lost to rounding, the pair has no effect."""
        curvature = dot(step, change)
        rounding = torch.finfo(step.dtype).eps * (dot(step, step) * dot(change, change)).sqrt()
        usable = curvature > rounding.clamp_min(torch.finfo(step.dtype).tiny)
        self.rates.append(torch.where(usable, 1 / curvature.where(usable, torch.ones_like(curvature)), 0))
        self.steps.append(step)
        self.changes.append(change)
        for list_ in (self.steps, self.changes, self.rates):
            del list_[:-HISTORY]

    def apply(self, gradient: Tensor) -> Tensor:
        """Return the approximate inverse Hessian times the gradient (S, D + 1, C)."""
        result = gradient
        factors = []
        for step, change, rate in zip(reversed(self.steps), reversed(self.changes), reversed(self.rates), strict=True):
            factor = rate * dot(step, result)
            result = result - factor[:, None, None] * change
            factors.append(factor)
        scaled = self.inverse * result
        if self.steps:
            change, rate = self.changes[-1], self.rates[-1]
            size = dot(change, self.inverse * change)
            usable = (rate > 0) & (size > 0)
            scale = torch.where(usable, 1 / (rate * size).where(usable, torch.ones_like(rate)), torch.ones_like(rate))
            scaled = scale[:, None, None] * scaled
        for step, change, rate, factor in zip(self.steps, self.changes, self.rates, reversed(factors), strict=True):
            scaled = scaled + (factor - rate * dot(change, scaled))[:, None, None] * step
        return scaled


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Return (S,) dot products of (S, D, C)."""
    return (a * b).sum((1, 2))
