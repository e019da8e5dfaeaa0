"""Intervals of a row, and of paired differences of two rows, from a few seeds and the same test samples.

There are two sources of variation, each with its own interval. Training with other seeds gives other results: a
t-interval over seeds. So does testing on other images: the percentile bootstrap over images, with the trainings fixed.
A difference is called clear only if both intervals exclude zero.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cosmos_eval.metrics.bootstrap import Estimator, bootstrap_intervals, mean_estimator, mean_per_class_estimator


@dataclass(frozen=True)
class Outcomes:
    """The outcome of every test sample in every seed, for one metric of one row."""

    values: np.ndarray
    """(S, N): 1 for a hit, 0 for a miss, a fraction for a tie."""
    unit: np.ndarray
    """(N,) the image of each sample, which is the independent unit."""
    classes: np.ndarray | None = None
    """(N,) the subset of each sample, if the metric is a mean over subsets."""

    def per_seed(self) -> list[float]:
        """Return (S,) the metric in each seed."""
        return [self.metric(values) for values in self.values]

    def metric(self, values: np.ndarray) -> float:
        return float(self.estimator(values)(np.ones(self.images)))

    @property
    def images(self) -> int:
        return int(self.unit.max()) + 1

    def estimator(self, values: np.ndarray) -> Estimator:
        if self.classes is None:
            return mean_estimator(values, self.unit, self.images)
        return mean_per_class_estimator(values, self.classes, self.unit)

    def minus(self, other: "Outcomes") -> "Outcomes":
        """Return the differences of samples and seeds.

        Raises:
            ValueError: the two do not have the same samples.
        """
        is_same = self.values.shape == other.values.shape and np.array_equal(self.unit, other.unit)
        if self.classes is None or other.classes is None:
            is_same &= self.classes is other.classes
        else:
            is_same &= np.array_equal(self.classes, other.classes)
        if not is_same:
            raise ValueError(f"not the same samples: {self.values.shape} and {other.values.shape}")
        return Outcomes(self.values - other.values, self.unit, self.classes)


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its intervals; the interval over seeds is NaN for a single seed."""

    mean: float
    seeds: tuple[float, ...]
    seed_low: float
    seed_high: float
    image_low: float
    image_high: float

    @property
    def clear(self) -> bool:
        """For a difference: whether both intervals exclude zero, on the same side."""
        above = self.seed_low > 0 and self.image_low > 0
        return above or (self.seed_high < 0 and self.image_high < 0)


def estimate(outcomes: Outcomes, seed: int = 0) -> Estimate:
    """Return the mean over seeds with both intervals."""
    per_seed = outcomes.per_seed()
    # every metric here is linear in its samples, so the mean of a metric over seeds is the metric of the mean outcome
    ((low, high),) = bootstrap_intervals([outcomes.estimator(outcomes.values.mean(axis=0))], outcomes.images, seed=seed)
    return Estimate(statistics.fmean(per_seed), tuple(per_seed), *over_seeds(per_seed), low, high)


def over_seeds(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % t-interval of the mean of independent values (Student 1908); NaN for fewer than two values."""
    n = len(values)
    if n < 2:
        return math.nan, math.nan
    half = t_quantile(n - 1) * statistics.stdev(values) / math.sqrt(n)
    mean = statistics.fmean(values)
    return mean - half, mean + half


def t_quantile(freedom: int, probability: float = 0.975) -> float:
    """Return a quantile of Student's t distribution, by bisection of the integral of its density (Simpson's rule)."""
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)
    low, high = 0.0, 1e3
    for _ in range(60):
        middle = (low + high) / 2
        # with x = sqrt(f) tan(a), the density becomes cos(a)^(f - 1), which is smooth on a short range
        angle = np.linspace(0, math.atan(middle / math.sqrt(freedom)), 2001)
        height = np.cos(angle) ** (freedom - 1)
        weight = np.where(np.arange(2001) % 2, 4.0, 2.0)
        weight[[0, -1]] = 1
        area = scale * math.sqrt(freedom) * float((height * weight).sum()) * angle[1] / 3
        low, high = (middle, high) if area < probability - 0.5 else (low, middle)
    return (low + high) / 2
