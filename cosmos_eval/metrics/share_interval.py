"""95 % intervals of shares (recalls, accuracies, IoUs): honest at 0 and 100 %, for few images, ties and clusters.

Resampling cannot see what did not happen: six hits in six images are six hits in every resample, and the percentile
bootstrap gives an interval without width. So a share has two intervals and a rule between them:

- *mid-p*: the Clopper-Pearson interval with half of the probability of what was observed (Lancaster, Biometrika 48,
  1961; Brown, Cai & DasGupta, Stat. Sci. 16, 2001, section 4.2.1), for hits and n that need not be whole. n is an
  effective one (Korn & Graubard, Survey Methodology 24, 1998): the number of independent hits and misses whose share
  would have the variance that is measured between the units (images). Outcomes that are fractions (ties), units of
  several samples (captions) and weights (means over classes, areas) come in through it. For hits of 0 and 1 that stand
  alone it is n itself.
- the percentile bootstrap of `cosmos_eval.metrics.intervals`, where at least MANY hits and as many misses exist.

Between FEW and MANY the bounds go from the one to the other in proportion: no step at a threshold. What is counted are
effective hits and misses, see `Evidence.seen`. benchmarks/interval_coverage.py measures how often they hold the truth.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FEW, MANY = 10.0, 20.0
"""Up to FEW effective hits (or misses) the interval is mid-p, from MANY on it is the bootstrap's."""
TAIL = 0.025
UNSEEN = 1.0
"""How many units that were not seen, right or wrong in full, the estimate of the variance counts along: with more of
them the intervals of ten images with ties hold the truth in more than 98 of 100 cases."""
OF_ALL = 2.0
"""How many samples of the whole set the variance inside a class counts along: that of few units is not known."""
SAME = 1e-12
"""Outcomes that differ by less are one number."""


@dataclass(frozen=True)
class Evidence:
    """What the samples behind a share tell of its error."""

    value: float
    """The share: a weighted mean of outcomes in [0, 1]."""
    n_low: float
    """Effective n for the lower bound: the variance counts units along that were not seen and have everything wrong."""
    n_high: float
    """The same for the upper bound, with units that have everything right."""
    seen: float
    """The least of effective hits, effective misses, half of the effective number of units, and the units that differ
    from the most common outcome of their class. For hits of 0 and 1 that stand alone: the hits or the misses, whichever
    are fewer."""

    @property
    def weight(self) -> float:
        """How much of the interval is the bootstrap's, in [0, 1]."""
        return float(np.clip((self.seen - FEW) / (MANY - FEW), 0.0, 1.0))

    @property
    def method(self) -> str:
        """What the interval is made by, as it stands in a result."""
        if self.weight == 1:
            return "bootstrap"
        return "mid-p" if self.weight == 0 else "mid-p and bootstrap"


def evidence_of(
    values: np.ndarray, unit: np.ndarray, weights: np.ndarray | None = None, classes: np.ndarray | None = None
) -> Evidence:
    """The evidence behind a (weighted) mean of outcomes.

    The effective n is that of Korn and Graubard, value (1 - value) / variance. Where units agree, the variance between
    them is estimated as zero, and that n has no bound; so the ratio of the variance to the one of hits and misses of
    whole units (the design effect; Kish, Survey Sampling, 1965) is estimated with UNSEEN more units at the worst for
    the bound that is asked for. At 0 and 100 % it is then 1, and n is the effective number of units.

    Args:
        values: (N,) outcomes in [0, 1].
        unit: (N,) integers, the independent unit (image) of each sample.
        weights: (N,) what each adds to the mean, not negative; equal without (with `classes`: each class as much as
            another, its samples alike).
        classes: (N,) integers, classes over which a mean is taken: only the variance inside each counts. Those of a
            single unit are taken together as one (collapsed strata; Cochran, Sampling Techniques, 1977, section 5A.12).

    Raises:
        ValueError: no samples, lengths differ, weights without a sum, or an outcome outside [0, 1].
    """
    values = np.asarray(values, np.float64)
    n = len(values)
    if not n or any(len(one) != n for one in (unit, weights, classes) if one is not None):
        raise ValueError(f"needs as many units, weights and classes as outcomes and at least one, got {n} outcomes")
    if not ((values >= -SAME) & (values <= 1 + SAME)).all():
        raise ValueError("outcomes must lie in [0, 1]")
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
    value = 0.0 if value < SAME else 1.0 if value > 1 - SAME else value  # all wrong and all right, to the last digit

    of_unit = np.bincount(unit, weights=weights, minlength=units)
    hits_of_unit = np.bincount(unit, weights=weights * values, minlength=units)
    squares = float(np.square(of_unit).sum())  # 1 / the effective number of units
    around = float(np.square(hits_of_unit - value * of_unit).sum())
    classes, sizes, differing = _classes(values, weights, unit, classes)
    variance = around if len(sizes) == 1 else _inside(values, weights, unit, classes, sizes, value, around / squares)

    # a unit that was not seen is as large as one that a sample of the weights falls on
    unseen = UNSEEN * float((of_unit**3).sum())
    alone = value * (1 - value)
    high = _design_effect(variance, alone * squares, unseen * (1 - value) ** 2)
    low = _design_effect(variance, alone * squares, unseen * value**2)
    n_low, n_high = 1 / (squares * low), 1 / (squares * high)
    plain = alone / variance if variance > 0 else np.inf
    hits = float(values.sum())
    seen = min(
        max(min(hits, value * plain), value * n_high),
        max(min(n - hits, (1 - value) * plain), (1 - value) * n_low),
        1 / (2 * squares),
        differing,
    )
    return Evidence(value, n_low, n_high, round(seen, 9))  # 20 hits are 20, however weights were added up


def _design_effect(variance: float, alone: float, unseen: float) -> float:
    return (variance + unseen) / (alone + unseen) if alone + unseen > 0 else 1.0


def _classes(
    values: np.ndarray, weights: np.ndarray, unit: np.ndarray, classes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    """(N,) classes with those of a single unit taken together, (C,) units of each, and how many units are off the most
    common outcome of their class."""
    units = int(unit.max()) + 1
    cells = np.unique(classes * units + unit)
    single = np.bincount(cells // units) < 2
    if single.any():
        classes = np.unique(np.where(single[classes], len(single), classes), return_inverse=True)[1]
    cells, cell = np.unique(classes * units + unit, return_inverse=True)
    weight = np.bincount(cell, weights=weights)
    plain = np.bincount(cell)
    mean = np.bincount(cell, weights=np.where(weight[cell] > 0, weights, 1.0) * values)
    mean = np.round(mean / np.where(weight > 0, weight, plain) / SAME) * SAME
    of_class = cells // units
    order = np.lexsort((mean, of_class))
    of_class, mean = of_class[order], mean[order]
    first = np.flatnonzero(np.r_[True, (np.diff(of_class) != 0) | (np.diff(mean) != 0)])
    alike = np.diff(np.r_[first, len(mean)])
    most = np.zeros(int(of_class.max()) + 1, np.int64)
    np.maximum.at(most, of_class[first], alike)
    sizes = np.bincount(of_class)
    return classes, sizes, int((sizes - most).sum())


def _inside(
    values: np.ndarray,
    weights: np.ndarray,
    unit: np.ndarray,
    classes: np.ndarray,
    sizes: np.ndarray,
    value: float,
    of_all: float,
) -> float:
    """The variance inside classes, each shrunk towards that of the whole set (`of_all`) as if it had OF_ALL more units
    from there: a class of two units that agree has no variance of its own."""
    share = sizes / (sizes + OF_ALL)
    mass = np.bincount(classes, weights=weights)
    means = np.bincount(classes, weights=weights * values) / np.where(mass > 0, mass, 1.0)
    centres = share * means + (1 - share) * value
    own = np.bincount(unit, weights=weights * np.sqrt(share[classes]) * (values - centres[classes]))
    others = np.bincount(unit, weights=weights * np.sqrt(1 - share[classes]))
    return float(np.square(own).sum() + of_all * np.square(others).sum())


def share_intervals(
    evidence: Sequence[Evidence], bootstrap: Sequence[tuple[float, float]]
) -> list[tuple[float, float]]:
    """(low, high) of each share; `bootstrap` holds its percentile intervals."""
    weight = np.array([one.weight for one in evidence])
    found = np.array(bootstrap, np.float64).reshape(len(weight), 2)
    few = np.flatnonzero(weight < 1)
    if len(few):
        some = [evidence[i] for i in few]
        value, n_low, n_high = (np.array([getattr(one, key) for one in some]) for key in ("value", "n_low", "n_high"))
        exact = np.stack([mid_p(value * n_low, n_low)[0], mid_p(value * n_high, n_high)[1]], axis=1)
        mixed = weight[few, None]
        # a bootstrap that counts nothing may be NaN: no resample had a sample
        found[few] = (1 - mixed) * exact + np.where(mixed > 0, mixed * found[few], 0.0)
    return [
        (min(low, one.value), max(high, one.value)) for one, (low, high) in zip(evidence, found.tolist(), strict=True)
    ]


def mid_p(hits: np.ndarray | float, n: np.ndarray | float, tail: float = TAIL) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper mid-p bounds of a binomial share.

    The lower one is the share p at which P(X > hits) + P(X = hits) / 2 is `tail`, the upper one that at which P(X <
    hits) + P(X = hits) / 2 is. Binomial tails are incomplete beta functions, which hits and n that are not whole have,
    too.

    Args:
        hits: any shape, from 0 to n.
        n: of a shape that goes with it, positive.

    Raises:
        ValueError: n not positive, or hits below 0 or above n.
    """
    hits, n = np.broadcast_arrays(np.asarray(hits, np.float64), np.asarray(n, np.float64))
    if not ((n > 0) & (hits >= 0) & (hits <= n * (1 + SAME))).all():
        raise ValueError("needs n above 0, and from 0 to n hits")
    misses = np.maximum(n - hits, 0.0)
    return _lower(hits, misses, tail), 1 - _lower(misses, hits, tail)


def _lower(hits: np.ndarray, misses: np.ndarray, tail: float) -> np.ndarray:
    from scipy.special import betainc  # not every command needs it

    at_least = np.maximum(hits, 1e-300)  # 0 is no parameter of a beta distribution; the bound is set below
    below = np.maximum(misses, 1e-300)
    low, high = np.zeros_like(hits), np.ones_like(hits)
    for _ in range(64):  # halvings of [0, 1]; small bounds need their digits, too
        middle = np.where(low > 0, np.sqrt(low * high), high / 16)
        middle = np.maximum(middle, low + (high - low) / 64)
        p = (betainc(at_least, misses + 1, middle) + np.where(misses > 0, betainc(hits + 1, below, middle), 0.0)) / 2
        low, high = np.where(p < tail, middle, low), np.where(p < tail, high, middle)
    return np.where(hits > 0, (low + high) / 2, 0.0)
