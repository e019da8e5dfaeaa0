"""95 % intervals by the percentile bootstrap (Efron & Tibshirani, 1993, chapter 13), resampling independent units.

The unit is the image. Captions of one image succeed and fail together, so that resampling captions would make the
interval too narrow; a resample draws images and takes all their captions along.
"""

from collections.abc import Callable, Sequence

import numpy as np

RESAMPLES = 1000
SEED = 0

Estimator = Callable[[np.ndarray], float]
"""From how often each unit was drawn, (U,) float64, to the metric of that resample; NaN where it drew no sample."""


def mean_of(values: np.ndarray, unit: np.ndarray, units: int) -> Estimator:
    """Mean of (N,) `values`; sample i belongs to unit `unit[i]`."""
    sums = np.bincount(unit, weights=values, minlength=units)
    counts = np.bincount(unit, minlength=units).astype(np.float64)
    # The samples of a small part belong to few units; the others add zeros to both sums, in each of the resamples.
    own = np.flatnonzero(counts)
    few = 2 * len(own) < units
    if few:
        sums, counts = sums[own], counts[own]

    def estimate(drawn: np.ndarray) -> float:
        drawn = drawn[own] if few else drawn
        # Not `drawn @ sums`: a threaded product adds up in an order that depends on the number of threads.
        n = (drawn * counts).sum()
        return float((drawn * sums).sum() / n) if n else np.nan

    return estimate


def median_of(values: np.ndarray, unit: np.ndarray) -> Estimator:
    """Median of (N,) `values`, the mean of the two middle ones where their number is even."""
    order = np.argsort(values, kind="stable")
    ordered, owner = np.asarray(values, np.float64)[order], np.asarray(unit)[order]

    def estimate(drawn: np.ndarray) -> float:
        upto = np.cumsum(drawn[owner])
        total = int(upto[-1])
        if total == 0:
            return np.nan
        low, high = np.searchsorted(upto, [(total - 1) // 2, total // 2], side="right")
        return float((ordered[low] + ordered[high]) / 2)

    return estimate


def mean_per_class_of(values: np.ndarray, labels: np.ndarray, unit: np.ndarray) -> Estimator:
    """Unweighted mean over classes of the mean of (N,) `values` inside each class.

    A class that a resample misses is left out of that resample's mean: with one image a class, as in small sets,
    holding the classes fixed would give an interval without width.
    """
    classes = int(labels.max()) + 1

    def estimate(drawn: np.ndarray) -> float:
        weight = drawn[unit]
        counts = np.bincount(labels, weights=weight, minlength=classes)
        sums = np.bincount(labels, weights=weight * values, minlength=classes)
        present = counts > 0
        return float((sums[present] / counts[present]).mean()) if present.any() else np.nan

    return estimate


def intervals(
    estimators: Sequence[Estimator], units: int, resamples: int = RESAMPLES, seed: int = SEED
) -> list[tuple[float, float]]:
    """The 2.5 % and 97.5 % quantiles of each estimator over resamples of `units` units, the same draws for all.

    Deterministic for a seed. Memory is one resample. A resample without any sample of a metric (a small subset) is left
    out of that metric's quantiles.

    Raises:
        ValueError: no units, or fewer than two resamples.
    """
    if units < 1 or resamples < 2:
        raise ValueError(f"need at least 1 unit and 2 resamples, got {units} and {resamples}")
    rng = np.random.default_rng(seed)
    found = np.empty((resamples, len(estimators)))
    for r in range(resamples):
        drawn = np.bincount(rng.integers(0, units, size=units), minlength=units).astype(np.float64)
        found[r] = [estimate(drawn) for estimate in estimators]
    low, high = np.nanquantile(found, [0.025, 0.975], axis=0)
    return list(zip(low.tolist(), high.tolist(), strict=True))
