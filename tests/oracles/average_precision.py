"""Slow oracle of average precision: every threshold, image by image, in exact fractions."""

from collections.abc import Sequence
from fractions import Fraction


def average_precision(
    scores: Sequence[float], labels: Sequence[int], weights: Sequence[Fraction | int] | None = None
) -> Fraction:
    """Sum over the different scores, highest first, of (recall - recall before) * precision; without labels below 0."""
    weights = weights or [1] * len(scores)
    images = [i for i, label in enumerate(labels) if label >= 0]
    total = sum(weights[i] for i in images if labels[i] == 1)
    result, recall_before = Fraction(0), Fraction(0)
    for threshold in sorted({scores[i] for i in images}, reverse=True):
        found = [i for i in images if scores[i] >= threshold]
        right = sum(weights[i] for i in found if labels[i] == 1)
        recall = Fraction(right) / Fraction(total)
        result += (recall - recall_before) * Fraction(right) / Fraction(sum(weights[i] for i in found))
        recall_before = recall
    return result
