"""The smallest drop that a paired test would find: so that a pass on too little data says so.

A candidate that truly drops by delta is imagined on the same data: it wins and loses as many units as the measured one
wins (churn, in which both sides are alike), and loses delta on top. The rates are those seen, one unseen win included;
losses and wins have one size each, such that their number and size have the measured variance. The chance that the test
rejects is then counted over imagined candidates, and delta is raised until it is what was asked for.
"""

from dataclasses import dataclass

import numpy as np

from cosmos_eval.metrics.exponential_sums import chance_not_above_zero
from cosmos_eval.metrics.paired import Drops

POWER = 0.8
IMAGINED = 1000
HALVINGS = 14


@dataclass(frozen=True)
class Churn:
    """How two models differ on some data, as far as the power of a test is concerned."""

    units: int
    noise: float
    """Variance of the drop (a sum over units) that is there without any drop."""
    size: float
    """What a lost unit takes from the metric."""
    unseen: float
    """The unit that was not seen, at its worst: what it gives to the metric, before `max_drop` is counted on top."""


def churn_of(drops: Drops) -> Churn:
    """The churn of a mean of hits."""
    changed = drops.lost[drops.lost != 0]
    worst = float(drops.share.max())
    # A unit changes by the mean of those that changed, weighted by their change; the unseen one is among them.
    size = float((np.square(changed).sum() + worst**2) / (np.abs(changed).sum() + worst))
    wins = 2 * float(np.square(drops.lost[drops.lost < 0]).sum()) + 2 * worst * size
    around_mean = float(np.square(drops.lost - drops.drop * drops.share).sum())
    return Churn(len(drops.lost), max(wins, around_mean - size * max(drops.drop, 0.0)), size, worst)


def detectable_drop(
    churn: Churn, max_drop: float = 0.0, alpha: float = 0.05, power: float = POWER, seed: int = 0
) -> float:
    """The smallest true drop (a fraction) that the test at level `alpha` finds with the chance `power`; above 1: none.

    Deterministic for a seed.
    """
    if chance_to_find(churn, 1.0, max_drop, alpha, seed) < power:
        return float("inf")
    low, high = max(max_drop, 0.0), 1.0
    for _ in range(HALVINGS):
        # on a logarithmic scale where that is finer: drops of 0.01 points and of 10 are asked for
        middle = (low * high) ** 0.5 if low > 0 else high / 4 if high > 1e-4 else high / 2
        middle = max(middle, low + (high - low) / 64)
        low, high = (low, middle) if chance_to_find(churn, middle, max_drop, alpha, seed) >= power else (middle, high)
    return high


def chance_to_find(churn: Churn, drop: float, max_drop: float, alpha: float, seed: int = 0) -> float:
    """How often the test rejects "at most `max_drop`" at level `alpha` when the candidate truly drops by `drop`."""
    rng = np.random.default_rng(seed)
    # where changes are so many that each unit has one, they are as large as they must be for the variance
    all_change = (drop + (drop**2 + 4 * churn.units * churn.noise) ** 0.5) / (2 * churn.units)
    size = max(churn.size, all_change)
    wins = churn.noise / (2 * size**2) / churn.units
    losses = wins + drop / size / churn.units
    counts = rng.multinomial(churn.units, [losses, wins, max(0.0, 1 - losses - wins)], IMAGINED)
    distinct, back = np.unique(counts, axis=0, return_inverse=True)
    each = max_drop / churn.units
    values = np.array([size - each, -size - each, -each, -(1 + max_drop) * churn.unseen])
    times = np.column_stack([distinct, np.ones(len(distinct))])
    p = chance_not_above_zero(np.tile(values, (len(distinct), 1)), times)
    return float((p <= alpha)[back.ravel()].mean())
