"""Ranks under ties the slow way: count with loops in float64, then try every order of the tied candidates."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import permutations
from math import comb

import numpy as np


def places(scores: np.ndarray, positives: Sequence[Sequence[int]]) -> list[tuple[int, int, int]]:
    """(better, tied, tied positives) of the best positive of each row of (Q, C) scores."""
    found = []
    for row, own in zip(scores.tolist(), positives, strict=True):
        best = max(row[j] for j in own)
        better = sum(score > best for score in row)
        tied = sum(score == best for score in row)
        found.append((better, tied, sum(row[j] == best for j in own)))
    return found


def expected_rank(better: int, tied: int, tied_positives: int) -> Fraction:
    """Mean place of the first positive over all choices of places for the positives."""
    places = [
        (first + 1) * comb(tied - first - 1, tied_positives - 1)  # the first positive at `first`, the others after it
        for first in range(tied - tied_positives + 1)
    ]
    return better + Fraction(sum(places), comb(tied, tied_positives))


def expected_hit(better: int, tied: int, tied_positives: int, k: int) -> Fraction:
    left = min(max(k - better, 0), tied)
    return 1 - Fraction(comb(tied - tied_positives, left), comb(tied, left))


def by_every_order(better: int, tied: int, tied_positives: int, k: int) -> tuple[Fraction, Fraction]:
    """(rank, hit at k): the mean over every order of the tied candidates."""
    ranks = [
        better + 1 + next(i for i, candidate in enumerate(order) if candidate < tied_positives)
        for order in permutations(range(tied))
    ]
    return Fraction(sum(ranks), len(ranks)), Fraction(sum(rank <= k for rank in ranks), len(ranks))


def lowest_index_first(scores: np.ndarray, positives: Sequence[Sequence[int]]) -> np.ndarray:
    """(Q,) place of the best positive when equal scores keep the order of their indices."""
    found = []
    for row, own in zip(scores, positives, strict=True):
        order = sorted(range(len(row)), key=lambda j: (-row[j], j))
        found.append(1 + min(order.index(j) for j in own))
    return np.array(found)
