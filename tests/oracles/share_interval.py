"""Mid-p bounds and design effects the slow way: exact fractions, loops over hits, units and pairs of samples."""

from collections import defaultdict
from collections.abc import Sequence
from fractions import Fraction
from math import comb


def tail(hits: int, n: int, share: Fraction) -> Fraction:
    """P(X > hits) + P(X = hits) / 2."""

    def chance(k: int) -> Fraction:
        return comb(n, k) * share**k * (1 - share) ** (n - k)

    return sum((chance(k) for k in range(hits + 1, n + 1)), Fraction(0)) + chance(hits) / 2


def lower(hits: int, n: int, level: Fraction = Fraction(1, 40), halvings: int = 40) -> float:
    """The share at which that is `level`."""
    if hits == 0:
        return 0.0
    low, high = Fraction(0), Fraction(1)
    for _ in range(halvings):
        middle = (low + high) / 2
        low, high = (middle, high) if tail(hits, n, middle) < level else (low, middle)
    return float(low)


def effective_n(values: Sequence[float], unit: Sequence[int], unseen: float, worst: float) -> float:
    """Of a plain mean: value (1 - value) over the variance between units, with `unseen` units of outcome `worst`."""
    n = len(values)
    value = sum(values) / n
    of_unit = defaultdict(list)
    for one, u in zip(values, unit, strict=True):
        of_unit[u].append(one)
    variance = sum(sum((one - value) / n for one in own) ** 2 for own in of_unit.values())
    whole = sum((len(own) / n) ** 2 for own in of_unit.values()) * value * (1 - value)
    # an unseen unit weighs as the one does that a random sample belongs to
    more = unseen * sum(len(own) / n * (len(own) / n) ** 2 for own in of_unit.values()) * (worst - value) ** 2
    kish = 1 / sum((len(own) / n) ** 2 for own in of_unit.values())
    return kish * (whole + more) / (variance + more) if variance + more > 0 else kish
