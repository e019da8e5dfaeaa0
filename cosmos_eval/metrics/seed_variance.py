"""Intervals of a mean over samples and seeds: both the images and the seeds are a sample of what there might be."""

from dataclasses import replace

import numpy as np

from cosmos_eval.metrics.bootstrap import Estimator
from cosmos_eval.metrics.proportion import ProportionEstimate, estimate_proportion


def seeded_mean_estimator(values: np.ndarray, seed: int) -> Estimator:
    """Build the estimator of a mean over images and seeds, which draws seeds for each resample of the images.

    Few seeds resampled with replacement vary by too little: by the factor sqrt((S - 1) / S) in their standard
    deviation. Their deviations are enlarged by its inverse.

    Args:
        values: (S, N) outcome of each seed on each image.
        seed: of the draws of seeds; every draw advances it, so that a bootstrap with one seed always gives the same.

    Returns:
        The estimator, for one bootstrap: it is to be called once for each resample.
    """
    seeds = len(values)
    rng = np.random.default_rng(seed)
    scale = (seeds / (seeds - 1)) ** 0.5 if seeds > 1 else 0.0

    def estimate(drawn: np.ndarray) -> float:
        means = (values * drawn).sum(1) / drawn.sum()  # not a matrix product: its order of sums depends on threads
        of_seeds = means[rng.integers(0, seeds, size=seeds)].mean()
        return float(np.clip(means.mean() + scale * (of_seeds - means.mean()), 0, 1))

    return estimate


def estimate_seeded_proportion(values: np.ndarray, images: np.ndarray | None = None) -> ProportionEstimate:
    """Estimate a mean over images and seeds, with effective sample sizes that include the variance between seeds.

    The variance of the mean is that between images plus that between the means of the seeds. An effective sample size
    is inversely proportional to the variance.

    Args:
        values: (S, N) outcomes in [0, 1] of each seed on each image.
        images: (N,) the independent unit of each sample; None: each is one.
    """
    seeds, samples = values.shape
    outcomes = values.mean(0)
    estimate = estimate_proportion(outcomes, np.arange(samples) if images is None else images)
    if seeds < 2:
        return estimate
    between_images = estimate.value * (1 - estimate.value) / max(estimate.n_low, estimate.n_high)
    between_seeds = float(values.mean(1).var(ddof=1)) / seeds
    if between_seeds == 0:
        return estimate
    share = between_images / (between_images + between_seeds)
    return replace(estimate, n_low=estimate.n_low * share, n_high=estimate.n_high * share)
