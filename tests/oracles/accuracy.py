"""Slow oracles of accuracy: sample by sample, over every order of the tied classes."""

from fractions import Fraction
from itertools import permutations

import numpy as np


def topk(scores: np.ndarray, label: int, k: int) -> Fraction:
    """Probability that `label` is among the first k of (C,) scores, over every order of the classes tied with it."""
    better = int(sum(scores > scores[label]))
    tied = [c for c in range(len(scores)) if scores[c] == scores[label]]
    orders = list(permutations(tied))
    return Fraction(sum(better + order.index(label) < k for order in orders), len(orders))


def mean_per_class(values: list[float], labels: list[int]) -> float:
    """Mean over classes of the mean value of their samples."""
    means = []
    for c in sorted(set(labels)):
        class_values = [value for value, label in zip(values, labels, strict=True) if label == c]
        means.append(sum(class_values) / len(class_values))
    return sum(means) / len(means)
