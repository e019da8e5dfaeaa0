"""The smallest drop that a paired test would find: so that a pass on too little data says so.

A candidate that truly drops by delta is imagined on the same data: it wins and loses as many units as the measured one
wins (churn, in which both sides are alike), and loses delta on top. The rates are those seen, one unseen win included;
losses and wins have one size each, such that their number and size have the measured variance. Then the chance that the
test rejects is a sum over numbers of losses and wins, and delta is raised until it is what was asked for.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from cosmos_eval.metrics.exponential_sums import chance_not_above_zero
from cosmos_eval.metrics.paired import Drops, log_factorials

POWER = 0.8
HALVINGS = 14
GRID = 33
"""Numbers of wins at which the losses that it takes are computed; between them they are interpolated."""
SPREAD = 5.0
"""Standard deviations of the number of wins that count."""


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


def detectable_drop(churn: Churn, max_drop: float = 0.0, alpha: float = 0.05, power: float = POWER) -> float:
    """The smallest true drop (a fraction) that the test at level `alpha` finds with the chance `power`; infinite where
    there is none."""
    if chance_to_find(churn, 1.0, max_drop, alpha) < power:
        return float("inf")
    low, high = max_drop, 1.0
    for _ in range(HALVINGS):
        # finer where it is small: drops of 0.01 points are asked for, and of 10
        middle = (low * high) ** 0.5 if low > 0 else high / 4 if high > 1e-4 else high / 2
        middle = max(middle, low + (high - low) / 64)
        low, high = (low, middle) if chance_to_find(churn, middle, max_drop, alpha) >= power else (middle, high)
    return high


def chance_to_find(churn: Churn, drop: float, max_drop: float, alpha: float) -> float:
    """How often the test rejects "at most `max_drop`" at level `alpha` when the candidate truly drops by `drop`."""
    units = churn.units
    # where changes are so many that each unit has one, they are as large as they must be for the variance
    size = max(churn.size, (drop + (drop**2 + 4 * units * churn.noise) ** 0.5) / (2 * units))
    win = min(churn.noise / (2 * size**2) / units, 0.5)
    loss = min(win + drop / size / units, 1 - win)
    middle, deviation = units * win, (units * win * (1 - win)) ** 0.5
    first, last = max(0, int(middle - SPREAD * deviation)), min(units, int(middle + SPREAD * deviation) + 2)
    wins = np.arange(first, last + 1)
    grid = np.unique(np.linspace(first, last, min(GRID, len(wins))).round())
    needed = np.interp(wins, grid, losses_needed(units, size, churn.unseen, max_drop, alpha, tuple(grid.tolist())))
    share_of_rest = min(1.0, loss / (1 - win)) if win < 1 else 0.0
    least = np.ceil(needed - 1e-9).astype(int)
    enough = at_least(units - wins, share_of_rest, least)
    return float(_binomial(units, win, wins) @ enough)


@lru_cache(maxsize=64)
def losses_needed(
    units: int, size: float, unseen: float, max_drop: float, alpha: float, wins: tuple[float, ...]
) -> np.ndarray:
    """For each number of wins, the smallest number of losses at which the test rejects; more than `units` for none."""
    c = np.array(wins)
    low, high = np.zeros(len(c)), units - c + 1.0
    each = max_drop / units
    values = np.tile([size - each, -size - each, -each, -(1 + max_drop) * unseen], (len(c), 1))
    while (high - low > 1).any():
        b = np.floor((low + high) / 2)
        p = chance_not_above_zero(values, np.column_stack([b, c, units - b - c, np.ones(len(c))]))
        low, high = np.where(p <= alpha, low, b), np.where(p <= alpha, b, high)
        low = np.where(high - low <= 1, high - 1, low)
    return np.where(high > units - c, units + 1.0, high)


def at_least(n: np.ndarray, p: float, k: np.ndarray) -> np.ndarray:
    """The chances that binomial variables of n trials are k or more; an incomplete beta function where 0 < k <= n."""
    from scipy.special import betainc  # not every command needs it

    inside = (k > 0) & (k <= n)
    some = np.where(inside, k, 1)
    return np.where(inside, betainc(some, np.maximum(n - some, 0) + 1, p), k <= 0)


def _binomial(n: int, p: float, k: np.ndarray) -> np.ndarray:
    """The chances of k among n."""
    if p <= 0 or p >= 1:
        return np.where(k == (0 if p <= 0 else n), 1.0, 0.0)
    log = log_factorials(n)
    return np.exp(log[n] - log[k] - log[n - k] + k * np.log(p) + (n - k) * np.log1p(-p))
