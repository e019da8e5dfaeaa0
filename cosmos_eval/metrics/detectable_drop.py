"""Smallest drop that the paired test would detect, so that "no regression" on too little data is recognised as such.

The question is the power of the test in `cosmos_eval.metrics.paired_drop`: if the candidate truly dropped by `drop` on
data like these, how often would the test reject? Formulas based on the normal distribution are far off where few
samples change between the models, so the power is computed under a simple model of the data:

- A unit (image) is lost (only the baseline has it right), won (only the candidate has) or unchanged. Every lost unit
  takes `size` from the metric, every won one adds `size`.
- Without a drop, units are lost as often as they are won. How often is derived from the variance measured between
  the two models; one unseen win is included, so that two models which agree everywhere are not taken as free of noise.
- A true drop adds lost units, drop / size in number.

Then the number of wins is binomial, and so is the number of losses given the wins. For each number of wins the smallest
number of losses at which the test rejects is found by running the test, and the power is a sum over binomial
probabilities. Nothing is drawn. The detectable drop is found by bisection of the power.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from cosmos_eval.metrics.exponential_sums import probability_at_most_zero
from cosmos_eval.metrics.paired_drop import PairedDifferences, log_factorials

POWER = 0.8
"""Probability with which the detectable drop is found."""
HALVINGS = 14
"""Steps of the bisection for the detectable drop."""
GRID = 33
"""Most numbers of wins for which the test is run; between them the needed number of losses is interpolated."""
DEVIATIONS = 5.0
"""Numbers of wins further than this many standard deviations from their mean are left out of the sum."""


@dataclass(frozen=True)
class PowerInputs:
    """What the power of a test depends on: how much two models differ on some data apart from a drop."""

    units: int
    """Number of independent units (images)."""
    noise: float
    """Variance of the measured drop (a sum over units) if the true drop is zero."""
    size: float
    """What one lost unit takes from the metric, a fraction."""
    unseen: float
    """What the unseen unit of the test adds to the metric at worst, before `max_drop` is added."""


def measure_power_inputs(differences: PairedDifferences) -> PowerInputs:
    """Measure how much two models differ, for a weighted mean of outcomes.

    Args:
        differences: between the two models, summed by unit.

    Returns:
        What `detectable_drop` needs.
    """
    changed = differences.unit_drops[differences.unit_drops != 0]
    worst = float(differences.unit_weights.max())  # the unseen unit, in which everything changes
    # Mean size of a change, each weighted by its own size: then losses of this size alone, with the measured sum, have
    # the measured sum of squares.
    size = float((np.square(changed).sum() + worst**2) / (np.abs(changed).sum() + worst))
    # Two estimates of the variance without a drop. The wins seen (and one unseen), with as many losses:
    variance_of_wins = 2 * float(np.square(differences.unit_drops[differences.unit_drops < 0]).sum()) + 2 * worst * size
    # and the variance around the measured drop, less the part that the drop / size losses of this drop add.
    variance_around_drop = float(np.square(differences.unit_drops - differences.drop * differences.unit_weights).sum())
    noise = max(variance_of_wins, variance_around_drop - size * max(differences.drop, 0.0))
    return PowerInputs(len(differences.unit_drops), noise, size, worst)


def detectable_drop(inputs: PowerInputs, max_drop: float = 0.0, alpha: float = 0.05, power: float = POWER) -> float:
    """Find the smallest true drop that the test detects with a given power.

    Args:
        inputs: how much the models differ apart from the drop.
        max_drop: fraction that the test allows.
        alpha: level of the test.
        power: probability of a rejection that is asked for.

    Returns:
        A fraction above `max_drop`; infinite where even the largest drop is found less often.
    """
    if detection_power(inputs, 1.0, max_drop, alpha) < power:
        return float("inf")
    low, high = max_drop, 1.0
    for _ in range(HALVINGS):
        # Halve on a logarithmic scale: detectable drops range from 0.01 to 10 points, and all need the same relative
        # precision. From a lower end of 0, which has no logarithm, step down by factors; never by less than 1/64.
        middle = (low * high) ** 0.5 if low > 0 else high / 4 if high > 1e-4 else high / 2
        middle = max(middle, low + (high - low) / 64)
        low, high = (low, middle) if detection_power(inputs, middle, max_drop, alpha) >= power else (middle, high)
    return high


def detection_power(inputs: PowerInputs, drop: float, max_drop: float, alpha: float) -> float:
    """Compute the power of the test: the probability that it rejects "the drop is at most `max_drop`".

    Args:
        inputs: how much the models differ apart from the drop.
        drop: the true drop, a fraction.
        max_drop: fraction that the test allows.
        alpha: level of the test.

    Returns:
        A probability.
    """
    units = inputs.units
    # Each unit changes at most once, so the expected number of changes, noise / size**2 + drop / size, cannot exceed
    # the number of units. Where it would, changes are made as large as that requires (the root of a quadratic).
    size = max(inputs.size, (drop + (drop**2 + 4 * units * inputs.noise) ** 0.5) / (2 * units))
    win_rate = min(inputs.noise / (2 * size**2) / units, 0.5)
    loss_rate = min(win_rate + drop / size / units, 1 - win_rate)
    mean, deviation = units * win_rate, (units * win_rate * (1 - win_rate)) ** 0.5
    first, last = max(0, int(mean - DEVIATIONS * deviation)), min(units, int(mean + DEVIATIONS * deviation) + 2)
    wins = np.arange(first, last + 1)
    # The losses needed rise slowly with the wins, so the expensive search is done on a grid and interpolated.
    grid = np.unique(np.linspace(first, last, min(GRID, len(wins))).round())
    needed = np.interp(
        wins, grid, find_losses_needed(units, size, inputs.unseen, max_drop, alpha, tuple(grid.tolist()))
    )
    loss_rate_without_win = min(1.0, loss_rate / (1 - win_rate)) if win_rate < 1 else 0.0
    least_losses = np.ceil(needed - 1e-9).astype(int)
    reject_probability = binomial_tail(units - wins, loss_rate_without_win, least_losses)
    return float(_binomial(units, win_rate, wins) @ reject_probability)


@lru_cache(maxsize=64)
def find_losses_needed(
    units: int, size: float, unseen: float, max_drop: float, alpha: float, wins: tuple[float, ...]
) -> np.ndarray:
    """Find the smallest number of lost units at which the test rejects, for each number of won units.

    Args:
        units: number of units, all of equal weight.
        size: what a lost unit takes from the metric.
        unseen: what the unseen unit of the test adds to the metric, before `max_drop` is added.
        max_drop: fraction that the test allows.
        alpha: level of the test.
        wins: (W,) numbers of won units; a tuple, since the result is cached.

    Returns:
        (W,) float64 whole numbers; `units` + 1 where no number of losses is enough.
    """
    win_counts = np.array(wins)
    low, high = np.zeros(len(win_counts)), units - win_counts + 1.0
    allowed = max_drop / units  # what the null hypothesis takes from each unit
    values = np.tile([size - allowed, -size - allowed, -allowed, -(1 + max_drop) * unseen], (len(win_counts), 1))
    while (high - low > 1).any():
        losses = np.floor((low + high) / 2)
        unchanged = units - losses - win_counts
        p = probability_at_most_zero(values, np.column_stack([losses, win_counts, unchanged, np.ones(len(win_counts))]))
        low, high = np.where(p <= alpha, low, losses), np.where(p <= alpha, losses, high)
        low = np.where(high - low <= 1, high - 1, low)  # finished searches stay as they are while others go on
    return np.where(high > units - win_counts, units + 1.0, high)


def binomial_tail(n: np.ndarray, p: float, k: np.ndarray) -> np.ndarray:
    """Compute the upper tail of binomial distributions.

    Args:
        n: (W,) numbers of trials.
        p: probability of a success.
        k: (W,) numbers of successes.

    Returns:
        (W,) P(X >= k): an incomplete beta function where 0 < k <= n, else 1 or 0.
    """
    from scipy.special import betainc  # imported late: most commands do not need scipy, which takes time to import

    inside = (k > 0) & (k <= n)
    k_inside = np.where(inside, k, 1)
    return np.where(inside, betainc(k_inside, np.maximum(n - k_inside, 0) + 1, p), k <= 0)


def _binomial(n: int, p: float, k: np.ndarray) -> np.ndarray:
    """(W,) probabilities of exactly k successes in n trials, by logarithms: n! overflows from n = 171 on."""
    if p <= 0 or p >= 1:
        return np.where(k == (0 if p <= 0 else n), 1.0, 0.0)
    log = log_factorials(n)
    return np.exp(log[n] - log[k] - log[n - k] + k * np.log(p) + (n - k) * np.log1p(-p))
