"""The drop of a mean IoU between two models, from the areas of every image: a paired bootstrap.

Mean IoU is no mean over images: areas are summed over the set, divided class by class, and averaged. So the weights
of the bootstrap go on images, the same for both models, and both mean IoUs are computed anew in every resample. The
test is that of `cosmos_eval.metrics.paired`: weights from the exponential distribution, under which no class ever drops
out, and beside the images that were seen one that was not and speaks most against the drop, to first order.
"""

from dataclasses import dataclass

import numpy as np

from cosmos_eval.metrics.areas import PresentAreas
from cosmos_eval.metrics.detectable import Churn

RESAMPLES = 10_000
BLOCK_BYTES = 32 * 2**20


@dataclass(frozen=True)
class AreaDrop:
    """What a bootstrap found of the drop of a mean over classes."""

    values: tuple[float, float]
    """Of baseline and candidate; fractions."""
    resampled: np.ndarray
    """(R,) drops under random weights of the images."""
    unseen: np.ndarray
    """(R,) what the unseen image takes off at most, with its own random weight."""
    influence: np.ndarray
    """(U,) what each image adds to the drop, to first order; in total 0."""
    worst: float
    """What the unseen image takes off with the weight 1."""
    if_all_lost: np.ndarray
    """(R,) `resampled` less `unseen` if the candidate had no pixel right."""

    @property
    def drop(self) -> float:
        """Baseline minus candidate."""
        return self.values[0] - self.values[1]

    def p(self, max_drop: float) -> float:
        """The p-value of "the true drop is at most `max_drop`"; at least 1 / (R + 1)."""
        return _p(self.resampled - self.unseen, max_drop)

    def least_p(self, max_drop: float) -> float:
        """The p-value of the worst candidate there can be."""
        return _p(self.if_all_lost, max_drop)

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Between the quantiles at each half of what is left of `confidence`, the unseen image at its worst each."""
        tail = (1 - confidence) / 2
        low = float(np.quantile(self.resampled - self.unseen, tail))
        return low, float(np.quantile(self.resampled + self.unseen, 1 - tail))

    def churn(self) -> Churn:
        """What `detectable_drop` needs to know."""
        squares = float(np.square(self.influence).sum())
        size = (squares + self.worst**2) / (float(np.abs(self.influence).sum()) + self.worst)
        return Churn(len(self.influence), squares + 2 * self.worst * size, size, self.worst)


def _p(drops: np.ndarray, max_drop: float) -> float:
    return float(((drops <= max_drop).sum() + 1) / (len(drops) + 1))


def bootstrap_areas(
    baseline: PresentAreas,
    candidate: PresentAreas,
    images: int,
    labels: tuple[int, ...] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> AreaDrop:
    """Resample the drop of the mean IoU.

    Args:
        baseline, candidate: areas of the same images, numbered from 0, with the same classes.
        images: how many there are.
        labels: the classes over which the mean is taken: all that occur without.
        resamples: R.
        seed: of the weights; with another one p differs by its Monte-Carlo error.

    Raises:
        ValueError: fewer than 2 resamples or no image.
    """
    if images < 1 or resamples < 2:
        raise ValueError(f"needs at least 1 image and 2 resamples, got {images} and {resamples}")
    rng = np.random.default_rng(seed)
    dense = [_dense(one, images, labels) for one in (baseline, candidate)]  # (U, 3, C) each
    ones = np.ones((1, images))
    values = float(_mean_iou(ones, dense[0])[0]), float(_mean_iou(ones, dense[1])[0])
    resampled, unseen, if_all_lost = np.empty(resamples), np.empty(resamples), np.empty(resamples)
    nothing = dense[0] * np.array([0.0, 0.0, 1.0])[:, None]
    nothing = nothing[:, :, nothing.any((0, 1))]
    worst, worst_of_nothing = _worst(dense), _worst([dense[0], nothing])
    step = max(1, BLOCK_BYTES // (8 * max(images, *(one[0].size for one in dense))))
    for start in range(0, resamples, step):
        stop = min(start + step, resamples)
        weights = rng.standard_exponential((stop - start, images))
        weights /= weights.mean(1, keepdims=True)
        of_baseline, one = _mean_iou(weights, dense[0]), rng.standard_exponential(stop - start)
        resampled[start:stop] = of_baseline - _mean_iou(weights, dense[1])
        unseen[start:stop] = worst * one
        if_all_lost[start:stop] = of_baseline - worst_of_nothing * one
    influence = _influence(dense[0]) - _influence(dense[1])
    return AreaDrop(values, resampled, unseen, influence, worst, if_all_lost)


def _dense(entries: PresentAreas, images: int, labels: tuple[int, ...] | None) -> np.ndarray:
    """(U, 3, C) float64 areas, of the classes that occur and are asked for."""
    areas = np.zeros((images, entries.classes, 3))
    areas[entries.image, entries.label] = entries.areas
    occurs = areas[:, :, 1:].any((0, 2))
    if labels is not None:
        occurs &= np.isin(np.arange(entries.classes), labels)
    return np.ascontiguousarray(areas[:, occurs].transpose(0, 2, 1))


def _mean_iou(weights: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """(R,) from (R, U) weights and (U, 3, C) areas of classes that occur; 0 where none does."""
    if not areas.shape[2]:
        return np.zeros(len(weights))
    total = (weights @ areas.reshape(len(areas), -1)).reshape(len(weights), 3, -1)
    return (total[:, 0] / (total[:, 1] + total[:, 2] - total[:, 0])).mean(1)


def _influence(areas: np.ndarray) -> np.ndarray:
    """(U,) derivative of the mean IoU by the weight of each image."""
    inside = areas[:, 0]
    union = areas[:, 1] + areas[:, 2] - inside
    whole = union.sum(0)
    return ((inside - inside.sum(0) / whole * union) / whole).mean(1)


def _worst(dense: list[np.ndarray]) -> float:
    """How much an image like those seen could take off the drop, to first order: the baseline finds nothing of its
    labels, the candidate all. The largest over the images; where both models are alike, the largest mean over classes
    of an image's part of the class."""
    gains = []
    for side, areas in enumerate(dense):
        inside, labelled = areas[:, 0].sum(0), areas[:, 2]
        whole = areas[:, 1].sum(0) + labelled.sum(0) - inside
        iou = inside / whole
        gains.append((labelled * (1 - iou if side else iou) / whole).sum(1) / max(1, len(iou)))
    return float((gains[0] + gains[1]).max())
