"""Drop of the mean IoU between two models: a paired bootstrap over images, from the pixel counts of each image.

The mean IoU is not a mean over images: pixel counts are summed over the dataset, divided class by class, and averaged.
So the exact test of `cosmos_eval.metrics.paired_drop` does not apply, but its method does:

- The random weights of the bootstrap are given to images, the same to both models, and both mean IoUs are computed
  anew in each resample.
- The weights are exponential (the Bayesian bootstrap). Drawing images with replacement would leave rare classes out of
  many resamples, and the mean would go over other classes each time; with positive weights no class ever drops out.
- One unseen image is added that speaks most against a drop. What it takes off the drop is computed to first order, as
  the ratios of each resample would otherwise need another worst image each.
"""

import numpy as np

from cosmos_eval.metrics.bootstrap_drop import BootstrapDrop
from cosmos_eval.metrics.iou import PixelCounts
from cosmos_eval.progress import current_reporter, report_if_slow

RESAMPLES = 10_000
BLOCK_BYTES = 32 * 2**20
"""Memory for the weights and the summed pixel counts of the resamples that are computed at a time."""


def bootstrap_iou_drop(
    baseline: PixelCounts,
    candidate: PixelCounts,
    images: int,
    labels: tuple[int, ...] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> BootstrapDrop:
    """Bootstrap the drop of the mean IoU between two models.

    Args:
        baseline: pixel counts of the baseline.
        candidate: pixel counts of the candidate, for the same images (numbered from 0) and classes.
        images: number of images U.
        labels: classes of which the mean is taken; None: all that occur.
        resamples: number of resamples R, at least 2.
        seed: of the random weights. Another seed changes a p-value by its Monte-Carlo error, sqrt(p (1 - p) / R).

    Returns:
        The resampled drops and what the test needs beside them.

    Raises:
        ValueError: fewer than 2 resamples, or no images.
    """
    if images < 1 or resamples < 2:
        raise ValueError(f"needs at least 1 image and 2 resamples, got {images} and {resamples}")
    rng = np.random.default_rng(seed)
    baseline_counts, candidate_counts = (_to_dense(entries, images, labels) for entries in (baseline, candidate))
    ones = np.ones((1, images))
    values = float(_mean_iou(ones, baseline_counts)[0]), float(_mean_iou(ones, candidate_counts)[0])
    # The worst candidate has no pixel right and predicts none: intersection and prediction are 0, labels stay. Classes
    # that are not labelled occur nowhere then.
    all_lost = baseline_counts * np.array([0.0, 0.0, 1.0])[:, None]
    all_lost = all_lost[:, :, all_lost.any((0, 1))]
    worst = _largest_unseen_gain(baseline_counts, candidate_counts)
    worst_if_all_lost = _largest_unseen_gain(baseline_counts, all_lost)
    resampled, unseen, worst_candidate = np.empty(resamples), np.empty(resamples), np.empty(resamples)
    step = max(1, BLOCK_BYTES // (8 * max(images, baseline_counts[0].size, candidate_counts[0].size)))
    with report_if_slow(current_reporter(), "resampling images", resamples, "resamples") as advance:
        for start in range(0, resamples, step):
            stop = min(start + step, resamples)
            weights = rng.standard_exponential((stop - start, images))
            weights /= weights.mean(1, keepdims=True)
            baseline_iou, unseen_weight = _mean_iou(weights, baseline_counts), rng.standard_exponential(stop - start)
            resampled[start:stop] = baseline_iou - _mean_iou(weights, candidate_counts)
            unseen[start:stop] = worst * unseen_weight
            # The mean IoU of the worst candidate is 0 under any weights.
            worst_candidate[start:stop] = baseline_iou - worst_if_all_lost * unseen_weight
            advance(stop - start)
    influence = _influence_of_images(baseline_counts) - _influence_of_images(candidate_counts)
    return BootstrapDrop(values, resampled, unseen, influence, worst, worst_candidate)


def _to_dense(entries: PixelCounts, images: int, labels: tuple[int, ...] | None) -> np.ndarray:
    """(U, 3, C) float64 pixel counts, of the classes that occur in any image and are in `labels` (None: all)."""
    counts = np.zeros((images, entries.classes, 3))
    counts[entries.image, entries.label] = entries.counts
    selected = counts[:, :, 1:].any((0, 2))
    if labels is not None:
        selected &= np.isin(np.arange(entries.classes), labels)
    return np.ascontiguousarray(counts[:, selected].transpose(0, 2, 1))


def _mean_iou(weights: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(R,) mean IoU for each of (R, U) image weights, from (U, 3, C) pixel counts; 0 where there is no class."""
    if not counts.shape[2]:
        return np.zeros(len(weights))
    total = (weights @ counts.reshape(len(counts), -1)).reshape(len(weights), 3, -1)
    return (total[:, 0] / (total[:, 1] + total[:, 2] - total[:, 0])).mean(1)


def _influence_of_images(counts: np.ndarray) -> np.ndarray:
    """(U,) derivative of the mean IoU with respect to the weight of each image, from (U, 3, C) pixel counts.

    With I and N the summed intersection and union of a class and i, n those of one image, the derivative of I / N is
    (i - I / N * n) / N.
    """
    intersection = counts[:, 0]
    union = counts[:, 1] + counts[:, 2] - intersection
    total_union = union.sum(0)
    return ((intersection - intersection.sum(0) / total_union * union) / total_union).mean(1)


def _largest_unseen_gain(baseline_counts: np.ndarray, candidate_counts: np.ndarray) -> float:
    """How much one more image like those sampled could take off the drop, to first order.

    In that image the baseline has none of the labelled pixels right and the candidate has all of them. With n labelled
    pixels of a class, whose union is N, this lowers the IoU of the baseline by n / N * IoU and raises that of the
    candidate by n / N * (1 - IoU). The result is the largest sum of both over the label maps of the sampled images.
    """
    gains = []
    for is_candidate, counts in enumerate((baseline_counts, candidate_counts)):
        intersection, labelled = counts[:, 0].sum(0), counts[:, 2]
        total_union = counts[:, 1].sum(0) + labelled.sum(0) - intersection
        iou = intersection / total_union
        change = 1 - iou if is_candidate else iou
        gains.append((labelled * change / total_union).sum(1) / max(1, len(iou)))
    return float((gains[0] + gains[1]).max())
