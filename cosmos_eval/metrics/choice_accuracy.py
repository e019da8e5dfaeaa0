"""Accuracy of multiple choice: the candidate with the highest score is one of the right ones.

Ties: the expectation over a random order of tied candidates. If t candidates share the highest score and r of them are
right, the item counts r / t. A model that scores everything alike gets the share of right candidates, which is chance.
Without ties and with one right candidate, it is clip-benchmark's `text_acc` of caption selection.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ChoiceCorrectness:
    """Whether items are right, for I items."""

    expected: np.ndarray
    """(I,) float64: probability that a right candidate is first if ties are in random order."""
    margin: np.ndarray
    """(I,) float32: highest score of a right candidate minus that of a wrong one."""
    chosen: np.ndarray
    """(I,) int64: position in the item of the candidate with the highest score, the first of tied ones. Only for
    display: no metric uses it."""
    chance: np.ndarray
    """(I,) float64: share of right candidates."""


def choice_accuracy(scores: np.ndarray, starts: np.ndarray, is_right: np.ndarray) -> ChoiceCorrectness:
    """Decide which items are right.

    Args:
        scores: (P,) float32 score of each candidate, item after item.
        starts: (I,) position of the first candidate of each item, ascending from 0.
        is_right: (P,) bool; each item has a right and a wrong candidate.

    Returns:
        The correctness of each item.

    Raises:
        ValueError: a score is not finite (names the candidate), lengths differ, or an item lacks a right or a wrong
            candidate.
    """
    if scores.shape != is_right.shape or scores.ndim != 1 or not len(starts) or starts[0] != 0:
        raise ValueError(f"scores and right candidates must have one length, got {scores.shape} and {is_right.shape}")
    not_finite = np.flatnonzero(~np.isfinite(scores))
    if len(not_finite):
        raise ValueError(f"the score of candidate {int(not_finite[0])} is {scores[not_finite[0]]}; it must be finite")
    counts = np.diff(np.r_[starts, len(scores)])
    right_counts = np.add.reduceat(is_right.astype(np.int64), starts)
    incomplete = np.flatnonzero((right_counts < 1) | (right_counts >= counts))
    if len(incomplete):
        raise ValueError(f"item {int(incomplete[0])} needs a right and a wrong candidate")
    item = np.repeat(np.arange(len(starts)), counts)
    best = np.maximum.reduceat(scores, starts)
    is_best = scores == best[item]
    tied = np.add.reduceat(is_best.astype(np.int64), starts)
    tied_right = np.add.reduceat((is_best & is_right).astype(np.int64), starts)
    best_right = np.maximum.reduceat(np.where(is_right, scores, -np.inf), starts)
    best_wrong = np.maximum.reduceat(np.where(is_right, -np.inf, scores), starts)
    positions = np.flatnonzero(is_best)
    first_best = positions[np.searchsorted(positions, starts)]
    return ChoiceCorrectness(
        tied_right / tied, (best_right - best_wrong).astype(np.float32), first_best - starts, right_counts / counts
    )
