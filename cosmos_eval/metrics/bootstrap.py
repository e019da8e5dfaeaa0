"""95 % intervals by the percentile bootstrap (Efron & Tibshirani, 1993, chapter 13) over independent units.

The unit is the image. The captions of one image succeed and fail together, so resampling captions as if they were
independent would make the interval too narrow. A resample draws images with replacement and takes all captions of each
image along, as often as the image was drawn.

A metric takes part as an `Estimator`: a function from the number of times that each unit was drawn to the value of the
metric in that resample. The data never move; only these numbers change.
"""

from collections.abc import Callable, Sequence

import numpy as np

from cosmos_eval.progress import current_reporter, report_if_slow

RESAMPLES = 1000
SEED = 0
BLOCK_BYTES = 32 * 2**20
"""Memory for the resamples that are drawn at a time."""

Interval = tuple[float, float]
"""Low and high bound."""
Estimator = Callable[[np.ndarray], float]
"""(U,) float64, how often each unit was drawn -> the metric of that resample; NaN where it has no samples."""


def mean_estimator(values: np.ndarray, unit: np.ndarray, units: int) -> Estimator:
    """Build the estimator of a mean over samples.

    Args:
        values: (N,) value of each sample.
        unit: (N,) integers from 0 to `units` - 1, the unit of each sample.
        units: number of units U; a unit may have no samples.

    Returns:
        The estimator.
    """
    sums = np.bincount(unit, weights=values, minlength=units)
    counts = np.bincount(unit, minlength=units).astype(np.float64)
    # The samples of a small subset belong to few of the units. The other units would add zeros to both sums in each
    # resample, so they are dropped where that saves more than the indexing costs.
    used_units = np.flatnonzero(counts)
    is_small_subset = 2 * len(used_units) < units
    if is_small_subset:
        sums, counts = sums[used_units], counts[used_units]

    def estimate(drawn: np.ndarray) -> float:
        drawn = drawn[used_units] if is_small_subset else drawn
        # Not `drawn @ sums`: BLAS adds up in an order that depends on the number of threads, and so would the interval.
        n = (drawn * counts).sum()
        return float((drawn * sums).sum() / n) if n else np.nan

    return estimate


def median_estimator(values: np.ndarray, unit: np.ndarray) -> Estimator:
    """Build the estimator of a median over samples; of an even number of samples the mean of the two middle ones.

    Values are sorted once. A resample repeats each sorted value as often as its unit was drawn, and the cumulative sum
    of these numbers tells where the middle is, without a sort per resample.

    Args:
        values: (N,) value of each sample.
        unit: (N,) integers from 0, the unit of each sample.

    Returns:
        The estimator.
    """
    order = np.argsort(values, kind="stable")
    sorted_values, sorted_unit = np.asarray(values, np.float64)[order], np.asarray(unit)[order]

    def estimate(drawn: np.ndarray) -> float:
        end_positions = np.cumsum(drawn[sorted_unit])
        total = int(end_positions[-1])
        if total == 0:
            return np.nan
        low, high = np.searchsorted(end_positions, [(total - 1) // 2, total // 2], side="right")
        return float((sorted_values[low] + sorted_values[high]) / 2)

    return estimate


def mean_per_class_estimator(values: np.ndarray, labels: np.ndarray, unit: np.ndarray) -> Estimator:
    """Build the estimator of an unweighted mean over classes of the mean value inside each class.

    A class without samples in a resample is left out of that resample's mean. Resampling inside each class instead
    would keep every class, but in a small set with one image per class it would give an interval of width zero.

    Args:
        values: (N,) value of each sample.
        labels: (N,) integers from 0, the class of each sample.
        unit: (N,) integers from 0, the unit of each sample.

    Returns:
        The estimator.
    """
    classes = int(labels.max()) + 1

    def estimate(drawn: np.ndarray) -> float:
        weights = drawn[unit]
        counts = np.bincount(labels, weights=weights, minlength=classes)
        sums = np.bincount(labels, weights=weights * values, minlength=classes)
        present = counts > 0
        return float((sums[present] / counts[present]).mean()) if present.any() else np.nan

    return estimate


def bootstrap_intervals(
    estimators: Sequence[Estimator], units: int, resamples: int = RESAMPLES, seed: int = SEED
) -> list[tuple[float, float]]:
    """Compute the 2.5 % and 97.5 % quantiles of each estimator over resamples of the units.

    All estimators see the same resamples, and a seed always gives the same ones, so an interval does not depend on
    which other metrics are computed with it. Resamples are drawn one at a time, to keep memory at one of them.

    Args:
        estimators: one per metric.
        units: number of units U; each resample draws U of them with replacement.
        resamples: number of resamples, at least 2.
        seed: of the random numbers.

    Returns:
        (low, high) of each estimator. Resamples without any sample of a metric (a small subset) do not count in its
        quantiles; NaN where no resample has one.

    Raises:
        ValueError: no units, or fewer than two resamples.
    """
    if units < 1 or resamples < 2:
        raise ValueError(f"need at least 1 unit and 2 resamples, got {units} and {resamples}")
    rng = np.random.default_rng(seed)
    estimates = np.empty((resamples, len(estimators)))
    for r in range(resamples):
        drawn = draw_counts(rng, units)
        estimates[r] = [estimate(drawn) for estimate in estimators]
    low, high = np.nanquantile(estimates, [0.025, 0.975], axis=0)
    return list(zip(low.tolist(), high.tolist(), strict=True))


def draw_counts(rng: np.random.Generator, units: int) -> np.ndarray:
    """Return (U,) float64, how often each of U units is drawn in one resample."""
    return np.bincount(rng.integers(0, units, size=units), minlength=units).astype(np.float64)


def resample_sums(values: np.ndarray, resamples: int = RESAMPLES, seed: int = SEED) -> np.ndarray:
    """Compute (R, S) sums of (U, S) values over resamples of the U units.

    Returns:
        float64, rounded to 12 digits, since sums in another order differ in the last ones.
    """
    rng = np.random.default_rng(seed)
    units = len(values)
    sums = np.empty((resamples, values.shape[1]))
    step = max(1, BLOCK_BYTES // (8 * units))
    with report_if_slow(current_reporter(), "resampling images", resamples, "resamples") as advance:
        for start in range(0, resamples, step):
            drawn = np.stack([draw_counts(rng, units) for _ in range(start, min(start + step, resamples))])
            sums[start : start + len(drawn)] = drawn @ values
            advance(len(drawn))
    return np.round(sums, 12)
