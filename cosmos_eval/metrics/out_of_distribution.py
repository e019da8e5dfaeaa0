"""Telling inputs of one distribution from others by a score: AUROC, and the false positive rate at 95 % recall.

Both are as in Hendrycks & Gimpel (ICLR 2017) and Ming et al. (NeurIPS 2022, MCM: the highest softmax probability of
CLIP's cosines): inputs of the distribution are the positives, and should have the higher scores.
"""

import numpy as np

RECALL = 0.95
"""Share of the inputs from inside that the threshold of the false positive rate keeps."""


def auroc(inside: np.ndarray, outside: np.ndarray) -> float:
    """Probability that a score from inside is above one from outside; ties count 1/2.

    Args:
        inside: (N,) scores of inputs of the distribution.
        outside: (M,) scores of others.

    Returns:
        1 if all scores from inside are higher, 1/2 for equal distributions.

    Raises:
        ValueError: no scores, or one that is not finite.
    """
    _check(inside, outside)
    return float(count_wins(inside, outside).sum() / (2 * len(inside) * len(outside)))


def count_wins(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return (N,) int64, for each score twice the number of others below it, and once that of equal ones."""
    ordered = np.sort(others)
    below, up_to = (np.searchsorted(ordered, scores, side=side) for side in ("left", "right"))
    counts: np.ndarray = below + up_to
    return counts


def fpr_at_recall(inside: np.ndarray, outside: np.ndarray, recall: float = RECALL) -> float:
    """Share of outside inputs that are taken for inside ones, at the highest threshold that keeps enough of the latter.

    Args:
        inside, outside: as for `auroc`.
        recall: the share of the inputs from inside whose score must be at the threshold or above.

    Returns:
        0 if the two are apart; 1 for a constant score.

    Raises:
        ValueError: no scores, or one that is not finite.
    """
    _check(inside, outside)
    threshold = np.sort(inside)[::-1][count_kept(len(inside), recall) - 1]
    return float((outside >= threshold).mean())


def count_kept(n: int, recall: float = RECALL) -> int:
    """Return how many of n scores from inside are at the threshold or above."""
    return max(1, int(np.ceil(recall * n - 1e-9)))


def _check(inside: np.ndarray, outside: np.ndarray) -> None:
    for name, scores in (("inside", inside), ("outside", outside)):
        if not len(scores):
            raise ValueError(f"no scores from {name}")
        not_finite = np.flatnonzero(~np.isfinite(scores))
        if len(not_finite):
            raise ValueError(f"the score {not_finite[0]} from {name} is {scores[not_finite[0]]}; it must be finite")
