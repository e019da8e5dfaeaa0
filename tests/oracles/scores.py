"""Scores, one pair after the other: late interaction token by token, and two-stage ranking by sorting."""

from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

Score = Callable[[int, int], float]


def score_all(images: int, texts: int, score: Score) -> np.ndarray:
    """(N, M) float64: every pair scored by itself."""
    return np.array([[score(i, j) for j in range(texts)] for i in range(images)], dtype=np.float64)


def late_interaction(image: np.ndarray, text: np.ndarray) -> float:
    """The mean over a text's tokens of the largest dot product with an image's token (FILIP's text-to-image score)."""
    best = [max(sum(a * b for a, b in zip(token, patch, strict=True)) for patch in image) for token in text]
    return float(sum(best) / len(best))


def unit(tokens: np.ndarray) -> np.ndarray:
    """Each vector of length one; zeros stay zeros."""
    rows = tokens.reshape(-1, tokens.shape[-1]).astype(np.float64)
    return np.array([row / np.sqrt((row**2).sum()) if row.any() else row for row in rows]).reshape(tokens.shape)


def rerank(first: Sequence[float], second: Sequence[float], k: int) -> list[tuple[int, float]]:
    """A key for each candidate of one query, to be compared: (1, second score) for those that are scored again, else
    (0, first score). Those are the best k, without a group of equal ones that does not fit as a whole."""
    keys = []
    for score in first:
        at_least_as_good = sum(other >= score for other in first)
        keys.append(at_least_as_good <= k)
    return [(1, b) if again else (0, a) for a, b, again in zip(first, second, keys, strict=True)]


def places(keys: Sequence[tuple[int, float]], positives: Sequence[int]) -> tuple[int, int, int]:
    """(better, tied, tied positives) of the best positive."""
    best = max(keys[j] for j in positives)
    tied = [j for j, key in enumerate(keys) if key == best]
    return sum(key > best for key in keys), len(tied), sum(j in positives for j in tied)


def mean_of_prompts(scores: Sequence[float], prompts_of: Sequence[Sequence[int]]) -> list[Fraction]:
    """The mean score of each class's prompts."""
    return [sum(Fraction(scores[j]) for j in own) / len(own) for own in prompts_of]
