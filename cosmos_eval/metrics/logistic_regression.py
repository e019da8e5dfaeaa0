"""Multinomial logistic regression by full-batch L-BFGS (Nocedal & Wright, Numerical Optimization, 2006, algorithm 7.5).

The objective is scikit-learn's `LogisticRegression(C=1 / strength)`: the sum over samples of the cross-entropy, plus
strength / 2 times the squared norm of the coefficients. Intercepts are not penalised. As scikit-learn, two classes have
one vector of coefficients, the difference of theirs.

Faster than plain L-BFGS: features are centred and rotated to their principal axes, where the Hessian of the first step
is nearly diagonal, and its diagonal takes the place of L-BFGS's multiple of the identity. Neither changes the optimum.
Several strengths are fitted at once: their logits are one matrix product.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cosmos_eval.metrics.accuracy import check_labels
from cosmos_eval.metrics.linear_scores import LinearClassifier
from cosmos_eval.metrics.similarity import check_features, plain_float32

HISTORY = 10
"""Pairs of steps and gradient changes that approximate the Hessian."""
MAX_ITERATIONS = 1000
"""As CLIP's probes (Radford et al., 2021, A.3)."""
TOLERANCE = 1e-9
"""A fit ends when the expected decrease of its objective is below this share of the objective."""
BLOCK_BYTES = 2**26
"""Memory of the logits that are computed at a time; one sample is always allowed."""
SUFFICIENT_DECREASE = 1e-4
"""Share of the decrease that the gradient promises which a step must reach (Armijo's rule)."""
MAX_HALVINGS = 30


@dataclass(frozen=True)
class Fits:
    """S fits of the same samples."""

    coefficients: Tensor
    """(S, D, C)."""
    intercepts: Tensor
    """(S, C); the mean over the classes is 0."""
    iterations: Tensor
    """(S,) int64 steps that were taken; a fit with as many as were allowed may not have converged."""

    def classifier(self, fit: int = 0) -> LinearClassifier:
        """Return one of the fits."""
        return LinearClassifier(self.coefficients[fit], self.intercepts[fit])


class LogisticRegression:
    """Fits one set of samples at several strengths of regularisation.

    Args:
        features: (N, D) finite.
        labels: (N,) int64 in [0, C). A class without samples would have an intercept of minus infinity.
        classes: C, at least 1.
        dtype: float32 or float64, in which everything is computed.

    Raises:
        ValueError: features that are not finite (names the first), a label out of range, or a class without samples.
    """

    def __init__(self, features: Tensor, labels: Tensor, classes: int, dtype: torch.dtype = torch.float64) -> None:
        check_features(features, "train image")
        check_labels(labels.cpu(), len(features), classes)
        counts = torch.bincount(labels.cpu(), minlength=classes)
        if (counts == 0).any():
            raise ValueError(f"class {int((counts == 0).nonzero()[0])} has no samples")
        self.classes, self.dtype, self.device = classes, dtype, features.device
        self.labels = labels.to(features.device)
        n = len(features)
        with torch.no_grad(), plain_float32():
            self.mean = features.to(dtype).mean(0)
            centred = features.to(dtype) - self.mean
            variances, axes = torch.linalg.eigh((centred.T @ centred / n).cpu().double())
            self.axes = axes.to(self.device, dtype)
            self.variances = variances.clamp_min(0).to(self.device, dtype)  # (D,)
            self.rotated = centred @ self.axes  # (N, D)
        self.priors = (counts / n).to(self.device, dtype)  # (C,)
        self.samples = n

    def fit(
        self,
        strengths: Sequence[float],
        start: LinearClassifier | None = None,
        tolerance: float = TOLERANCE,
        max_iterations: int = MAX_ITERATIONS,
    ) -> Fits:
        """Fit at S strengths, each on its own.

        Args:
            strengths: above 0; the inverse of scikit-learn's C.
            start: one fit, such as that of a similar strength, from which all start; else from the classes' shares.
            tolerance: see `TOLERANCE`.
            max_iterations: at least 1.
        """
        # Two classes: the difference w of two opposite vectors has the penalty |w|² / 2, which is that of both times 2.
        factor = 2 if self.classes == 2 else 1
        penalty = torch.tensor([factor * strength / self.samples for strength in strengths], dtype=torch.float64)
        penalty = penalty.to(self.device, self.dtype)
        with torch.no_grad(), plain_float32():
            weights = self._start(len(strengths), start)
            weights, iterations = self._minimise(weights, penalty, tolerance, max_iterations)
            coefficients = self.axes @ weights[:, :-1]
            intercepts = weights[:, -1] - self.mean @ coefficients
            # The softmax ignores what all classes share; the penalty already takes it out of the coefficients.
            return Fits(coefficients, intercepts - intercepts.mean(-1, keepdim=True), iterations)

    def fits_at_once(self, work: Mapping[str, int]) -> int:
        """Return how many fits, at least 1, stay within a number of multiplications of each device type."""
        multiplications = self.rotated.numel() * self.classes
        return max(1, work.get(self.device.type, 0) // multiplications)

    def _start(self, fits: int, start: LinearClassifier | None) -> Tensor:
        """Return (S, D + 1, C) weights of the rotated features; the last row has the intercepts."""
        weights = torch.zeros(fits, len(self.axes) + 1, self.classes, dtype=self.dtype, device=self.device)
        if start is None:
            weights[:, -1] = self.priors.log() - self.priors.log().mean()
        else:
            coefficients = start.coefficients.to(self.device, self.dtype)
            weights[:, :-1] = self.axes.T @ coefficients
            weights[:, -1] = start.intercepts.to(self.device, self.dtype) + self.mean @ coefficients
        return weights

    def _evaluate(self, weights: Tensor, penalty: Tensor) -> tuple[Tensor, Tensor]:
        """Return the objective (S,) float64, as a mean over samples, and its gradient (S, D + 1, C)."""
        fits = len(weights)
        flat = weights.movedim(0, 1).reshape(weights.shape[1], -1)  # (D + 1, S C)
        gradient = torch.zeros_like(flat)
        loss = torch.zeros(fits, dtype=torch.float64)
        minus_one = torch.full((1, 1, 1), -1.0, dtype=self.dtype, device=self.device)
        for start, stop, block in _blocks(self.rotated, flat.shape[1], self.dtype, BLOCK_BYTES):
            logits = torch.addmm(flat[-1], block, flat[:-1]).view(-1, fits, self.classes)
            index = self.labels[start:stop, None, None].expand(-1, fits, 1)
            log_shares = logits.log_softmax(-1)
            loss -= log_shares.gather(-1, index)[..., 0].sum(0).cpu().double()
            residual = log_shares.exp_().scatter_add_(-1, index, minus_one.expand_as(index))
            residual = residual.view(len(block), -1)
            gradient[:-1].addmm_(block.T, residual)
            gradient[-1] += residual.sum(0)
        gradient = gradient.view(-1, fits, self.classes).movedim(1, 0) / self.samples
        gradient[:, :-1] += penalty[:, None, None] * weights[:, :-1]
        norms = weights[:, :-1].square().sum((1, 2)).cpu().double()
        return loss / self.samples + penalty.cpu().double() / 2 * norms, gradient

    def _inverse_diagonal(self, weights: Tensor, penalty: Tensor) -> Tensor:
        """Return the inverse of the Hessian's diagonal (S, D + 1, C) where all samples have the classes' shares."""
        curvature = (self.priors * (1 - self.priors)).clamp_min(1e-12)
        inverse = torch.ones_like(weights)
        inverse[:, :-1] = 1 / (self.variances[:, None] * curvature + penalty[:, None, None])
        inverse[:, -1] = 1 / curvature
        return inverse

    def _minimise(
        self, weights: Tensor, penalty: Tensor, tolerance: float, max_iterations: int
    ) -> tuple[Tensor, Tensor]:
        """Return the minimising weights, and the number of iterations of each fit (S,)."""
        final = weights.clone()
        iterations = torch.zeros(len(weights), dtype=torch.int64)
        active = torch.arange(len(weights))
        value, gradient = self._evaluate(weights, penalty)
        memory = _Memory(self._inverse_diagonal(weights, penalty))
        stuck = torch.zeros(len(weights), dtype=torch.bool)
        for _ in range(max_iterations):
            direction = -memory.apply(gradient)
            slope = _dot(gradient, direction).cpu().double()  # (S,) negative
            running = (-slope / 2 > tolerance * value) & ~stuck
            if not running.all():
                final[active[~running]] = weights[~running.to(self.device)]
                if not running.any():
                    return final, iterations
                here = running.to(self.device)
                active, value, slope = active[running], value[running], slope[running]
                weights, gradient, direction, penalty = (one[here] for one in (weights, gradient, direction, penalty))
                memory.keep(here)
            iterations[active] += 1
            moved, new_value, new_gradient, stuck = self._step(weights, value, slope, direction, penalty)
            memory.add(moved - weights, new_gradient - gradient)
            weights, value, gradient = moved, new_value, new_gradient
        final[active] = weights
        return final, iterations

    def _step(
        self, weights: Tensor, value: Tensor, slope: Tensor, direction: Tensor, penalty: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return weights, objective and gradient after a step that decreases it, and (S,) whether there was none."""
        step = torch.ones(len(weights), dtype=torch.float64)
        moved = weights + direction
        new_value, new_gradient = self._evaluate(moved, penalty)
        noise = 4 * torch.finfo(self.dtype).eps * value.abs()
        for _ in range(MAX_HALVINGS):
            failed = ~(new_value <= value + SUFFICIENT_DECREASE * step * slope + noise)
            if not failed.any():
                break
            step[failed] /= 2
            here = failed.to(self.device)
            moved[here] = weights[here] + step[failed].to(weights)[:, None, None] * direction[here]
            new_value[failed], new_gradient[here] = self._evaluate(moved[here], penalty[here])
        failed = ~(new_value <= value + noise)
        here = failed.to(self.device)
        moved[here] = weights[here]
        new_value[failed] = value[failed]
        return moved, new_value, new_gradient, failed | (value - new_value <= noise) & (step < 1)


class _Memory:
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

    def add(self, step: Tensor, change: Tensor) -> None:
        """Add a pair; where the curvature is lost to rounding, the pair has no effect."""
        curvature = _dot(step, change)
        usable = curvature > torch.finfo(step.dtype).tiny
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
            factor = rate * _dot(step, result)
            result = result - factor[:, None, None] * change
            factors.append(factor)
        scaled = self.inverse * result
        if self.steps:
            change, rate = self.changes[-1], self.rates[-1]
            size = _dot(change, self.inverse * change)
            usable = (rate > 0) & (size > 0)
            scale = torch.where(usable, 1 / (rate * size).where(usable, torch.ones_like(rate)), torch.ones_like(rate))
            scaled = scale[:, None, None] * scaled
        for step, change, rate, factor in zip(self.steps, self.changes, self.rates, reversed(factors), strict=True):
            scaled = scaled + (factor - rate * _dot(change, scaled))[:, None, None] * step
        return scaled


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Return (S,) dot products of (S, D, C)."""
    return (a * b).sum((1, 2))


def _blocks(features: Tensor, width: int, dtype: torch.dtype, block_bytes: int) -> Iterator[tuple[int, int, Tensor]]:
    """Yield consecutive features in a type, of as many samples as have `width` scores in `block_bytes`."""
    step = max(1, block_bytes // (width * dtype.itemsize))
    for start in range(0, len(features), step):
        block = features[start : start + step].to(dtype)
        yield start, start + len(block), block
