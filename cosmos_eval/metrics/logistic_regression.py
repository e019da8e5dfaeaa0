"""Multinomial logistic regression by full-batch L-BFGS (Nocedal & Wright, Numerical Optimization, 2006, algorithm 7.5).

The objective is scikit-learn's `LogisticRegression(C=1 / strength)`: the sum over samples of the cross-entropy, plus
strength / 2 times the squared norm of the coefficients. Intercepts are not penalised. As scikit-learn, two classes have
one vector of coefficients, the difference of theirs.

Faster than plain L-BFGS: features are centred and rotated to their principal axes, where the Hessian of the first step
is nearly diagonal, and its diagonal takes the place of L-BFGS's multiple of the identity. Neither changes the optimum.
Several strengths are fitted at once: their logits are one matrix product. A fit may begin where another one of a
similar strength ended, with its approximation of the Hessian, which differs by the penalties only.

Coefficients near the optimum differ much while the objective differs little. So what is fitted well keeps its relative
precision (`_cross_entropy`), and where objectives differ by rounding only, gradients are compared. In float32, 1,000
features of CIFAR-10 (256 dimensions, strengths from 1e-3 to 1e3) have coefficients up to 23, and those are within 2e-4
of scikit-learn's.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from cosmos_core.threads import one_thread
from cosmos_eval.metrics.accuracy import check_labels
from cosmos_eval.metrics.curvature_pairs import CurvaturePairs, dot
from cosmos_eval.metrics.linear_scores import LinearClassifier
from cosmos_eval.metrics.similarity import check_features, plain_float32

MAX_ITERATIONS = 1000
"""As CLIP's probes (Radford et al., 2021, A.3)."""
TOLERANCE = 1e-11
"""A fit ends when the expected decrease of its objective is below this share of the objective."""
BLOCK_BYTES = {"cpu": 2**23}
"""Memory of the logits that are computed at a time on each device type: on a CPU they stay in its cache."""
OTHER_BLOCK_BYTES = 2**26
"""The same for other device types; one sample is always allowed."""
SINGLE_THREAD_WORK = 2**25
"""Products of samples, dimensions, classes and fits up to which one CPU thread is used: more wait for each other longer
than they compute."""
SUFFICIENT_DECREASE = 1e-4
"""Share of the decrease that the gradient promises which a step must reach (Armijo's rule)."""
MAX_HALVINGS = 30
FIRST_CHECK = 4
"""Iterations after which a fit is asked, each time, whether it is hopeless."""
SETTLED = 0.1
"""It is asked once the expected decrease is below this share of the objective: the first steps may go too far."""
LARGE = 2**33
"""Products of samples, dimensions and classes beyond which a set is large: each step takes long."""
ROUNDING = 16
"""Objectives that differ by less than this, in units of their last place, are compared by their gradients."""
PATIENCE = 50
"""A fit also ends when the expected decrease, already within rounding, has reached no new minimum for so many steps."""


@dataclass(frozen=True)
class Fits:
    """S fits of the same samples."""

    coefficients: Tensor
    """(S, D, C)."""
    intercepts: Tensor
    """(S, C); the mean over the classes is 0."""
    iterations: Tensor
    """(S,) int64 steps that were taken; a fit with as many as were allowed may not have converged."""
    ends: "Sequence[End]"
    """S."""

    def classifier(self, fit: int = 0) -> LinearClassifier:
        """Return one of the fits."""
        return LinearClassifier(self.coefficients[fit], self.intercepts[fit])


@dataclass(frozen=True)
class End:
    """Where a fit ended: another one may begin there."""

    weights: Tensor
    """(1, D + 1, C) of the rotated features; the last row has the intercepts."""
    penalty: Tensor
    """(1,) factor of half the squared norm."""
    pairs: Sequence[tuple[Tensor, Tensor]]
    """The last steps and the changes of the gradient, each (1, D + 1, C)."""
    value: Tensor
    """(1,) float64 objective."""
    gradient: Tensor
    """(1, D + 1, C) of the objective."""
    samples: object
    """Identity of the samples that objective and gradient belong to; not the samples, whose memory it would keep."""


class LogisticRegression:
    """Fits one set of samples at several strengths of regularisation.

    Args:
        features: (N, D) finite.
        labels: (N,) int64 in [0, C). A class without samples would have an intercept of minus infinity.
        classes: C, at least 1.
        dtype: float32 or float64, in which everything is computed.
        like: a regression on similar samples of the same classes. Its centre and axes are used instead of those of the
            samples, so that fits can begin where its fits ended.

    Raises:
        ValueError: features that are not finite (names the first), a label out of range, or a class without samples.
    """

    def __init__(
        self,
        features: Tensor,
        labels: Tensor,
        classes: int,
        dtype: torch.dtype = torch.float64,
        like: "LogisticRegression | None" = None,
    ) -> None:
        check_features(features, "train image")
        check_labels(labels.cpu(), len(features), classes)
        counts = torch.bincount(labels.cpu(), minlength=classes)
        if (counts == 0).any():
            raise ValueError(f"class {int((counts == 0).nonzero()[0])} has no samples")
        self.classes, self.dtype, self.device = classes, dtype, features.device
        self.labels = labels.to(features.device)
        n = len(features)
        with torch.no_grad(), plain_float32():
            self.mean: Tensor = like.mean if like else features.to(dtype).mean(0)
            centred = features.to(dtype) - self.mean
            self.axes: Tensor = like.axes if like else _principal_axes(centred)
            self.rotated = centred @ self.axes  # (N, D)
            self.variances = self.rotated.square().mean(0)  # (D,)
        self.priors = (counts / n).to(self.device, dtype)  # (C,)
        self.samples, self.identity = n, object()

    def fit(
        self,
        strengths: Sequence[float],
        start: End | None = None,
        tolerance: float = TOLERANCE,
        least_objective: float = 0.0,
        max_iterations: int = MAX_ITERATIONS,
        is_hopeless: Callable[[LinearClassifier], bool] | None = None,
    ) -> Fits:
        """Fit at S strengths, each on its own.

        Args:
            strengths: above 0; the inverse of scikit-learn's C.
            start: where a fit of these samples, or of those that these are `like`, ended; all begin there. Else from
                the classes' shares.
            tolerance: see `TOLERANCE`.
            least_objective: mean over samples, in nats. Below it, the tolerance is a share of this instead.
            max_iterations: at least 1.
            is_hopeless: whether a fit need not be finished, asked now and then with its classifier so far.
        """
        # Two classes: the difference w of two opposite vectors has the penalty |w|² / 2, which is that of both times 2.
        factor = 2 if self.classes == 2 else 1
        penalty = torch.tensor([factor * strength / self.samples for strength in strengths], dtype=torch.float64)
        penalty = penalty.to(self.device, self.dtype)
        work = self.rotated.numel() * self.classes * len(strengths)
        with torch.no_grad(), plain_float32(), one_thread() if work <= SINGLE_THREAD_WORK else nullcontext():
            weights = torch.zeros(
                len(strengths), len(self.axes) + 1, self.classes, dtype=self.dtype, device=self.device
            )
            if start is None:
                weights[:, -1] = self.priors.log() - self.priors.log().mean()
            else:
                weights += start.weights
            memory = CurvaturePairs(self._inverse_diagonal(weights, penalty))
            if start is not None:
                for step, change in start.pairs:
                    # The gradient of the penalty changes by the penalty times the step.
                    changed = change.expand_as(weights).clone()
                    changed[:, :-1] += (penalty - start.penalty)[:, None, None] * step[:, :-1]
                    memory.add(step.expand_as(weights), changed)
            point = self._evaluate(weights, penalty) if start is None else self._evaluate_start(start, penalty)
            ends, iterations = self._minimise(
                weights, penalty, point, memory, tolerance, least_objective, max_iterations, is_hopeless
            )
            weights = torch.cat([end.weights for end in ends])
            return Fits(*self._unrotated(weights), iterations, ends)

    def _unrotated(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return the coefficients (S, D, C) and intercepts (S, C) of features as they are given."""
        coefficients = self.axes @ weights[:, :-1]
        intercepts = weights[:, -1] - self.mean @ coefficients
        # The softmax ignores what all classes share; the penalty already takes it out of the coefficients.
        return coefficients, intercepts - intercepts.mean(-1, keepdim=True)

    @property
    def is_large(self) -> bool:
        """Whether each step takes long (`LARGE`): fits then end earlier."""
        return self.rotated.numel() * self.classes > LARGE

    def fits_at_once(self, work: Mapping[str, int]) -> int:
        """Return how many fits, at least 1, stay within a number of multiplications of each device type."""
        multiplications = self.rotated.numel() * self.classes
        return max(1, work.get(self.device.type, 0) // multiplications)

    def _evaluate(self, weights: Tensor, penalty: Tensor) -> tuple[Tensor, Tensor]:
        """Return the objective (S,) float64, as a mean over samples, and its gradient (S, D + 1, C)."""
        fits = len(weights)
        flat = weights.movedim(0, 1).reshape(weights.shape[1], -1)  # (D + 1, S C)
        gradient = torch.zeros_like(flat)
        loss = torch.zeros(fits, dtype=torch.float64)
        block_bytes = BLOCK_BYTES.get(self.device.type, OTHER_BLOCK_BYTES)
        for start, stop, block in _blocks(self.rotated, flat.shape[1], self.dtype, block_bytes):
            logits = torch.addmm(flat[-1], block, flat[:-1]).view(-1, fits, self.classes)
            losses, residual = _cross_entropy(logits, self.labels[start:stop, None, None].expand(-1, fits, 1))
            loss += losses.cpu().double().sum(0)
            residual = residual.view(len(block), -1)
            gradient[:-1].addmm_(block.T, residual)
            gradient[-1] += residual.sum(0)
        gradient = gradient.view(-1, fits, self.classes).movedim(1, 0) / self.samples
        gradient[:, :-1] += penalty[:, None, None] * weights[:, :-1]
        norms = weights[:, :-1].square().sum((1, 2)).cpu().double()
        return loss / self.samples + penalty.cpu().double() / 2 * norms, gradient

    def _evaluate_start(self, start: End, penalty: Tensor) -> tuple[Tensor, Tensor]:
        """Return the same at the weights of a start, where objectives differ by the penalties only."""
        weights = start.weights.expand(len(penalty), -1, -1)
        if start.samples is not self.identity:
            return self._evaluate(weights, penalty)
        added = penalty - start.penalty
        gradient = start.gradient.repeat(len(penalty), 1, 1)
        gradient[:, :-1] += added[:, None, None] * weights[:, :-1]
        norm = start.weights[:, :-1].square().sum().cpu().double()
        return start.value + added.cpu().double() / 2 * norm, gradient

    def _inverse_diagonal(self, weights: Tensor, penalty: Tensor) -> Tensor:
        """Return the inverse of the Hessian's diagonal (S, D + 1, C) where all samples have the classes' shares."""
        curvature = (self.priors * (1 - self.priors)).clamp_min(1e-12)
        inverse = torch.ones_like(weights)
        inverse[:, :-1] = 1 / (self.variances[:, None] * curvature + penalty[:, None, None])
        inverse[:, -1] = 1 / curvature
        return inverse

    def _minimise(
        self,
        weights: Tensor,
        penalty: Tensor,
        point: tuple[Tensor, Tensor],
        memory: CurvaturePairs,
        tolerance: float,
        least_objective: float,
        max_iterations: int,
        is_hopeless: Callable[[LinearClassifier], bool] | None,
    ) -> tuple[list[End], Tensor]:
        """Return the end of each fit, and the numbers of iterations (S,).

        Args:
            point: objective and gradient at the weights.
        """
        ends: dict[int, End] = {}
        iterations = torch.zeros(len(weights), dtype=torch.int64)
        active = torch.arange(len(weights))

        def end(which: Tensor) -> None:
            for i in which.nonzero()[:, 0].tolist():
                row = slice(i, i + 1)
                ends[int(active[i])] = End(
                    weights[row], penalty[row], memory.pairs(i), value[row], gradient[row], self.identity
                )

        value, gradient = point
        stuck = torch.zeros(len(weights), dtype=torch.bool)
        least = torch.full((len(weights),), torch.inf, dtype=torch.float64)  # expected decrease of all steps so far
        since = torch.zeros(len(weights), dtype=torch.int64)  # steps
        for iteration in range(1, max_iterations + 1):
            direction = -memory.apply(gradient)
            slope = dot(gradient, direction).cpu().double()  # (S,) negative
            since = torch.where((-slope < least) | (-slope > self._rounding(value)), 0, since + 1)
            least = torch.minimum(least, -slope)
            converged = (-slope / 2 <= tolerance * value.clamp_min(least_objective)) & (iterations[active] > 0)
            running = ~converged & ~stuck & (since < PATIENCE)
            if not running.all():
                end(~running)
                if not running.any():
                    break
                here = running.to(self.device)
                active, value, slope, least, since = (one[running] for one in (active, value, slope, least, since))
                weights, gradient, direction, penalty = (one[here] for one in (weights, gradient, direction, penalty))
                memory.keep(here)
            iterations[active] += 1
            moved, new_value, new_gradient, stuck = self._step(weights, value, gradient, direction, penalty)
            memory.add(moved - weights, new_gradient - gradient)
            weights, value, gradient = moved, new_value, new_gradient
            if is_hopeless and iteration >= FIRST_CHECK:
                settled = (-slope / 2 < SETTLED * value).tolist()
                classifiers = map(LinearClassifier, *self._unrotated(weights))
                stuck |= torch.tensor([s and is_hopeless(c) for s, c in zip(settled, classifiers, strict=True)])
        else:
            end(torch.ones(len(active), dtype=torch.bool))
        return [ends[i] for i in range(len(iterations))], iterations

    def _step(
        self, weights: Tensor, value: Tensor, gradient: Tensor, direction: Tensor, penalty: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return weights, objective and gradient after a step that decreases it, and (S,) whether there was none.

        Where objectives differ by rounding only, their gradients decide (Hager & Zhang, SIAM J. Optim. 2005, eq. 4.2):
        the objective is convex, so it has decreased if it does not increase much at the end of the step.
        """
        slope = dot(gradient, direction).cpu().double()
        step = torch.ones(len(weights), dtype=torch.float64)
        moved = weights + direction
        new_value, new_gradient = self._evaluate(moved, penalty)
        rounding = self._rounding(value)
        for halving in range(MAX_HALVINGS + 1):
            new_slope = dot(new_gradient, direction).cpu().double()
            decreased = new_value <= value + SUFFICIENT_DECREASE * step * slope
            flat = (new_value <= value + rounding) & (new_slope <= (1 - 2 * SUFFICIENT_DECREASE) * -slope)
            failed = ~(decreased | flat)
            if not failed.any() or halving == MAX_HALVINGS:
                break
            step[failed] /= 2
            here = failed.to(self.device)
            moved[here] = weights[here] + step[failed].to(weights)[:, None, None] * direction[here]
            new_value[failed], new_gradient[here] = self._evaluate(moved[here], penalty[here])
        here = failed.to(self.device)
        moved[here], new_gradient[here] = weights[here], gradient[here]
        new_value[failed] = value[failed]
        return moved, new_value, new_gradient, failed

    def _rounding(self, value: Tensor) -> Tensor:
        """Return the differences of objectives (S,) up to which they are rounding."""
        return ROUNDING * torch.finfo(self.dtype).eps * value.abs()


def _principal_axes(centred: Tensor) -> Tensor:
    """Return (D, D) orthogonal axes, one a column, of centred samples (N, D)."""
    covariance = (centred.T @ centred / len(centred)).cpu().double()
    return torch.linalg.eigh(covariance)[1].to(centred.device, centred.dtype)


def _cross_entropy(logits: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Return the losses (B, S) of logits (B, S, C), and their derivatives (B, S, C): the softmax minus 1 for the label.

    Both keep their relative precision where a sample is fitted well: there 1 - p is rounding, but the sum of the other
    classes' shares is not.

    Args:
        index: (B, S, 1) int64 labels.
    """
    shares = logits.softmax(-1)
    total = logits.amax(-1, keepdim=True) - shares.amax(-1, keepdim=True).log()  # log of the sum of exponentials
    shares.scatter_(-1, index, 0)
    others = shares.sum(-1, keepdim=True)
    losses = torch.where(others < 0.5, -torch.log1p(-others.clamp_max(0.5)), total - logits.gather(-1, index))
    return losses[..., 0], shares.scatter_(-1, index, -others)


def _blocks(features: Tensor, width: int, dtype: torch.dtype, block_bytes: int) -> Iterator[tuple[int, int, Tensor]]:
    """Yield consecutive features in a type, of as many samples as have `width` scores in `block_bytes`."""
    step = max(1, block_bytes // (width * dtype.itemsize))
    for start in range(0, len(features), step):
        block = features[start : start + step].to(dtype)
        yield start, start + len(block), block
