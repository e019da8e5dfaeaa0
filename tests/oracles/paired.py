"""Paired tests the slow way: every outcome written out, or exact fractions."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import product

import numpy as np


def chance_not_above_zero(values: Sequence[Fraction]) -> Fraction:
    """P(sum of v_j E_j <= 0) for different v_j, none of them zero, and independent exponential E_j.

    The sum's density is a mixture of the exponentials' own, by partial fractions of prod 1 / (1 - v_j s).
    """
    below = Fraction(0)
    for j, v in enumerate(values):
        if v < 0:
            share = Fraction(1)
            for k, w in enumerate(values):
                share *= Fraction(1) if k == j else v / (v - w)
            below += share
    return below


def mcnemar(losses: int, wins: int) -> Fraction:
    """Of all ways in which the changed samples could have changed, the share with as many losses or more."""
    changed = losses + wins
    return Fraction(sum(sum(way) >= losses for way in product((0, 1), repeat=changed)), 2**changed)


def p_of_drop(
    baseline: np.ndarray, candidate: np.ndarray, unit: np.ndarray, weights: np.ndarray, max_drop: float, draws: int
) -> float:
    """The bootstrap as it is told: draw a weight for every unit and for the one that was not seen, many times."""
    rng = np.random.default_rng(0)
    units = sorted(set(unit.tolist()))
    drop = {u: float(sum(w * (b - c) for w, b, c, v in zip(weights, baseline, candidate, unit, strict=True) if v == u))
            for u in units}  # fmt: skip
    size = {u: float(sum(w for w, v in zip(weights, unit, strict=True) if v == u)) for u in units}
    unseen = max(size.values())
    below = 0
    for _ in range(draws):
        drawn = rng.exponential(size=len(units) + 1)
        excess = sum(e * (drop[u] - max_drop * size[u]) for e, u in zip(drawn, units, strict=False))
        below += excess - drawn[-1] * (1 + max_drop) * unseen <= 0
    return below / draws


def mean_iou(weights: Sequence[float], areas: np.ndarray) -> float:
    """Of (U, C, 3) areas (intersection, prediction, label), image u counted weights[u] times."""
    ious = []
    for c in range(areas.shape[1]):
        inside, predicted, labelled = (sum(w * areas[u, c, k] for u, w in enumerate(weights)) for k in range(3))
        if predicted + labelled > 0:
            ious.append(inside / (predicted + labelled - inside))
    return float(np.mean(ious))
