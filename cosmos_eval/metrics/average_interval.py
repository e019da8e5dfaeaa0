"""The 95 % interval of a weighted mean of metrics, whose benchmarks may share images.

The bootstrap alone would be too narrow where a benchmark is near 0 or 100 %, or has few images
(`cosmos_eval.metrics.proportion`). So:

- where the interval of every member is from the bootstrap, that of the average is, too: percentiles of the averages in
  resamples of the images of all benchmarks (`cosmos_eval.metrics.resampled_metric`);
- otherwise it is recovered from the intervals of the members (MOVER: Zou & Donner, Stat. Med. 27, 2008; with
  correlated estimates: Zou, Psychol. Methods 12, 2007). The distance of each bound from the average is the root of the
  quadratic form of the members' distances, with the correlations of the members in the resamples.

benchmarks/average_coverage.py measures how often these intervals contain the true average.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cosmos_eval.metrics.resampled_metric import (
    RESAMPLES,
    SEED,
    ResampledMetric,
    resample_together,
    shared_fraction,
)

BOOTSTRAP = "bootstrap"
RECOVERED = "members' intervals and bootstrap"
TAILS = (0.025, 0.975)


@dataclass(frozen=True)
class Member:
    """One metric of an average, with the interval that its result has."""

    weight: float
    """Weight in the average; those of all members add up to 1."""
    value: float
    low: float
    high: float
    method: str
    """How its interval was computed, as results record it."""
    resampled: ResampledMetric


@dataclass(frozen=True)
class AverageInterval:
    """The 95 % interval of an average; fractions."""

    low: float
    high: float
    method: str


def average_interval(members: Sequence[Member], resamples: int = RESAMPLES, seed: int = SEED) -> AverageInterval:
    """Compute the interval of the average of the members.

    Args:
        members: at least one.
        resamples: number of bootstrap resamples.
        seed: of the bootstrap.

    Returns:
        Bounds with the average between them.
    """
    weights = np.array([member.weight for member in members])
    values = np.array([member.value for member in members])
    average = float(weights @ values)
    resampled = resample_together([member.resampled for member in members], resamples, seed)
    if all(member.method in ("", BOOTSTRAP) for member in members):  # older results do not say it: all used it
        low, high = np.quantile(resampled @ weights, TAILS).tolist()
        method = BOOTSTRAP
    else:
        correlations = _correlations(resampled, members)
        below = weights * (values - np.array([member.low for member in members]))
        above = weights * (np.array([member.high for member in members]) - values)
        low, high = average - _length(below, correlations), average + _length(above, correlations)
        method = RECOVERED
    return AverageInterval(max(0.0, min(low, average)), min(1.0, max(high, average)), method)


def _length(distances: np.ndarray, correlations: np.ndarray) -> float:
    """Root of the quadratic form of (K,) distances with (K, K) correlations."""
    return float(np.sqrt(max(0.0, distances @ correlations @ distances)))


def _correlations(resampled: np.ndarray, members: Sequence[Member]) -> np.ndarray:
    """(K, K) correlations of the members over (R, K) resamples.

    A member that is the same in all resamples (all of its samples right) has no correlation there. Its errors, should
    there be any, are in the images that it shares, so the share of these stands for it: an upper bound.
    """
    deviations = resampled - resampled.mean(0)
    scale = np.sqrt(np.square(deviations).mean(0))
    varies = scale > 1e-9
    scaled = deviations / np.where(varies, scale, 1.0)
    correlations = scaled.T @ scaled / len(resampled)
    for j, k in zip(*np.nonzero(~(varies[:, None] & varies[None, :])), strict=True):
        correlations[j, k] = 1.0 if j == k else shared_fraction(members[j].resampled.names, members[k].resampled.names)
    return np.asarray(correlations)
