"""Average precision of multi-label classification, as scikit-learn's `average_precision_score` defines it.

The images are ranked by their score for a class. With R and P the recall and the precision among the images that score
at least a threshold, AP = sum over the thresholds n of (R_n - R_(n-1)) P_n: no interpolation, unlike VOC's own 11-point
measure of 2007. In other words, AP is the mean over the positive images of the precision at their score.

Ties are scikit-learn's: images of equal score pass a threshold together. So a model that scores all images alike has
the share of positive images (the prevalence) as its AP, which is chance; this is not the mean over the orders of tied
images, which is slightly higher. clip-benchmark sorts and thus depends on the order of the images; without ties its
`average_precision_per_class` is the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cosmos_eval.metrics.bootstrap import Estimator


@dataclass(frozen=True)
class RankedClass:
    """The ranking of the images for one class, reduced to what its average precision depends on.

    Images that score below all positives do not matter. The others form G segments, best first: each ends with the
    images of one score that a positive has, and holds the negatives between the score before and this one, too.
    """

    image: np.ndarray
    """(K,) int64, the images of all segments, best first."""
    start: np.ndarray
    """(G,) int64, position in `image` where each segment starts."""
    positive_image: np.ndarray
    """(P,) int64, the positive images, best first; at least one."""
    positive_start: np.ndarray
    """(G,) int64, position in `positive_image` of the first positive of each segment."""

    def weigh(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sum the weights of images over segments.

        Args:
            weights: (N, R) weight of each image in each of R resamples, not negative. Images are rows, since whole rows
                are gathered and added much faster than columns.

        Returns:
            (G, R) each: weight of the positives of a segment, of all positives up to its end, of all images up to its
            end.
        """
        positives = np.add.reduceat(weights[self.positive_image], self.positive_start, axis=0)
        ranked = np.add.reduceat(weights[self.image], self.start, axis=0).cumsum(0)
        return positives, positives.cumsum(0), ranked

    def average_precision(self, weights: np.ndarray) -> np.ndarray:
        """Compute the average precision under weights of the images.

        Args:
            weights: (N, R), as for `weigh`.

        Returns:
            (R,) float64 in [0, 1]; NaN where no positive has weight.
        """
        positives, found, ranked = self.weigh(weights)
        precision = np.divide(found, ranked, out=np.zeros_like(found), where=ranked > 0)
        sums, total = (positives * precision).sum(0), found[-1]
        return np.divide(sums, total, out=np.full_like(sums, np.nan), where=total > 0)

    @cached_property
    def precisions(self) -> np.ndarray:
        """(P,) precision at the score of each positive image, in the order of `positive_image`; their mean is AP."""
        images = 1 + int(max(self.image.max(), self.positive_image.max()))
        positives, found, ranked = (sums[:, 0] for sums in self.weigh(np.ones((images, 1))))
        return np.repeat(found / ranked, positives.astype(np.int64))


def rank_class(scores: np.ndarray, labels: np.ndarray) -> RankedClass | None:
    """Rank the images by their score for one class.

    Args:
        scores: (N,) score of each image.
        labels: (N,) integers: 1 positive, 0 negative, below 0 left out.

    Returns:
        The ranking; None without a positive, where there is no average precision.

    Raises:
        ValueError: a score is not finite; names the first image.
    """
    not_finite = np.flatnonzero(~np.isfinite(scores))
    if len(not_finite):
        raise ValueError(f"the score of image {int(not_finite[0])} is {scores[not_finite[0]]}; scores must be finite")
    images = np.flatnonzero(labels >= 0)
    order = images[np.argsort(-scores[images], kind="stable")]
    is_positive = labels[order] > 0
    if not is_positive.any():
        return None
    sorted_scores = scores[order]
    # Each image's group of equal scores, then the groups that have a positive: a segment ends with each of them.
    group = np.cumsum(np.r_[0, np.diff(sorted_scores) != 0])
    positive_group = group[is_positive]
    positive_start = np.flatnonzero(np.r_[True, np.diff(positive_group) != 0])
    ends = np.searchsorted(group, positive_group[positive_start], side="right")
    return RankedClass(
        image=order[: ends[-1]],
        start=np.r_[0, ends[:-1]],
        positive_image=order[is_positive],
        positive_start=positive_start,
    )


def rank_classes(scores: np.ndarray, labels: np.ndarray) -> list[RankedClass | None]:
    """Rank the images for each class.

    Args:
        scores: (N, C) score of each image for each class.
        labels: (N, C) integers: 1 positive, 0 negative, below 0 left out for this class.

    Returns:
        C rankings, as `rank_class` returns them.

    Raises:
        ValueError: shapes differ, or a score is not finite.
    """
    if scores.shape != labels.shape or scores.ndim != 2:
        raise ValueError(f"scores and labels must have one shape (N, C), got {scores.shape} and {labels.shape}")
    return [rank_class(scores[:, c], labels[:, c]) for c in range(scores.shape[1])]


def average_precision(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Average precision of each class.

    Args:
        scores: (N, C) score of each image for each class.
        labels: (N, C) integers: 1 positive, 0 negative, below 0 left out for this class.

    Returns:
        (C,) float64; NaN for a class without a positive (scikit-learn: 0 and a warning), which no mean counts.

    Raises:
        ValueError: as `rank_classes`.
    """
    ones = np.ones((len(scores), 1))
    rankings = rank_classes(scores, labels)
    return np.array([np.nan if ranking is None else float(ranking.average_precision(ones)[0]) for ranking in rankings])


class ResampledPrecisions:
    """Average precisions in a bootstrap resample, computed once for all metrics of that resample.

    `bootstrap_intervals` calls every estimator with the same array of draws, then all of them with the next one.

    Args:
        rankings: of the classes that have a positive.
    """

    def __init__(self, rankings: Sequence[RankedClass]) -> None:
        self.rankings = rankings
        self.drawn: np.ndarray | None = None
        self.values = np.zeros(0)

    def of(self, drawn: np.ndarray) -> np.ndarray:
        """(C,) average precisions, image i counted `drawn[i]` times; NaN for a class without a positive then."""
        if self.drawn is not drawn:
            self.drawn = drawn
            self.values = np.array([ranking.average_precision(drawn[:, None])[0] for ranking in self.rankings])
        return self.values

    def mean(self) -> Estimator:
        """Return the estimator of the mean over the classes that have a positive in the resample."""

        def estimate(drawn: np.ndarray) -> float:
            values = self.of(drawn)
            known = values[~np.isnan(values)]
            return float(known.mean()) if len(known) else np.nan

        return estimate

    def of_class(self, c: int) -> Estimator:
        """Return the estimator of class `c`."""
        return lambda drawn: float(self.of(drawn)[c])
