"""Drop of a mean average precision between two models: a paired bootstrap over images, from the scores of each image.

Average precision is not a mean over images: the precision at a positive depends on all images above it. So the exact
test of `cosmos_eval.metrics.paired_drop` does not apply, but its method does, as for the mean IoU
(`cosmos_eval.metrics.paired_iou`): exponential weights of the images, the same to both models, so that no class ever
loses all of its positives; and one unseen image that speaks most against a drop. It is ranked with the others in each
resample: to first order, it could take off more than there is where a class has few positives.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cosmos_eval.metrics.average_precision import RankedClass, rank_class
from cosmos_eval.metrics.bootstrap_drop import BootstrapDrop
from cosmos_eval.progress import current_reporter, report_if_slow

BLOCK = 64
"""Resamples that are computed at a time: rows of the weights of that many are quick to gather and to add."""


@dataclass(frozen=True)
class ResampledPrecision:
    """The mean average precision of one model under weights of the images (a `ResampledMetric`)."""

    names: np.ndarray
    """(U,) names of the distinct images."""
    image: np.ndarray
    """(N,) index in `names` of each image of the rankings."""
    rankings: tuple[RankedClass, ...]

    def kinds(self) -> np.ndarray:
        return np.arange(len(self.names))

    def take(self, units: np.ndarray) -> "ResampledPrecision":
        if not np.array_equal(units, np.arange(len(self.names))):
            raise ValueError("an average precision needs all of its images")
        return self

    def values(self, weights: np.ndarray) -> np.ndarray:
        return _mean_precision(self.rankings, np.ascontiguousarray(weights.T[self.image]))


@dataclass(frozen=True)
class PairedLabelScores:
    """Scores of both models for the same N images and C classes, whose mean average precision is the metric."""

    baseline: np.ndarray
    """(N, C) scores."""
    candidate: np.ndarray
    """(N, C) scores."""
    labels: np.ndarray
    """(N, C) integers: 1 positive, 0 negative, below 0 left out. Each class has a positive."""
    image_names: np.ndarray | None = None
    """(N,) name of each image (`cosmos_eval.metrics.paired_samples.name_units`); None: no other benchmark has it."""

    def of_model(self, number: int) -> "ResampledPrecision":
        """Return the metric of one model (0 the baseline, 1 the candidate) under random weights of the images."""
        names = self.image_names
        if names is None:
            names = np.array([f"{id(self)} {image}" for image in range(self.images)], dtype=object)
        distinct, image = np.unique(names.astype(str), return_inverse=True)
        rankings = _rank_all((self.baseline, self.candidate)[number], self.labels)
        return ResampledPrecision(distinct.astype(object), image, tuple(rankings))

    @property
    def images(self) -> int:
        return len(self.labels)

    def swapped(self) -> "PairedLabelScores":
        """Return the scores with baseline and candidate swapped, for a test of a gain."""
        return PairedLabelScores(self.candidate, self.baseline, self.labels, self.image_names)

    def bootstrap_drop(self, resamples: int, seed: int) -> BootstrapDrop:
        """Bootstrap the drop of the mean average precision.

        Args:
            resamples: number of resamples R, at least 2.
            seed: of the random weights.

        Raises:
            ValueError: fewer than 2 resamples, no classes, or a class without a positive.
        """
        images, classes = self.labels.shape
        if resamples < 2 or not classes:
            raise ValueError(f"needs at least 2 resamples and 1 class, got {resamples} and {classes}")
        # The worst candidate has all negatives above all positives, none of them tied.
        worst_scores = np.where(self.labels > 0, -1.0 - np.arange(images)[:, None], 0.0)
        models = [_rank_all(scores, self.labels) for scores in (self.baseline, self.candidate, worst_scores)]
        against = [self._rank_with_unseen(models[0], candidate, scores) for candidate, scores in
                   ((models[1], self.candidate), (models[2], worst_scores))]  # fmt: skip
        rng = np.random.default_rng(seed)
        drops, drops_with_unseen, least_drops = np.empty((3, resamples))
        with report_if_slow(current_reporter(), "resampling images", resamples, "resamples") as advance:
            for start in range(0, resamples, BLOCK):
                stop = min(start + BLOCK, resamples)
                weights = rng.standard_exponential((stop - start, images))
                weights /= weights.mean(1, keepdims=True)
                with_unseen = np.concatenate([weights, rng.standard_exponential((stop - start, 1))], axis=1)
                with_unseen = np.ascontiguousarray(with_unseen.T)
                drops[start:stop] = _drop((models[0], models[1]), with_unseen[:-1])
                drops_with_unseen[start:stop] = _drop(against[0], with_unseen)
                least_drops[start:stop] = _drop(against[1], with_unseen)
                advance(stop - start)
        ones = np.ones((images + 1, 1))
        values = [float(_mean_precision(model, ones[:-1])[0]) for model in models[:2]]
        influence = [_influence_of_images(model, images) for model in models[:2]]
        return BootstrapDrop(
            values=(values[0], values[1]),
            resampled=drops,
            unseen=drops - drops_with_unseen,
            influence=influence[0] - influence[1],
            worst=values[0] - values[1] - float(_drop(against[0], ones)[0]),
            worst_candidate=least_drops,
        )

    def _rank_with_unseen(
        self, baseline: Sequence[RankedClass], candidate: Sequence[RankedClass], candidate_scores: np.ndarray
    ) -> tuple[list[RankedClass], list[RankedClass]]:
        """Rank all images and the unseen one, the last, for the baseline and a candidate.

        It is labelled like the sampled image that could take most off the drop. For a class that it has, the baseline
        ranks it last and the candidate first; for a class that it lacks, the other way.
        """
        gains = _unseen_gains(baseline, candidate, self.labels)
        unseen_labels = self.labels[int(gains.argmax())]
        labels = np.concatenate([self.labels, unseen_labels[None]])
        rankings = []
        for scores, is_first in ((self.baseline, unseen_labels <= 0), (candidate_scores, unseen_labels > 0)):
            unseen_scores = np.where(is_first, scores.max(0) + 1, scores.min(0) - 1)
            rankings.append(_rank_all(np.concatenate([scores, unseen_scores[None]]), labels))
        return rankings[0], rankings[1]


def _rank_all(scores: np.ndarray, labels: np.ndarray) -> list[RankedClass]:
    rankings = []
    for c in range(labels.shape[1]):
        ranking = rank_class(scores[:, c], labels[:, c])
        if ranking is None:
            raise ValueError(f"class {c} has no positive image")
        rankings.append(ranking)
    return rankings


def _mean_precision(rankings: Sequence[RankedClass], weights: np.ndarray) -> np.ndarray:
    """(R,) mean average precision under (N, R) weights, which are all positive."""
    total = np.zeros(weights.shape[1])
    for ranking in rankings:
        total += ranking.average_precision(weights)
    return total / len(rankings)


def _drop(models: tuple[Sequence[RankedClass], Sequence[RankedClass]], weights: np.ndarray) -> np.ndarray:
    """(R,) drop of the mean average precision from the first to the second model."""
    return _mean_precision(models[0], weights) - _mean_precision(models[1], weights)


def _influence_of_images(rankings: Sequence[RankedClass], images: int) -> np.ndarray:
    """(N,) derivative of the mean average precision with respect to the weight of each image.

    With p, t and n the positives of a segment, the positives up to its end and all images up to its end, AP is the sum
    of p t / n over the segments, divided by the number of positives P. An image takes part in n of its own segment and
    all later ones, a positive in t of them, too, and in p of its own.
    """
    influence = np.zeros(images)
    for ranking in rankings:
        positives, found, ranked = (sums[:, 0] for sums in ranking.weigh(np.ones((images, 1))))
        count = len(ranking.positive_image)
        precision = found / ranked
        value = (positives * precision).sum() / count
        by_ranked = _sum_from(positives * precision / ranked)  # of its own segment and all later ones
        by_found = _sum_from(positives / ranked)
        segment = np.repeat(np.arange(len(ranking.start)), np.diff(np.r_[ranking.start, len(ranking.image)]))
        influence[ranking.image] -= by_ranked[segment] / count
        segment = np.repeat(np.arange(len(ranking.start)), positives.astype(np.int64))
        influence[ranking.positive_image] += (precision[segment] + by_found[segment] - value) / count
    return influence / len(rankings)


def _sum_from(values: np.ndarray) -> np.ndarray:
    """(G,) sum of each value and all later ones."""
    return values[::-1].cumsum()[::-1]


def _unseen_gains(baseline: Sequence[RankedClass], candidate: Sequence[RankedClass], labels: np.ndarray) -> np.ndarray:
    """(N,) how much one more image, labelled like each image, could take off the drop, to first order."""
    images = len(labels)
    gain_if_positive, gain_if_negative = np.zeros(labels.shape[1]), np.zeros(labels.shape[1])
    for c, (ours, theirs) in enumerate(zip(baseline, candidate, strict=True)):
        count, counted = len(ours.positive_image), int((labels[:, c] >= 0).sum())
        (positives, precision, ranked), value = _segments(ours, images)
        loss = (value - count / counted) / count  # its own precision, ranked last, is the prevalence
        gain_if_negative[c] = (positives * precision / ranked).sum() / count
        (positives, precision, ranked), value = _segments(theirs, images)
        gain = (1 + (positives * (1 - precision) / ranked).sum() - value) / count
        gain_if_positive[c] = max(loss, 0.0) + gain
    gains = np.where(labels > 0, gain_if_positive, np.where(labels == 0, gain_if_negative, 0.0))
    return gains.mean(1)


def _segments(ranking: RankedClass, images: int) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], float]:
    """Positives, precision and ranked images of each segment, (G,) each, and the average precision."""
    positives, found, ranked = (sums[:, 0] for sums in ranking.weigh(np.ones((images, 1))))
    precision = found / ranked
    return (positives, precision, ranked), float((positives * precision).sum() / len(ranking.positive_image))
