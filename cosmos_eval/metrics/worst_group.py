"""The worst group: the smallest of the accuracies of groups of samples (Sagawa et al., ICLR 2020; WILDS)."""

from collections.abc import Sequence

import numpy as np

from cosmos_eval.metrics.proportion import TAIL, ProportionEstimate, mid_p_bounds


def worst_interval(estimates: Sequence[ProportionEstimate], lows: Sequence[float]) -> tuple[float, float]:
    """Bound the smallest of the true rates of G groups, with 95 % confidence.

    Whichever group is truly the worst, its lower bound is below its rate in 97.5 of 100 cases, and then the smallest
    lower bound is, too. The smallest upper bound is below the smallest rate only if the bound of some group fails, so
    each is a mid-p bound with 1/G of the probability (Bonferroni). A bootstrap of the minimum would be too low: the
    groups that are the worst by chance in a resample are the ones that were the worst by chance before.

    Args:
        estimates: of each group.
        lows: lower 95 % bound of each group.

    Raises:
        ValueError: no groups, or numbers of bounds that differ.
    """
    if not len(estimates) or len(lows) != len(estimates):
        raise ValueError(f"needs a lower bound for each group, and one at least, got {len(estimates)} and {len(lows)}")
    value, n = (np.array([getattr(estimate, field) for estimate in estimates]) for field in ("value", "n_high"))
    return float(np.min(lows)), float(mid_p_bounds(value * n, n, TAIL / len(estimates))[1].min())


def smallest_ratio(sums: np.ndarray) -> np.ndarray:
    """(R,) smallest of the ratios of G groups, from (R, 2 G) sums: those of the groups, numerators first.

    A group whose denominator is 0 is left out; 0 where all are.
    """
    numerator, denominator = np.split(sums, 2, axis=1)
    ratios = np.divide(numerator, denominator, out=np.full_like(numerator, np.inf), where=denominator > 0)
    smallest = ratios.min(1, initial=np.inf)
    return np.where(np.isfinite(smallest), smallest, 0.0)
