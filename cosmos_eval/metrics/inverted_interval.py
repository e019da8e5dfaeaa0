"""95 % intervals of lengths (norms), by inversion of a test.

A length of something that is measured with noise is too long: noise in any direction only adds to it, so that it is
above 0 even where the true one is 0. A resample adds noise to what has noise already, so the quantiles of the bootstrap
lie above the true length, and bounds mirrored at the value (the basic bootstrap) are too narrow near 0. The interval
here holds the true lengths with which a value like the one observed would not be extreme (Carpenter, J. R. Stat. Soc. B
61, 1999). The candidates are the observed vector times a factor from 0, with the noise of the bootstrap around it.
"""

from collections.abc import Callable

import numpy as np

from cosmos_eval.metrics.bootstrap import Interval
from cosmos_eval.metrics.proportion import TAIL

STEPS = 40
"""Halvings of the range in which a factor is sought."""
LARGEST = 2.0**20
"""A factor that is never needed, but for a length that is 0 up to rounding."""


def invert(length: float, resampled: Callable[[float], np.ndarray]) -> Interval:
    """Compute the interval of a length.

    Args:
        length: as observed.
        resampled: factor -> (R,) lengths of the observed vector times the factor, each with noise of the bootstrap.

    Returns:
        low, high, with the observed length between them.
    """
    low, high = (length * _find_factor(length, resampled, quantile) for quantile in (1 - TAIL, TAIL))
    return min(low, length), max(high, length)


def _find_factor(length: float, resampled: Callable[[float], np.ndarray], quantile: float) -> float:
    """The factor at which the length is this quantile of the resampled ones; 0 if it is a lower one for all factors."""

    def at(factor: float) -> float:
        return float(np.quantile(resampled(factor), quantile))

    if length == 0 or at(0.0) >= length:
        return 0.0
    low, high = 0.0, 1.0
    while at(high) < length and high < LARGEST:
        low, high = high, 2 * high
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle) < length else (low, middle)
    return (low + high) / 2
