"""Mean outcome of each class with its 95 % interval; of top-1 outcomes it is the recall of each class."""

from dataclasses import dataclass

import numpy as np

from cosmos_eval.metrics.bootstrap import RESAMPLES, SEED
from cosmos_eval.metrics.proportion import estimate_proportion, proportion_intervals


@dataclass(frozen=True)
class ClassMeans:
    """(C,) each; NaN for classes without samples."""

    n: np.ndarray
    """int64 number of samples, their support."""
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    method: tuple[str, ...]
    """How each interval was computed; empty for a class without samples."""


def class_means(values: np.ndarray, labels: np.ndarray, classes: int, seed: int = SEED) -> ClassMeans:
    """Compute the mean outcome of each class and its interval.

    The same as `mean_estimator` and `bootstrap_intervals` for the samples of each class, but one pass over the samples
    in each resample serves all classes: with 1,000 classes of 50 images that takes a second, not a minute.

    Args:
        values: (N,) outcomes in [0, 1] of independent samples.
        labels: (N,) integers from 0 to `classes` - 1.
        classes: number of classes C; a class may have no samples.
        seed: seed of the resampling.

    Raises:
        ValueError: lengths differ, or an outcome is outside of [0, 1].
    """
    values = np.asarray(values, np.float64)
    n = np.bincount(labels, minlength=classes)
    order = np.argsort(labels, kind="stable")
    ends = np.cumsum(n)
    present = np.flatnonzero(n)
    estimates = [estimate_proportion(values[order[ends[c] - n[c] : ends[c]]], np.arange(n[c])) for c in present]
    bounds = np.full((len(present), 2), np.nan)
    needs_bootstrap = np.array([estimate.bootstrap_weight > 0 for estimate in estimates], dtype=bool)
    if needs_bootstrap.any():
        bounds[needs_bootstrap] = _bootstrap(values, labels, present[needs_bootstrap], classes, seed)
    intervals = proportion_intervals(estimates, [(low, high) for low, high in bounds.tolist()])
    value, low, high = np.full((3, classes), np.nan)
    value[present] = [estimate.value for estimate in estimates]
    low[present], high[present] = np.array(intervals).reshape(-1, 2).T
    method = [""] * classes
    for c, estimate in zip(present.tolist(), estimates, strict=True):
        method[c] = estimate.method
    return ClassMeans(n, value, low, high, tuple(method))


def _bootstrap(values: np.ndarray, labels: np.ndarray, wanted: np.ndarray, classes: int, seed: int) -> np.ndarray:
    """(W, 2) percentile bounds of the means of the classes `wanted`, from the resamples of `bootstrap_intervals`."""
    units = len(values)
    rng = np.random.default_rng(seed)
    means = np.empty((RESAMPLES, len(wanted)))
    for r in range(RESAMPLES):
        drawn = np.bincount(rng.integers(0, units, size=units), minlength=units).astype(np.float64)
        counts = np.bincount(labels, weights=drawn, minlength=classes)[wanted]
        sums = np.bincount(labels, weights=drawn * values, minlength=classes)[wanted]
        means[r] = np.divide(sums, counts, out=np.full(len(wanted), np.nan), where=counts > 0)
    return np.nanquantile(means, [0.025, 0.975], axis=0).T
