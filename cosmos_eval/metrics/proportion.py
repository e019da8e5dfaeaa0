"""95 % intervals of proportions (recall, accuracy, IoU) that also hold near 0 and 100 %, for few images and for ties.

The percentile bootstrap alone fails where little varies: with six correct images of six, every resample has six correct
images, and the interval has width zero, although the true accuracy may well be 70 %. So there are two intervals and a
rule that decides between them:

- *mid-p*: the Clopper-Pearson interval with half of the probability of the observed number (Lancaster, Biometrika 48,
  1961; Brown, Cai & DasGupta, Stat. Sci. 16, 2001, section 4.2.1). It needs a number of correct samples and a number n
  of independent samples; here neither needs to be whole.
- the percentile bootstrap of `cosmos_eval.metrics.bootstrap`, where there are at least MANY correct and MANY wrong
  samples.

Between FEW and MANY the bounds move from the one to the other in proportion, so that one more correct sample never
makes a jump.

The n of mid-p is an effective one (Korn & Graubard, Survey Methodology 24, 1998): the number of independent samples
with outcomes 0 or 1 whose proportion would have the variance that was measured between units (images). It accounts for
outcomes that are fractions (ties), units of several samples (captions of one image), and weights (means over classes,
pixel counts). For independent samples with outcomes 0 and 1 it is the number of samples.

benchmarks/interval_coverage.py measures how often these intervals contain the true value.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FEW, MANY = 10.0, 20.0
"""With at most FEW effective correct (or wrong) samples the interval is mid-p, with at least MANY the bootstrap."""
TAIL = 0.025
"""Probability that the true value is beyond each bound."""
UNSEEN = 1.0
"""Number of unseen units, all wrong or all correct, that are added to the estimate of the variance. With more of them
the intervals of ten images with ties become too wide: they contain the true value in more than 98 of 100 cases."""
PRIOR_UNITS = 2.0
"""Number of units from the whole dataset that are added to the estimate of the variance inside a class, since the units
of a small class say little about it."""
TOLERANCE = 1e-12
"""Outcomes closer than this are equal."""


@dataclass(frozen=True)
class ProportionEstimate:
    """A proportion, and the effective sample sizes that determine its interval."""

    value: float
    """The proportion: a weighted mean of outcomes in [0, 1]."""
    n_low: float
    """Effective n for the lower bound, from a variance that includes unseen units with every sample wrong."""
    n_high: float
    """Effective n for the upper bound, from a variance that includes unseen units with every sample correct."""
    rarer_count: float
    """Effective number of samples with the rarer outcome, which decides whether the bootstrap can be used: the smallest
    of the effective numbers of correct and of wrong samples, half the effective number of units, and the number of
    units that differ from the most common outcome of their class. For independent samples with outcomes 0 and 1 it is
    the number of correct or of wrong samples, whichever is smaller."""

    @property
    def bootstrap_weight(self) -> float:
        """Weight of the bootstrap in the interval, in [0, 1]; the rest is mid-p's."""
        return float(np.clip((self.rarer_count - FEW) / (MANY - FEW), 0.0, 1.0))

    @property
    def method(self) -> str:
        """Name of the method, as results record it."""
        if self.bootstrap_weight == 1:
            return "bootstrap"
        return "mid-p" if self.bootstrap_weight == 0 else "mid-p and bootstrap"


def estimate_proportion(
    values: np.ndarray, unit: np.ndarray, weights: np.ndarray | None = None, classes: np.ndarray | None = None
) -> ProportionEstimate:
    """Estimate a (weighted) mean of outcomes and its effective sample sizes.

    The effective n of Korn and Graubard is value (1 - value) / variance. Where all units agree, the variance between
    them is estimated as zero and this n is infinite, although the next unit may differ. So UNSEEN units are added at
    their worst for the bound in question, to the variance and to what it is compared with: the variance if each unit
    were entirely correct or entirely wrong. Their ratio is the design effect (Kish, Survey Sampling, 1965), and n is
    the effective number of units divided by it. At 0 and 100 % the ratio is 1, so n is the effective number of units.

    Args:
        values: (N,) outcomes in [0, 1].
        unit: (N,) integers, the independent unit (image) of each sample.
        weights: (N,) weight of each sample in the mean, not negative. None: equal weights, or with `classes` equal
            weights of classes, and of the samples inside each class.
        classes: (N,) integers, classes over which a mean is taken, so that only the variance inside classes counts.
            Classes with a single unit have no variance of their own; they are treated as one class together (collapsed
            strata; Cochran, Sampling Techniques, 1977, section 5A.12). None: a single class.

    Returns:
        What `proportion_intervals` needs.

    Raises:
        ValueError: no samples, lengths differ, an outcome outside [0, 1], or weights that do not have a positive sum.
    """
    values = np.asarray(values, np.float64)
    n = len(values)
    if not n or any(len(array) != n for array in (unit, weights, classes) if array is not None):
        raise ValueError(
            f"units, weights and classes must have the length of the outcomes, at least one, got {n} outcomes"
        )
    if not ((values >= -TOLERANCE) & (values <= 1 + TOLERANCE)).all():
        raise ValueError("outcomes must be in [0, 1]")
    values = values.clip(0, 1)
    _, unit = np.unique(unit, return_inverse=True)
    units = int(unit.max()) + 1
    classes = np.zeros(n, np.int64) if classes is None else np.unique(classes, return_inverse=True)[1]
    if weights is None:
        weights = 1.0 / np.bincount(classes)[classes]
    total = float(weights.sum())
    if not 0 < total < np.inf:
        raise ValueError(f"weights must have a finite sum above 0, got {total}")
    weights = np.asarray(weights, np.float64) / total
    value = float((weights * values).sum())
    if not TOLERANCE <= value <= 1 - TOLERANCE:
        value = 1.0 if value > 0.5 else 0.0  # exactly, where all are correct or all wrong

    unit_weights = np.bincount(unit, weights=weights, minlength=units)
    unit_correct = np.bincount(unit, weights=weights * values, minlength=units)
    weight_squares = float(np.square(unit_weights).sum())  # 1 / the effective number of units (Kish)
    # Variance of the mean, linearised: each unit contributes the square of how far it pulls the mean from its value.
    overall_variance = float(np.square(unit_correct - value * unit_weights).sum())
    classes, class_units, differing_units = _collapse_classes(values, weights, unit, classes)
    variance = overall_variance
    if len(class_units) > 1:
        variance = _variance_inside_classes(
            values, weights, unit, classes, class_units, value, overall_variance / weight_squares
        )

    # An unseen unit is as large as the unit that a random part of the total weight belongs to: its squared weight is
    # sum(w * w**2) on average.
    unseen_weight = UNSEEN * float((unit_weights**3).sum())
    variance_of_one = value * (1 - value)  # of a single outcome of 0 or 1
    variance_of_whole_units = variance_of_one * weight_squares  # if each unit were entirely correct or wrong
    effect_high = _design_effect(variance, variance_of_whole_units, unseen_weight * (1 - value) ** 2)
    effect_low = _design_effect(variance, variance_of_whole_units, unseen_weight * value**2)
    n_low, n_high = 1 / (weight_squares * effect_low), 1 / (weight_squares * effect_high)
    # The effective number of correct (and of wrong) samples is estimated in two ways, and the larger one is taken: as
    # counted, but at most what the effective n without unseen units gives (captions of one image that agree); and from
    # the effective n with unseen units.
    plain_n = variance_of_one / variance if variance > 0 else np.inf
    correct = float(values.sum())
    rarer_count = min(
        max(min(correct, value * plain_n), value * n_high),
        max(min(n - correct, (1 - value) * plain_n), (1 - value) * n_low),
        1 / (2 * weight_squares),
        differing_units,
    )
    # Rounded, so that 20 correct samples count as 20 and reach MANY, whatever the rounding of weights.
    return ProportionEstimate(value, n_low, n_high, round(rarer_count, 9))


def _design_effect(variance: float, variance_of_whole_units: float, unseen: float) -> float:
    """Ratio of the two variances, with the unseen units in both; 1 where both are zero."""
    return (variance + unseen) / (variance_of_whole_units + unseen) if variance_of_whole_units + unseen > 0 else 1.0


def _collapse_classes(
    values: np.ndarray, weights: np.ndarray, unit: np.ndarray, classes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    """Merge the classes with a single unit into one, and count how many units differ inside classes.

    Returns:
        (N,) merged class of each sample, (C,) number of units of each merged class, and the number of units that do not
        have the most common outcome of their class. A unit with samples in several classes counts in each.
    """
    units = int(unit.max()) + 1
    # A cell is a unit inside a class; its number encodes both.
    cells = np.unique(classes * units + unit)
    has_single_unit = np.bincount(cells // units) < 2
    if has_single_unit.any():
        merged = np.where(has_single_unit[classes], len(has_single_unit), classes)
        classes = np.unique(merged, return_inverse=True)[1]
    cells, cell = np.unique(classes * units + unit, return_inverse=True)
    # Mean outcome of each cell; an unweighted mean where all its weights are 0.
    cell_weight = np.bincount(cell, weights=weights)
    cell_size = np.bincount(cell)
    sums = np.bincount(cell, weights=np.where(cell_weight[cell] > 0, weights, 1.0) * values)
    cell_mean = np.round(sums / np.where(cell_weight > 0, cell_weight, cell_size) / TOLERANCE) * TOLERANCE
    # Sort cells by class, then by mean, so that cells of equal mean form runs; the longest run of each class is its
    # most common outcome.
    cell_class = cells // units
    order = np.lexsort((cell_mean, cell_class))
    cell_class, cell_mean = cell_class[order], cell_mean[order]
    run_starts = np.flatnonzero(np.r_[True, (np.diff(cell_class) != 0) | (np.diff(cell_mean) != 0)])
    run_lengths = np.diff(np.r_[run_starts, len(cell_mean)])
    longest_run = np.zeros(int(cell_class.max()) + 1, np.int64)
    np.maximum.at(longest_run, cell_class[run_starts], run_lengths)
    class_units = np.bincount(cell_class)
    return classes, class_units, int((class_units - longest_run).sum())


def _variance_inside_classes(
    values: np.ndarray,
    weights: np.ndarray,
    unit: np.ndarray,
    classes: np.ndarray,
    class_units: np.ndarray,
    value: float,
    unit_variance: float,
) -> float:
    """Variance of a mean over classes, with each class's variance shrunk towards that of the whole dataset.

    A class of two units that agree would have no variance of its own. So each class is treated as if it had PRIOR_UNITS
    more units with the variance of the whole dataset (`unit_variance`, that of a unit of weight 1). The fraction of a
    class that is its own is units / (units + PRIOR_UNITS); its centre moves towards the overall `value` by the rest.
    """
    own_fraction = class_units / (class_units + PRIOR_UNITS)
    class_weight = np.bincount(classes, weights=weights)
    class_mean = np.bincount(classes, weights=weights * values) / np.where(class_weight > 0, class_weight, 1.0)
    centre = own_fraction * class_mean + (1 - own_fraction) * value
    # Square roots, since these weights are squared below.
    deviation = weights * np.sqrt(own_fraction[classes]) * (values - centre[classes])
    own_deviation = np.bincount(unit, weights=deviation)
    shrunk = np.bincount(unit, weights=weights * np.sqrt(1 - own_fraction[classes]))
    return float(np.square(own_deviation).sum() + unit_variance * np.square(shrunk).sum())


def proportion_intervals(
    estimates: Sequence[ProportionEstimate], bootstrap: Sequence[tuple[float, float]]
) -> list[tuple[float, float]]:
    """Compute the interval of each proportion from mid-p and the bootstrap.

    Args:
        estimates: the proportions with their effective sample sizes.
        bootstrap: (low, high) of the percentile bootstrap of each, NaN where no resample had a sample.

    Returns:
        (low, high) of each; the proportion is always between them.
    """
    weight = np.array([estimate.bootstrap_weight for estimate in estimates])
    bounds = np.array(bootstrap, np.float64).reshape(len(weight), 2)
    needs_mid_p = np.flatnonzero(weight < 1)
    if len(needs_mid_p):
        value, n_low, n_high = (
            np.array([getattr(estimates[i], field) for i in needs_mid_p]) for field in ("value", "n_low", "n_high")
        )
        lower, upper = mid_p_bounds(value * n_low, n_low)[0], mid_p_bounds(value * n_high, n_high)[1]
        bootstrap_weight = weight[needs_mid_p, None]
        # Not `weight * bounds` alone: where the bootstrap has no weight it may be NaN, and 0 * NaN is NaN.
        from_bootstrap = np.where(bootstrap_weight > 0, bootstrap_weight * bounds[needs_mid_p], 0.0)
        bounds[needs_mid_p] = (1 - bootstrap_weight) * np.stack([lower, upper], axis=1) + from_bootstrap
    return [
        (min(low, estimate.value), max(high, estimate.value))
        for estimate, (low, high) in zip(estimates, bounds.tolist(), strict=True)
    ]


def mid_p_bounds(hits: np.ndarray | float, n: np.ndarray | float, tail: float = TAIL) -> tuple[np.ndarray, np.ndarray]:
    """Compute the mid-p bounds of a binomial proportion (Lancaster, Biometrika 48, 1961).

    The lower bound is the proportion at which P(X > hits) + P(X = hits) / 2 is `tail`, the upper bound the one at which
    P(X < hits) + P(X = hits) / 2 is `tail`. Binomial tails are incomplete beta functions, which are defined for numbers
    that are not whole, too.

    Args:
        hits: number of successes, any shape, from 0 to n.
        n: number of trials, positive, of a shape that broadcasts with `hits`.
        tail: probability beyond each bound.

    Returns:
        Lower and upper bounds, of the broadcast shape; 0 for no hits and 1 for n hits.

    Raises:
        ValueError: n is not positive, or hits are below 0 or above n.
    """
    hits, n = np.broadcast_arrays(np.asarray(hits, np.float64), np.asarray(n, np.float64))
    if not ((n > 0) & (hits >= 0) & (hits <= n * (1 + TOLERANCE))).all():
        raise ValueError("n must be above 0, and hits from 0 to n")
    misses = np.maximum(n - hits, 0.0)
    return _lower_bound(hits, misses, tail), 1 - _lower_bound(misses, hits, tail)


def _lower_bound(hits: np.ndarray, misses: np.ndarray, tail: float) -> np.ndarray:
    """Lower mid-p bound by bisection; the upper bound is the lower one of the misses."""
    from scipy.special import betainc  # imported late: most commands do not need scipy, which takes time to import

    # A beta distribution has no parameter 0. The bound for 0 hits is set at the end, and 0 misses are masked below.
    positive_hits = np.maximum(hits, 1e-300)
    positive_misses = np.maximum(misses, 1e-300)
    low, high = np.zeros_like(hits), np.ones_like(hits)
    for _ in range(64):
        # Halve on a logarithmic scale, so that bounds near 0 get as many digits as others; by at least 1/64.
        middle = np.where(low > 0, np.sqrt(low * high), high / 16)
        middle = np.maximum(middle, low + (high - low) / 64)
        at_least = betainc(positive_hits, misses + 1, middle)
        more = np.where(misses > 0, betainc(hits + 1, positive_misses, middle), 0.0)
        p = (at_least + more) / 2  # P(X > hits) + P(X = hits) / 2
        low, high = np.where(p < tail, middle, low), np.where(p < tail, high, middle)
    return np.where(hits > 0, (low + high) / 2, 0.0)
