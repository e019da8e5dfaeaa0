"""Is a drop between two models more than `max_drop`? Tests on differences summed by independent unit.

What every test here keeps: the chance to reject although the true drop is at most `max_drop` is at most its level, also
with few units, unequal ones, fractional hits, rare failures, and at the boundary. Sign flips do not keep that: under
"the drop is exactly max_drop" the shifted differences have mean zero and are anything but symmetric (most images lose
nothing, few lose all), and a studentised statistic repairs it with many units only.

The test is Gaffke's ("Three test statistics for a nonparametric one-sided hypothesis on the mean of a nonnegative
variable", Math. Meth. Stat. 14, 2005; as a bound: Learned-Miller & Thomas, arXiv 1905.06208, 2019), written as a
bootstrap: every unit gets a random weight from the exponential distribution (Rubin, "The Bayesian bootstrap", Ann.
Stat. 9, 1981), and beside the units that were seen stands one that was not and speaks most against the drop: as large
as the largest, the baseline all wrong in it and the candidate all right. p is the chance that the weighted drop is at
most `max_drop`. For hits of 0 and 1 that stand alone, and a `max_drop` of zero, it is McNemar's exact test. That the
level is kept for every distribution on an interval is a conjecture of Gaffke's to which we know no counterexample;
benchmarks/studies/regress_calibration.py is our own search for one.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from cosmos_eval.metrics.exponential_sums import chance_not_above_zero

ROUND = 1e-12
"""Shares of a metric that differ by less are one number: sums of the same hits in another order."""


@dataclass(frozen=True)
class Drops:
    """A metric that is a weighted mean of hits in [0, 1], in two models, unit by unit. Both (U,) float64."""

    lost: np.ndarray
    """Weights times (baseline - candidate), summed over the samples of the unit; in total the drop of the metric."""
    share: np.ndarray
    """The unit's weights, positive; in total 1."""
    alone: bool
    """Whether every unit is one sample, all weigh the same, and all hits are 0 or 1."""

    @property
    def drop(self) -> float:
        """Baseline minus candidate; a fraction."""
        return float(self.lost.sum())

    def exchanged(self) -> "Drops":
        """With the candidate as the baseline."""
        return Drops(-self.lost, self.share, self.alone)


def drops_of(baseline: np.ndarray, candidate: np.ndarray, unit: np.ndarray, weights: np.ndarray | None = None) -> Drops:
    """Sum the differences of (N,) hits by unit.

    Args:
        baseline, candidate: (N,) in [0, 1], of the same samples.
        unit: (N,) int64, what sample i belongs to; numbers without samples are no units.
        weights: (N,) what sample i adds to the metric, not negative; alike without. They are fixed by the data, not by
            the models: for a mean over classes 1 / (classes * samples of the class).

    Raises:
        ValueError: no samples, lengths differ, or a hit outside [0, 1].
    """
    n = len(baseline)
    if not n or not len(candidate) == len(unit) == n:
        raise ValueError(f"needs as many of each and at least one, got {n}, {len(candidate)} and {len(unit)}")
    hits = np.stack([baseline, candidate]).astype(np.float64)
    if not ((hits >= -ROUND) & (hits <= 1 + ROUND)).all():
        raise ValueError("hits must lie in [0, 1]")
    hits = hits.clip(0, 1)
    weights = np.full(n, 1.0) if weights is None else np.asarray(weights, np.float64)
    total = weights.sum()
    lost = np.bincount(unit, weights=weights * (hits[0] - hits[1])) / total
    share = np.bincount(unit, weights=weights) / total
    own = share > 0
    counted = np.bincount(unit)[own]
    alone = bool((counted == 1).all() and np.ptp(share[own]) < ROUND and np.isin(hits, (0.0, 1.0)).all())
    return Drops(lost[own], share[own], alone)


def class_weights(classes: np.ndarray) -> np.ndarray:
    """(N,) weights for the unweighted mean over the classes that occur in (N,) int64 `classes`."""
    counts = np.bincount(classes)
    return 1.0 / (counts[classes] * np.count_nonzero(counts))


def p_of_drop(drops: Drops, max_drop: float = 0.0) -> float:
    """The p-value of "the true drop is at most `max_drop`"; small where it is more.

    Args:
        max_drop: a fraction, from -1 to 1.
    """
    if drops.alone and max_drop == 0:
        return mcnemar(int((drops.lost > 0).sum()), int((drops.lost < 0).sum()))
    excess, times = np.unique(np.round((drops.lost - max_drop * drops.share) / ROUND) * ROUND, return_counts=True)
    unseen = -(1 + max_drop) * drops.share.max()
    return float(chance_not_above_zero(np.append(excess, unseen), np.append(times, 1.0)))


def mcnemar(losses: int, wins: int) -> float:
    """McNemar's exact one-sided p-value: as many losses or more among as many changes, each as likely a win.

    Args:
        losses, wins: samples that only the baseline, and only the candidate, has right.
    """
    n = losses + wins
    if losses <= 0:
        return 1.0
    k, log = np.arange(losses, n + 1), log_factorials(n)
    return float(min(1.0, np.exp(log[n] - log[k] - log[n - k] - n * math.log(2)).sum()))


@lru_cache(maxsize=4)
def _log_factorials(size: int) -> np.ndarray:
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, size)))])


def log_factorials(n: int) -> np.ndarray:
    """log(k!) at least for k from 0 to n."""
    return _log_factorials(1 << (n + 1).bit_length())


def interval_of_drop(drops: Drops, confidence: float = 0.95) -> tuple[float, float]:
    """The drops that the test rejects neither from below nor from above, each at half of 1 - `confidence`."""
    tail = (1 - confidence) / 2
    other = drops.exchanged()
    return (
        boundary(lambda m: p_of_drop(drops, m), tail, drops.drop),
        -boundary(lambda m: p_of_drop(other, m), tail, other.drop),
    )


def boundary(p_at: Callable[[float], float], level: float, upper: float) -> float:
    """The largest `max_drop` in [-1, upper] with p at most `level`, where p rises with it; -1 where there is none."""
    low, high = -1.0, upper
    if p_at(high) <= level:
        return high
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if p_at(middle) <= level else (low, middle)
        if high - low < 1e-7:
            break
    return low


def holm(p: Sequence[float]) -> list[float]:
    """p-values adjusted for all tests together (Holm, Scand. J. Stat. 6, 1979): reject those at most alpha, and the
    chance of any false alarm is at most alpha, however the tests depend on each other."""
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    highest = 0.0
    for place, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - place) * p[i]))
        adjusted[i] = highest
    return adjusted.tolist()
