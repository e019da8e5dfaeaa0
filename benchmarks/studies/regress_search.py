"""A search for a distribution at which the test of `regress` raises too many false alarms: exact, nothing simulated.

With few units and a handful of values that a unit can take, every outcome can be written out. For a distribution whose
mean is exactly `max_drop`, the chance of each outcome is a multinomial, and so the chance of p <= a is known for every
a. A test that keeps its level has it at most a. Distributions are drawn at random, extreme ones among them.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations_with_replacement

import numpy as np

from cosmos_eval.metrics.exponential_sums import chance_not_above_zero
from cosmos_eval.metrics.paired import log_factorials

UNITS = (3, 4, 6, 9, 14)
VALUES = (2, 3, 4)
MAX_DROPS = (0.0, 0.02, 0.1)
EACH = 200
"""Distributions on every set of values."""
LARGEST = 0.25
"""Levels up to this one count; at 1 every test has its level."""


@dataclass(frozen=True)
class Found:
    """What a search has seen."""

    distributions: int
    worst: float
    """The largest ratio of a false alarm rate and its level; above 1 the test does not keep it."""
    level: float
    """At which that was."""
    units: int

    @property
    def holds(self) -> bool:
        """Up to rounding: the exact binomial test has levels that it meets exactly."""
        return self.worst <= 1 + 1e-9


def search(rounds: int, seed: int = 0) -> Found:
    """Try `EACH` distributions in each of some rounds."""
    rng = np.random.default_rng(seed)
    worst, level, at_units, seen = 0.0, 1.0, 0, 0
    for _ in range(rounds):
        units, number, max_drop = int(rng.choice(UNITS)), int(rng.choice(VALUES)), float(rng.choice(MAX_DROPS))
        values = np.sort(rng.uniform(-1, 1, number))
        values[0] = -1.0 if rng.random() < 0.5 else values[0]
        values[-1] = 1.0 if rng.random() < 0.3 else values[-1]
        excess = values - max_drop
        if not excess[0] < 0 < excess[-1]:
            continue
        outcomes = every_outcome(units, number)
        p, order, last = levels(excess, max_drop, outcomes)
        for _ in range(EACH):
            chance = chances(outcomes, mean_zero(excess, rng))
            rate = np.cumsum(chance[order])[last] / p
            seen += 1
            if len(rate) and rate.max() > worst:
                worst, level, at_units = float(rate.max()), float(p[rate.argmax()]), units
    return Found(seen, worst, level, at_units)


@lru_cache
def every_outcome(units: int, number: int) -> np.ndarray:
    """(O, number) how many units take each value."""
    ways = combinations_with_replacement(range(number), units)
    return np.array([np.bincount(way, minlength=number) for way in ways])


def levels(excess: np.ndarray, max_drop: float, outcomes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The levels that p can take up to LARGEST, the order of outcomes by p, and the last outcome of each level."""
    values = np.append(excess, -(1 + max_drop))
    times = np.column_stack([outcomes, np.ones(len(outcomes))])
    p = chance_not_above_zero(np.tile(values, (len(outcomes), 1)), times)
    order = np.argsort(p)
    last = np.flatnonzero(np.append(np.diff(p[order]) > 1e-12, True))
    last = last[p[order][last] <= LARGEST]
    return p[order][last], order, last


def mean_zero(excess: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random distribution on these values with mean zero: a mixture of pairs, some of which hardly ever occur."""
    chance = np.zeros(len(excess))
    for low in np.flatnonzero(excess < 0):
        for high in np.flatnonzero(excess > 0):
            weight, width = rng.exponential() ** 3, excess[high] - excess[low]
            chance[low] += weight * excess[high] / width
            chance[high] -= weight * excess[low] / width
    return chance / chance.sum()


def chances(outcomes: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """(O,) multinomial."""
    log = log_factorials(int(outcomes[0].sum()))
    ways = np.exp(log[outcomes[0].sum()] - log[outcomes].sum(1))
    return ways * np.prod(chance**outcomes, axis=1)
