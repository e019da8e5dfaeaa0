"""Accuracies the slow way: one sample after the other, every order of the tied classes."""

from fractions import Fraction
from itertools import permutations

import numpy as np


def topk(scores: np.ndarray, label: int, k: int) -> Fraction:
    """Probability that `label` is among the first k of (C,) scores, over every order of those that tie with it."""
    better = int(sum(scores > scores[label]))
    tied = [c for c in range(len(scores)) if scores[c] == scores[label]]
    orders = list(permutations(tied))
    return Fraction(sum(better + order.index(label) < k for order in orders), len(orders))


def mean_per_class(values: list[float], labels: list[int]) -> float:
    means = []
    for c in sorted(set(labels)):
        own = [value for value, label in zip(values, labels, strict=True) if label == c]
        means.append(sum(own) / len(own))
    return sum(means) / len(means)
