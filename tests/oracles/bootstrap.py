"""Slow oracle of the bootstrap: every resample written out, sample by sample."""

from collections.abc import Callable

import numpy as np


def resampled(
    statistic: Callable[[np.ndarray], float], unit: np.ndarray, units: int, resamples: int, seed: int
) -> list[float]:
    """Return `statistic` of the indices of the samples of each resample; resamples without samples are left out."""
    rng = np.random.default_rng(seed)
    statistics = []
    for _ in range(resamples):
        drawn = rng.integers(0, units, size=units)
        samples = [i for u in drawn for i in np.flatnonzero(unit == u)]
        if samples:
            statistics.append(statistic(np.array(samples)))
    return statistics
