"""Slow oracles of mid-p bounds and effective sample sizes: exact fractions, and loops over hits and units."""

from collections import defaultdict
from collections.abc import Sequence
from fractions import Fraction
from math import comb


def tail(hits: int, n: int, share: Fraction) -> Fraction:
    """P(X > hits) + P(X = hits) / 2 for X ~ Binomial(n, share)."""

    def probability(k: int) -> Fraction:
        return comb(n, k) * share**k * (1 - share) ** (n - k)

    return sum((probability(k) for k in range(hits + 1, n + 1)), Fraction(0)) + probability(hits) / 2


def lower(hits: int, n: int, level: Fraction = Fraction(1, 40), halvings: int = 40) -> float:
    """The proportion at which `tail` is `level`, by bisection."""
    if hits == 0:
        return 0.0
    low, high = Fraction(0), Fraction(1)
    for _ in range(halvings):
        middle = (low + high) / 2
        low, high = (middle, high) if tail(hits, n, middle) < level else (low, middle)
    return float(low)


def effective_n(values: Sequence[float], unit: Sequence[int], unseen: float, worst: float) -> float:
    """Effective n of an unweighted mean, with `unseen` more units in which every outcome is `worst`."""
    n = len(values)
    value = sum(values) / n
    values_of_unit = defaultdict(list)
    for outcome, u in zip(values, unit, strict=True):
        values_of_unit[u].append(outcome)
    variance = sum(sum((outcome - value) / n for outcome in own) ** 2 for own in values_of_unit.values())
    weights = [len(own) / n for own in values_of_unit.values()]
    variance_of_whole_units = sum(weight**2 for weight in weights) * value * (1 - value)
    # an unseen unit is as large as the unit that a random sample belongs to
    unseen_variance = unseen * sum(weight * weight**2 for weight in weights) * (worst - value) ** 2
    units = 1 / sum(weight**2 for weight in weights)  # the effective number of units (Kish)
    if variance + unseen_variance == 0:
        return units
    return units * (variance_of_whole_units + unseen_variance) / (variance + unseen_variance)
