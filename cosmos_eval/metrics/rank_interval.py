"""95 % intervals of mean and median ranks where the bootstrap sees too little: few images, or nearly all at one rank.

With many images both intervals are those of the percentile bootstrap. With few they are the ones defined here, and in
between the bounds move from the one to the other in proportion (FEW and MANY of `cosmos_eval.metrics.proportion`).
What counts is, for a mean rank, the number of images off the most common rank: if all images have rank 1, every
resample has mean rank 1, and the bootstrap interval has width zero.
"""

from collections.abc import Callable

import numpy as np

from cosmos_eval.metrics.proportion import FEW, MANY, TAIL, TOLERANCE, mid_p_bounds

LEAST_UNITS = 6
"""Smallest number of units with which any median can be excluded at 95 %: all units are on one side of the true median
with probability 2 / 2 ** units, which is below 0.05 from 6 units on."""


def mean_rank_interval(
    ranks: np.ndarray, unit: np.ndarray, chance: float, bootstrap: tuple[float, float]
) -> tuple[float, float, str]:
    """Compute the interval of a mean rank.

    A rank has no useful upper bound, and a rank that was not sampled may be large. So the interval allows for unseen
    units: their proportion may be as large as that of an event which did not occur in so many units (the rule of three;
    Hanley & Lippman-Hand, JAMA 249, 1983), and they may rank as by chance (upper bound) or first (lower bound).

    Args:
        ranks: (N,) ranks of the samples, from 1.
        unit: (N,) integers, the independent unit (image) of each sample.
        chance: mean rank of a model that ranks at random.
        bootstrap: (low, high) of the percentile bootstrap.

    Returns:
        low, high, and the name of the method as results record it.
    """
    value = float(ranks.mean())
    unit_ranks = _mean_per_unit(ranks, unit)
    _, counts = np.unique(np.round(unit_ranks / TOLERANCE) * TOLERANCE, return_counts=True)
    weight = _bootstrap_weight(len(unit_ranks) - counts.max())
    if weight == 1:
        return *bootstrap, "bootstrap"
    unseen = 1 - TAIL ** (1 / len(unit_ranks))
    low = value - unseen * (value - 1)
    high = value + unseen * max(chance - value, 0.0)
    low = _mix_bounds(min, bootstrap[0], low, weight)
    high = _mix_bounds(max, bootstrap[1], high, weight)
    return min(low, value), max(high, value), "bootstrap, units unseen"


def median_rank_interval(
    ranks: np.ndarray, unit: np.ndarray, worst: float, bootstrap: tuple[float, float]
) -> tuple[float, float, str]:
    """Compute the interval of a median rank.

    The bounds are quantiles of the samples, at the bounds of a proportion of one half (Woodruff, JASA 47, 1952). Its n
    is the number of units, not of samples: this assumes that all samples of a unit have the same rank, which makes the
    interval wider rather than too narrow. If all samples have one rank, the interval has width zero. From LEAST_UNITS
    units on that is right: with another median they would not all be on one side of it.

    Args:
        ranks: (N,) ranks of the samples, from 1.
        unit: (N,) integers, the independent unit (image) of each sample.
        worst: the last possible rank.
        bootstrap: (low, high) of the percentile bootstrap.

    Returns:
        low, high, and the name of the method as results record it.
    """
    value = float(np.median(ranks))
    units = len(np.unique(unit))
    if units < LEAST_UNITS:
        return 1.0, max(float(worst), value), "every rank"
    weight = _bootstrap_weight(units / 2)
    if weight == 1:
        return *bootstrap, "bootstrap"
    low_quantile, high_quantile = (float(bound) for bound in mid_p_bounds(units / 2, units))
    low = _mix_bounds(min, bootstrap[0], float(np.quantile(ranks, low_quantile, method="lower")), weight)
    high = _mix_bounds(max, bootstrap[1], float(np.quantile(ranks, high_quantile, method="higher")), weight)
    return min(low, value), max(high, value), "order statistics"


def _bootstrap_weight(count: float) -> float:
    """Weight of the bootstrap in [0, 1], rising from FEW to MANY units."""
    return float(np.clip((count - FEW) / (MANY - FEW), 0.0, 1.0))


def _mix_bounds(wider: Callable[[tuple[float, float]], float], bootstrap: float, other: float, weight: float) -> float:
    """Mix a bound of the bootstrap, by its weight, with the wider one of both bounds.

    `wider` is `min` for lower and `max` for upper bounds.
    """
    return float(weight * bootstrap + (1 - weight) * wider((bootstrap, other)))


def _mean_per_unit(values: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """(U,) mean of the values of each unit."""
    _, unit = np.unique(unit, return_inverse=True)
    return np.bincount(unit, weights=values) / np.bincount(unit)
