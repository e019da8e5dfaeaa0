"""95 % intervals of mean and median ranks where resampling sees too little: few images, or all at one rank.

Where MANY images exist (of a mean rank: where so many are off the most common rank) both are the percentile
bootstrap's; below FEW they are what stands here, and between the two the bounds go from the one to the other, as in
`cosmos_eval.metrics.share_interval`.
"""

from collections.abc import Callable

import numpy as np

from cosmos_eval.metrics.share_interval import FEW, MANY, SAME, TAIL, mid_p

LEAST = 6
"""Fewer units than this cannot exclude any median at 95 %: all of them lie on one side of it with the chance
2 / 2 ** units."""


def mean_rank_interval(
    ranks: np.ndarray, unit: np.ndarray, chance: float, bootstrap: tuple[float, float]
) -> tuple[float, float, str]:
    """Low, high and method of a mean rank.

    Nothing that was seen bounds a rank. So a share of the units may be unlike those seen, as large as none among as
    many allows (the rule of three; Hanley & Lippman-Hand, JAMA 249, 1983), and be placed by chance, or first.

    Args:
        ranks: (N,) from 1.
        unit: (N,) integers, the independent unit (image) of each sample.
        chance: the mean rank of a model that knows nothing.
        bootstrap: the percentile interval.
    """
    value = float(ranks.mean())
    of_unit = _means(ranks, unit)
    _, alike = np.unique(np.round(of_unit / SAME) * SAME, return_counts=True)
    trusted = _ramp(len(of_unit) - alike.max())
    if trusted == 1:
        return *bootstrap, "bootstrap"
    share = 1 - TAIL ** (1 / len(of_unit))
    low, high = value - share * (value - 1), value + share * max(chance - value, 0.0)
    low, high = (
        _wider(side, ends, trusted) for side, ends in ((min, (bootstrap[0], low)), (max, (bootstrap[1], high)))
    )
    return min(low, value), max(high, value), "bootstrap, units unseen"


def median_rank_interval(
    ranks: np.ndarray, unit: np.ndarray, worst: float, bootstrap: tuple[float, float]
) -> tuple[float, float, str]:
    """Low, high and method of a median rank.

    The bounds are the samples' quantiles at the bounds of a share of one half (Woodruff, JASA 47, 1952), n the number
    of units: as wide as if all samples of a unit had one rank. Where all samples have the same rank the interval has no
    width, and needs none from LEAST units on: were the median another one, they would not all lie on one side of it.

    Args:
        ranks, unit: as in `mean_rank_interval`.
        worst: the last rank that there is.
        bootstrap: the percentile interval.
    """
    value = float(np.median(ranks))
    units = len(np.unique(unit))
    if units < LEAST:
        return 1.0, max(float(worst), value), "every rank"
    trusted = _ramp(units / 2)
    if trusted == 1:
        return *bootstrap, "bootstrap"
    low, high = (float(share) for share in mid_p(units / 2, units))
    low = _wider(min, (bootstrap[0], float(np.quantile(ranks, low, method="lower"))), trusted)
    high = _wider(max, (bootstrap[1], float(np.quantile(ranks, high, method="higher"))), trusted)
    return min(low, value), max(high, value), "order statistics"


def _ramp(count: float) -> float:
    return float(np.clip((count - FEW) / (MANY - FEW), 0.0, 1.0))


def _wider(side: Callable[[tuple[float, float]], float], ends: tuple[float, float], trusted: float) -> float:
    """From the wider of two bounds to the first one, the more that one is trusted."""
    return float(trusted * ends[0] + (1 - trusted) * side(ends))


def _means(values: np.ndarray, unit: np.ndarray) -> np.ndarray:
    _, unit = np.unique(unit, return_inverse=True)
    return np.bincount(unit, weights=values) / np.bincount(unit)
