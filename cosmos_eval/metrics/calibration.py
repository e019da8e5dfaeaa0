"""Whether a model's probabilities can be believed: expected calibration error and reliability (Guo et al., ICML 2017).

The probabilities of a query's candidates are the softmax of its scores times the model's own logit scale, the
temperature that it was trained with. The confidence is the highest of them.
"""

from dataclasses import dataclass

import numpy as np
import torch

from cosmos_core.devices import to_float64
from cosmos_eval.metrics.query_scores import QueryScores

BINS = 15
"""Bins of equal width, as in the paper."""


@dataclass(frozen=True)
class TopPredictions:
    """The first candidate of each of Q queries."""

    confidence: np.ndarray
    """(Q,) float64: its probability."""
    correct: np.ndarray
    """(Q,) float64: probability that it is right if tied candidates are in random order."""
    score: np.ndarray
    """(Q,) float32: its score."""


@dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy, in bins of equal width; bins without a query have NaN."""

    count: np.ndarray
    """(B,) int64"""
    confidence: np.ndarray
    """(B,) mean confidence of a bin's queries."""
    accuracy: np.ndarray
    """(B,) share of them that are right."""

    @property
    def error(self) -> float:
        """Expected calibration error: the mean over all queries of the difference of their bin, in [0, 1]."""
        difference = np.abs(np.nan_to_num(self.confidence - self.accuracy))
        return float((self.count * difference).sum() / self.count.sum())


def top_predictions(scores: QueryScores, pairs: np.ndarray, logit_scale: float) -> TopPredictions:
    """Find the first candidate of every query, with its probability.

    Args:
        scores: of Q queries against C candidates.
        pairs: (P, 2) int64, index of a query and of a candidate that is right for it; a query may have several or none.
        logit_scale: what scores are multiplied by before the softmax; positive and finite.

    Raises:
        ValueError: the scale is not positive and finite.
    """
    if not 0 < logit_scale < np.inf:
        raise ValueError(f"logit_scale must be positive and finite, got {logit_scale}")
    order = np.argsort(pairs[:, 0], kind="stable")
    queries, candidates = pairs[order].T
    column = scores.column.cpu()
    right_columns = column[torch.from_numpy(candidates)]
    parts: list[tuple[torch.Tensor, ...]] = []
    for start, stop, block in scores.blocks():
        logits = to_float64(block) * logit_scale
        block, copies = block.to(logits.device), scores.copies.to(logits.device).double()
        highest = block.amax(1, keepdim=True)
        is_highest = block == highest
        # candidates that share a column each have the probability of one
        total = torch.logsumexp(logits + copies.log(), 1)
        confidence = (logits.amax(1) - total).exp()
        first, last = np.searchsorted(queries, [start, stop])
        rows = torch.from_numpy(queries[first:last]) - start
        right = torch.zeros(stop - start, dtype=torch.float64)
        is_right_highest = is_highest.cpu()[rows, right_columns[first:last]].double()
        right.index_add_(0, rows, is_right_highest)
        tied = (is_highest * copies).sum(1).cpu()
        parts.append((confidence.cpu(), right / tied, highest[:, 0].float().cpu()))
    return TopPredictions(*(torch.cat(values).numpy() for values in zip(*parts, strict=True)))


def reliability(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> Reliability:
    """Group queries by confidence.

    Args:
        confidence: (Q,) in [0, 1]; bin b has those above b / bins up to (b + 1) / bins, and 0 is in the first.
        correct: (Q,) in [0, 1].
        bins: number of bins, at least 1.

    Raises:
        ValueError: no query, lengths differ, or a confidence outside [0, 1] or not finite.
    """
    if not len(confidence) or confidence.shape != correct.shape or bins < 1:
        raise ValueError(f"needs queries and bins, got {confidence.shape}, {correct.shape} and {bins}")
    if not ((confidence >= 0) & (confidence <= 1 + 1e-9)).all():
        raise ValueError("a confidence is not in [0, 1]")
    index = number_bins(confidence, bins)
    count = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(index, weights=values, minlength=bins) / count for values in (confidence, correct)]
    return Reliability(count, *means)


def number_bins(confidence: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Return (Q,) int64, the bin of each confidence, from 0."""
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
