"""The 95 % interval of the expected calibration error.

The error is a length (the sum of the absolute differences of the bins), which noise only makes longer: of a calibrated
model it is above 0, the more the fewer images there are (Roelofs et al., AISTATS 2022). The quantiles of the bootstrap
do not contain the true error then, and mirrored ones (Kumar et al., NeurIPS 2019) rarely: hence
`cosmos_eval.metrics.inverted_interval`. benchmarks/geometry_coverage.py measures how often each contains it.
"""

import numpy as np

from cosmos_eval.metrics.bootstrap import RESAMPLES, SEED, resample_sums
from cosmos_eval.metrics.calibration import BINS, number_bins, reliability
from cosmos_eval.metrics.inverted_interval import invert
from cosmos_eval.metrics.proportion import FEW, estimate_proportion, mid_p_bounds


def calibration_error_interval(
    confidence: np.ndarray,
    correct: np.ndarray,
    unit: np.ndarray,
    bins: int = BINS,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> tuple[float, float]:
    """Compute the interval of the expected calibration error in bins of equal width.

    Args:
        confidence, correct: (Q,) as for `cosmos_eval.metrics.calibration.reliability`.
        unit: (Q,) integers, the independent unit (image) of each query.
        bins: number of bins.
        resamples: number of bootstrap resamples.
        seed: of the bootstrap.

    Returns:
        low, high, with the observed error between them.
    """
    _, unit = np.unique(unit, return_inverse=True)
    units, queries = int(unit.max()) + 1, len(unit)
    difference = np.bincount(unit * bins + number_bins(confidence, bins), confidence - correct, units * bins)
    per_unit = difference.reshape(units, bins)
    observed = per_unit.sum(0) / queries  # (B,), whose absolute values add up to the error
    error = reliability(confidence, correct, bins).error
    residual = per_unit - np.bincount(unit)[:, None] * observed
    # resampled deviations are smaller than those of samples by this factor
    noise = resample_sums(residual, resamples, seed) / queries * np.sqrt(units / max(units - 1, 1))
    low, high = invert(error, lambda factor: np.abs(factor * observed + noise).sum(1))
    return _allow_for_unseen(low, high, confidence, correct, unit)


def _allow_for_unseen(
    low: float, high: float, confidence: np.ndarray, correct: np.ndarray, unit: np.ndarray
) -> tuple[float, float]:
    """Widen the interval where nearly all queries are right, or wrong: resamples then show no other ones.

    Without wrong (or right) queries all that is known is the difference of the mean confidence and the accuracy, which
    the error is at least: the bounds are at least as wide as those that mid-p bounds of the accuracy give, the less so
    the more there are, up to FEW.
    """
    accuracy = estimate_proportion(correct, unit)
    share = max(0.0, 1 - accuracy.rarer_count / FEW)
    lowest = float(mid_p_bounds(accuracy.value * accuracy.n_low, accuracy.n_low)[0])
    highest = float(mid_p_bounds(accuracy.value * accuracy.n_high, accuracy.n_high)[1])
    mean = float(confidence.mean())
    nearest = max(0.0, mean - highest, lowest - mean)
    farthest = max(abs(mean - lowest), abs(mean - highest))
    return low - share * max(0.0, low - nearest), min(1.0, high + share * max(0.0, farthest - high))
