"""Slow oracles of paired tests: every outcome written out, or exact fractions."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import product

import numpy as np


def probability_at_most_zero(values: Sequence[Fraction]) -> Fraction:
    """P(sum of v_j E_j <= 0) for independent exponential variables E_j, and values that differ and are not zero.

    By partial fractions of the moment generating function prod 1 / (1 - v_j s), the density of the sum is a mixture of
    those of v_j E_j. The result is the sum of the weights of the negative values.
    """
    probability = Fraction(0)
    for j, v in enumerate(values):
        if v < 0:
            weight = Fraction(1)
            for k, w in enumerate(values):
                weight *= Fraction(1) if k == j else v / (v - w)
            probability += weight
    return probability


def mcnemar(losses: int, wins: int) -> Fraction:
    """McNemar's exact p-value: of all outcomes of the changed samples, the fraction with at least as many losses."""
    changed = losses + wins
    return Fraction(sum(sum(outcome) >= losses for outcome in product((0, 1), repeat=changed)), 2**changed)


def drop_p_value(
    baseline: np.ndarray, candidate: np.ndarray, unit: np.ndarray, weights: np.ndarray, max_drop: float, draws: int
) -> float:
    """p-value of a drop by drawing exponential weights of the units and of the unseen one, many times."""
    rng = np.random.default_rng(0)
    units = sorted(set(unit.tolist()))
    drop = {u: float(sum(w * (b - c) for w, b, c, v in zip(weights, baseline, candidate, unit, strict=True) if v == u))
            for u in units}  # fmt: skip
    size = {u: float(sum(w for w, v in zip(weights, unit, strict=True) if v == u)) for u in units}
    unseen = max(size.values())
    at_most_max_drop = 0
    for _ in range(draws):
        random_weights = rng.exponential(size=len(units) + 1)
        excess = sum(e * (drop[u] - max_drop * size[u]) for e, u in zip(random_weights, units, strict=False))
        at_most_max_drop += excess - random_weights[-1] * (1 + max_drop) * unseen <= 0
    return at_most_max_drop / draws


def mean_iou(weights: Sequence[float], counts: np.ndarray) -> float:
    """Mean IoU of (U, C, 3) pixel counts (intersection, prediction, label); image u counts weights[u] times."""
    ious = []
    for c in range(counts.shape[1]):
        intersection, predicted, labelled = (sum(w * counts[u, c, k] for u, w in enumerate(weights)) for k in range(3))
        if predicted + labelled > 0:
            ious.append(intersection / (predicted + labelled - intersection))
    return float(np.mean(ious))
