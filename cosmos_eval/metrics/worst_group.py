"""The worst group: the smallest of the accuracies of groups of samples (Sagawa et al., ICLR 2020; WILDS)."""

from collections.abc import Sequence

import numpy as np


def worst_interval(lows: Sequence[float], highs: Sequence[float]) -> tuple[float, float]:
    """Bound the smallest of several rates by the bounds of each.

    Whichever group is truly the worst, its lower bound is below its rate in 97.5 of 100 cases, and then the smallest
    lower bound is, too; its upper bound is above its rate as often, and if the smallest upper bound is below the
    smallest rate, the bound of that group fails for a rate that is at least as large. A bootstrap of the minimum would
    be too low: the groups that are the worst by chance in a resample are the ones that were the worst by chance before.

    Args:
        lows: lower 95 % bound of each group.
        highs: upper bound of each group.

    Raises:
        ValueError: no groups, or numbers of bounds that differ.
    """
    if not len(lows) or len(lows) != len(highs):
        raise ValueError(f"needs as many lower as upper bounds, and one at least, got {len(lows)} and {len(highs)}")
    return float(np.min(lows)), float(np.min(highs))


def smallest_ratio(sums: np.ndarray) -> np.ndarray:
    """(R,) smallest of the ratios of G groups, from (R, 2 G) sums: those of the groups, numerators first.

    A group whose denominator is 0 is left out; 0 where all are.
    """
    numerator, denominator = np.split(sums, 2, axis=1)
    ratios = np.divide(numerator, denominator, out=np.full_like(numerator, np.inf), where=denominator > 0)
    smallest = ratios.min(1, initial=np.inf)
    return np.where(np.isfinite(smallest), smallest, 0.0)
