"""Search for a distribution for which the test of `regress` raises too many false alarms: exact, without simulation.

With few units and few possible values of a unit, all outcomes can be enumerated. For a distribution whose mean is
exactly `max_drop`, the probability of each outcome is multinomial, so the probability of p <= a is known for every a.
For a test that keeps its level, it is at most a. Distributions are drawn at random, including extreme ones.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations_with_replacement

import numpy as np

from cosmos_eval.metrics.exponential_sums import probability_at_most_zero
from cosmos_eval.metrics.paired_drop import log_factorials

UNITS = (3, 4, 6, 9, 14)
VALUES = (2, 3, 4)
MAX_DROPS = (0.0, 0.02, 0.1)
EACH = 200
"""Distributions for each set of values."""
LARGEST = 0.25
"""The largest level that is checked. At level 1, every test keeps its level."""


@dataclass(frozen=True)
class SearchResult:
    """The largest false alarm rate that a search has found."""

    distributions: int
    worst: float
    """The largest ratio of a false alarm rate and its level; above 1, the test does not keep its level."""
    level: float
    """The level and the number of units with the largest ratio."""
    units: int

    @property
    def holds(self) -> bool:
        """Whether the test keeps its level, up to rounding: the exact binomial test meets some levels exactly."""
        return self.worst <= 1 + 1e-9


def search(rounds: int, seed: int = 0) -> SearchResult:
    """Try `EACH` distributions in each round."""
    rng = np.random.default_rng(seed)
    worst, level, worst_units, count = 0.0, 1.0, 0, 0
    for _ in range(rounds):
        units, number, max_drop = int(rng.choice(UNITS)), int(rng.choice(VALUES)), float(rng.choice(MAX_DROPS))
        values = np.sort(rng.uniform(-1, 1, number))
        values[0] = -1.0 if rng.random() < 0.5 else values[0]
        values[-1] = 1.0 if rng.random() < 0.3 else values[-1]
        excess = values - max_drop
        if not excess[0] < 0 < excess[-1]:
            continue
        outcomes = all_outcomes(units, number)
        p, order, last = levels(excess, max_drop, outcomes)
        for _ in range(EACH):
            probability = probabilities(outcomes, mean_zero(excess, rng))
            ratio = np.cumsum(probability[order])[last] / p
            count += 1
            if len(ratio) and ratio.max() > worst:
                worst, level, worst_units = float(ratio.max()), float(p[ratio.argmax()]), units
    return SearchResult(count, worst, level, worst_units)


@lru_cache
def all_outcomes(units: int, number: int) -> np.ndarray:
    """Return (O, number) how many units have each value, for all outcomes."""
    outcomes = combinations_with_replacement(range(number), units)
    return np.array([np.bincount(outcome, minlength=number) for outcome in outcomes])


def levels(excess: np.ndarray, max_drop: float, outcomes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the values of p up to LARGEST, the order of outcomes by p, and the last outcome of each value."""
    values = np.append(excess, -(1 + max_drop))  # the last value is the unseen unit
    times = np.column_stack([outcomes, np.ones(len(outcomes))])
    p = probability_at_most_zero(np.tile(values, (len(outcomes), 1)), times)
    order = np.argsort(p)
    last = np.flatnonzero(np.append(np.diff(p[order]) > 1e-12, True))
    last = last[p[order][last] <= LARGEST]
    return p[order][last], order, last


def mean_zero(excess: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a distribution on these values with mean zero: a mixture of pairs, some with very small weights."""
    probability = np.zeros(len(excess))
    for low in np.flatnonzero(excess < 0):
        for high in np.flatnonzero(excess > 0):
            weight, width = rng.exponential() ** 3, excess[high] - excess[low]
            probability[low] += weight * excess[high] / width
            probability[high] -= weight * excess[low] / width
    return probability / probability.sum()


def probabilities(outcomes: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Return (O,) the multinomial probability of each outcome."""
    log = log_factorials(int(outcomes[0].sum()))
    coefficients = np.exp(log[outcomes[0].sum()] - log[outcomes].sum(1))
    return coefficients * np.prod(probability**outcomes, axis=1)
