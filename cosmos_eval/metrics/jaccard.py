"""Jaccard index of items with several right candidates: the right ones, and as many with the highest scores.

With k right candidates, h of which are among the k with the highest scores, the index is h / (2 k - h). It is the
scikit-learn `jaccard_score` of DataComp's evaluation of WinoGAViL (Bitton et al., NeurIPS 2022).

Ties: the expectation over a random order of tied candidates. Of the t candidates that share the k-th highest score, m
are chosen, so that the number of right ones among these is hypergeometric. A model that scores everything alike gets
the index of a random choice.
"""

import numpy as np
from scipy.stats import hypergeom


def expected_jaccard(scores: np.ndarray, starts: np.ndarray, is_right: np.ndarray) -> np.ndarray:
    """Compute the Jaccard index of each item.

    Args:
        scores: (P,) finite score of each candidate, item after item.
        starts: (I,) position of the first candidate of each item, ascending from 0.
        is_right: (P,) bool; each item has a right candidate.

    Returns:
        (I,) float64 in [0, 1].
    """
    ends = np.r_[starts[1:], len(scores)]
    return np.array([_of_item(scores[a:b], is_right[a:b]) for a, b in zip(starts, ends, strict=True)])


def _of_item(scores: np.ndarray, is_right: np.ndarray) -> float:
    right = int(is_right.sum())
    threshold = np.partition(scores, len(scores) - right)[len(scores) - right]
    is_above, is_tied = scores > threshold, scores == threshold
    certain, tied, tied_right = int((is_above & is_right).sum()), int(is_tied.sum()), int((is_tied & is_right).sum())
    drawn = right - int(is_above.sum())
    if drawn == tied or tied_right in (0, tied):  # the order of tied candidates makes no difference
        sure = certain + (drawn if tied_right == tied else min(drawn, tied_right))
        return sure / (2 * right - sure)
    counts = np.arange(min(drawn, tied_right) + 1)
    hits = certain + counts
    return float((hypergeom.pmf(counts, tied, tied_right, drawn) * hits / (2 * right - hits)).sum())
