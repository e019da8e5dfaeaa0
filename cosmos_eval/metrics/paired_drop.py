"""Paired test of a drop of a weighted mean: is the metric of a candidate lower by more than `max_drop`?

Both models were measured on the same samples, so the test works on differences (baseline minus candidate), summed over
the samples of each independent unit (the image).

What is guaranteed: if the true drop is at most `max_drop`, the test rejects with a probability of at most its level.
This must also hold for few units, units of unequal size, fractional outcomes (ties), rare failures, and a true drop of
exactly `max_drop`. The usual tests do not give that:

- Flipping signs at random assumes that differences are symmetric under the null hypothesis. With a positive `max_drop`
  they are not: of a drop of exactly 1 point most images lose nothing and one in a hundred loses everything.
- A t-test or a studentised bootstrap corrects for skewness only with many units. Where the rare wins or losses were not
  sampled, the estimated variance is too small or zero.

The method is Gaffke's test of the mean of a bounded variable ("Three test statistics for a nonparametric one-sided
hypothesis on the mean of a nonnegative variable", Math. Meth. Stat. 14, 2005; as a confidence bound: Learned-Miller &
Thomas, arXiv 1905.06208, 2019), written as a Bayesian bootstrap (Rubin, Ann. Stat. 9, 1981):

1. Every unit gets a random weight from the exponential distribution.
2. One unit is added that was not sampled and speaks most against a drop: it is as large as the largest unit, and in it
   the baseline has everything wrong and the candidate everything right. It stands for what a finite sample missed.
3. p is the probability that the weighted sum of (difference - `max_drop` * size) over all these units is at most zero.
   It is computed exactly (`exponential_sums`), not drawn.

For independent samples with outcomes 0 and 1 and `max_drop` = 0, this p-value is that of McNemar's exact test.

That the level is kept for every distribution of bounded differences is a conjecture of Gaffke's. No counterexample is
known; benchmarks/studies/regress_calibration.py searches for one.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from cosmos_eval.metrics.exponential_sums import probability_at_most_zero

TOLERANCE = 1e-12
"""Differences closer than this are equal: the same numbers, added in another order, differ by rounding."""


@dataclass(frozen=True)
class PairedDifferences:
    """Differences between two models in a weighted mean of outcomes in [0, 1], summed by unit; (U,) float64 each."""

    unit_drops: np.ndarray
    """Weight times (baseline - candidate), summed over the samples of each unit. Adds up to the drop of the metric."""
    unit_weights: np.ndarray
    """Weight of each unit in the metric, positive. Adds up to 1."""
    is_binary: bool
    """Whether every unit is one sample, all samples weigh the same, and all outcomes are 0 or 1: then McNemar's test
    applies."""

    @property
    def drop(self) -> float:
        """Metric of the baseline minus that of the candidate; a fraction."""
        return float(self.unit_drops.sum())

    def swapped(self) -> "PairedDifferences":
        """Return the differences with baseline and candidate swapped, for a test of a gain."""
        return PairedDifferences(-self.unit_drops, self.unit_weights, self.is_binary)


def sum_differences(
    baseline: np.ndarray, candidate: np.ndarray, unit: np.ndarray, weights: np.ndarray | None = None
) -> PairedDifferences:
    """Sum the differences between two models by unit.

    Args:
        baseline: (N,) outcomes in [0, 1] of the baseline.
        candidate: (N,) outcomes in [0, 1] of the candidate, for the same samples.
        unit: (N,) int64 unit of each sample; numbers that do not occur are not units.
        weights: (N,) weight of each sample in the metric, not negative; None: equal weights. Weights must not depend on
            the models. For a mean over classes: `mean_per_class_weights`.

    Returns:
        The differences of the units whose weight is positive.

    Raises:
        ValueError: no samples, lengths differ, or an outcome outside [0, 1].
    """
    n = len(baseline)
    if not n or not len(candidate) == len(unit) == n:
        raise ValueError(
            "baseline, candidate and unit must have one length and at least one sample, got "
            f"{n}, {len(candidate)} and {len(unit)}"
        )
    outcomes = np.stack([baseline, candidate]).astype(np.float64)
    if not ((outcomes >= -TOLERANCE) & (outcomes <= 1 + TOLERANCE)).all():
        raise ValueError("outcomes must be in [0, 1]")
    outcomes = outcomes.clip(0, 1)
    weights = np.full(n, 1.0) if weights is None else np.asarray(weights, np.float64)
    total = weights.sum()
    unit_drops = np.bincount(unit, weights=weights * (outcomes[0] - outcomes[1])) / total
    unit_weights = np.bincount(unit, weights=weights) / total
    has_weight = unit_weights > 0
    sample_counts = np.bincount(unit)[has_weight]
    unit_drops, unit_weights = unit_drops[has_weight], unit_weights[has_weight]
    one_sample_each = (sample_counts == 1).all() and np.ptp(unit_weights) < TOLERANCE
    is_binary = bool(one_sample_each and np.isin(outcomes, (0.0, 1.0)).all())
    return PairedDifferences(unit_drops, unit_weights, is_binary)


def mean_per_class_weights(classes: np.ndarray) -> np.ndarray:
    """Compute the weight of each sample in an unweighted mean over classes.

    Args:
        classes: (N,) int64 class of each sample.

    Returns:
        (N,) float64, 1 / (number of classes that occur * number of samples of the class); adds up to 1.
    """
    counts = np.bincount(classes)
    return 1.0 / (counts[classes] * np.count_nonzero(counts))


def drop_p_value(differences: PairedDifferences, max_drop: float = 0.0) -> float:
    """Compute the p-value of the null hypothesis "the true drop is at most `max_drop`".

    Args:
        differences: between the two models, summed by unit.
        max_drop: a fraction, from -1 to 1.

    Returns:
        A probability; small values speak for a larger drop. With U units of equal size it is at least 2 ** -U for
        `max_drop` = 0, reached where every unit loses everything.
    """
    if differences.is_binary and max_drop == 0:
        return mcnemar(int((differences.unit_drops > 0).sum()), int((differences.unit_drops < 0).sum()))
    # Units of equal excess share a term of the exponential sum: of thousands of images most have one of few values.
    rounded = np.round((differences.unit_drops - max_drop * differences.unit_weights) / TOLERANCE) * TOLERANCE
    excess, unit_counts = np.unique(rounded, return_counts=True)
    unseen = -(1 + max_drop) * differences.unit_weights.max()
    return float(probability_at_most_zero(np.append(excess, unseen), np.append(unit_counts, 1.0)))


def mcnemar(losses: int, wins: int) -> float:
    """Compute McNemar's exact one-sided p-value (McNemar, Psychometrika 12, 1947): a binomial test of the changes.

    Args:
        losses: number of samples that only the baseline has right.
        wins: number of samples that only the candidate has right.

    Returns:
        The probability of at least `losses` losses among losses + wins changes, each a loss with probability 1/2.
    """
    n = losses + wins
    if losses <= 0:
        return 1.0
    k, log = np.arange(losses, n + 1), log_factorials(n)
    return float(min(1.0, np.exp(log[n] - log[k] - log[n - k] - n * math.log(2)).sum()))


@lru_cache(maxsize=4)
def _log_factorials(size: int) -> np.ndarray:
    """(size,) log(k!) for k from 0."""
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, size)))])


def log_factorials(n: int) -> np.ndarray:
    """Return log(k!) for k from 0 to at least n; the size is a power of two, so that few tables are computed."""
    return _log_factorials(1 << (n + 1).bit_length())


def drop_interval(differences: PairedDifferences, confidence: float = 0.95) -> tuple[float, float]:
    """Compute the confidence interval of the drop by inverting the test.

    Args:
        differences: between the two models, summed by unit.
        confidence: each side is missed with probability (1 - `confidence`) / 2 at most.

    Returns:
        (low, high), fractions: all drops that neither the test of a drop nor the test with swapped models rejects.
    """
    tail = (1 - confidence) / 2
    gains = differences.swapped()
    return (
        find_largest_rejected(lambda max_drop: drop_p_value(differences, max_drop), tail, differences.drop),
        -find_largest_rejected(lambda max_drop: drop_p_value(gains, max_drop), tail, gains.drop),
    )


def find_largest_rejected(p_at: Callable[[float], float], level: float, upper: float) -> float:
    """Find the largest `max_drop` that a test rejects, by bisection.

    Args:
        p_at: `max_drop` -> p-value, rising.
        level: the test rejects where the p-value is at most this.
        upper: end of the search.

    Returns:
        The largest rejected value in [-1, `upper`] to 1e-7; -1 where none is rejected.
    """
    low, high = -1.0, upper
    if p_at(high) <= level:
        return high
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if p_at(middle) <= level else (low, middle)
        if high - low < 1e-7:
            break
    return low


def holm(p: Sequence[float]) -> list[float]:
    """Adjust p-values for multiple testing (Holm, Scand. J. Stat. 6, 1979).

    Args:
        p: p-values of all tests.

    Returns:
        Adjusted p-values in the same order. Rejecting those at most alpha keeps the probability of any false rejection
        at most alpha, however the tests depend on each other.
    """
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    highest = 0.0
    for position, i in enumerate(order):
        # Never below the adjusted value of a smaller p-value: rejecting stops at the first test that does not reject.
        highest = max(highest, min(1.0, (len(p) - position) * p[i]))
        adjusted[i] = highest
    return adjusted.tolist()
