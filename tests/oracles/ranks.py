"""Slow oracles of ranks with ties: loops in float64, and every order of the tied candidates."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import permutations
from math import comb

import numpy as np


def count_by_loops(scores: np.ndarray, positives: Sequence[Sequence[int]]) -> list[tuple[int, int, int]]:
    """Count the candidates above the best positive, tied with it, and the positives tied with it.

    Args:
        scores: (Q, C).
        positives: indices of the positives of each query.
    """
    counts = []
    for query_scores, query_positives in zip(scores.tolist(), positives, strict=True):
        best = max(query_scores[j] for j in query_positives)
        above = sum(score > best for score in query_scores)
        tied = sum(score == best for score in query_scores)
        counts.append((above, tied, sum(query_scores[j] == best for j in query_positives)))
    return counts


def expected_rank(better: int, tied: int, tied_positives: int) -> Fraction:
    """Mean rank of the first positive over all choices of positions for the tied positives."""
    weighted_ranks = [
        (first + 1) * comb(tied - first - 1, tied_positives - 1)  # the first positive at `first`, the others after it
        for first in range(tied - tied_positives + 1)
    ]
    return better + Fraction(sum(weighted_ranks), comb(tied, tied_positives))


def expected_hit(better: int, tied: int, tied_positives: int, k: int) -> Fraction:
    """Hypergeometric probability that a positive is among the first k."""
    left = min(max(k - better, 0), tied)
    return 1 - Fraction(comb(tied - tied_positives, left), comb(tied, left))


def by_every_order(better: int, tied: int, tied_positives: int, k: int) -> tuple[Fraction, Fraction]:
    """Return (rank, hit at k), each the mean over every order of the tied candidates."""
    ranks = [
        better + 1 + next(i for i, candidate in enumerate(order) if candidate < tied_positives)
        for order in permutations(range(tied))
    ]
    return Fraction(sum(ranks), len(ranks)), Fraction(sum(rank <= k for rank in ranks), len(ranks))


def lowest_index_first(scores: np.ndarray, positives: Sequence[Sequence[int]]) -> np.ndarray:
    """(Q,) rank of the best positive if tied candidates are in the order of their indices."""
    ranks = []
    for query_scores, query_positives in zip(scores, positives, strict=True):
        order = sorted(range(len(query_scores)), key=lambda j: (-query_scores[j], j))
        ranks.append(1 + min(order.index(j) for j in query_positives))
    return np.array(ranks)
