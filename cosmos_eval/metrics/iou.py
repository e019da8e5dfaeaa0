"""Intersection over union (IoU) and pixel accuracy of semantic segmentation, from pixel counts of each class.

The definitions are those of mmsegmentation's `IoUMetric`:

- Pixel counts are summed over all images first, and divided afterwards. The mean IoU is not a mean over images.
- Ignored pixels (label 255) count neither in the intersection nor in the union.
- A class that is neither predicted nor labelled in any image has no IoU (NaN) and is left out of the mean. A class that
  is predicted but never labelled has IoU 0 and no accuracy (NaN).

mmsegmentation adds up float32 histograms (`torch.histc`), which cannot count past 2 ** 24 pixels of one class in one
image. Here all counts are integers, hence exact.
"""

from dataclasses import dataclass

import numpy as np
import torch

from cosmos_eval.metrics.proportion import ProportionEstimate, estimate_proportion

IGNORED = 255
"""Label of pixels that no metric counts, as in mmsegmentation's `ignore_index`."""


def count_class_pixels(predicted: np.ndarray, truth: np.ndarray, classes: int, ignored: int = IGNORED) -> np.ndarray:
    """Count the pixels of each class in one image: intersection, prediction and label.

    Args:
        predicted: (H, W) integer label map of a model, classes from 0 to `classes` - 1. Its values do not matter where
            `truth` is `ignored`.
        truth: (H, W) integer label map of the dataset.
        classes: number of classes C, at most `ignored`.
        ignored: label in `truth` of the pixels to leave out.

    Returns:
        (3, C) int64: number of pixels of each class in which both maps agree (intersection), that are predicted, and
        that are labelled; ignored pixels are in none of them. The union is prediction + label - intersection.

    Raises:
        ValueError: the maps differ in size, more classes than `ignored`, or a value that is neither a class nor
            `ignored`.
    """
    if classes > ignored:
        raise ValueError(f"there are {classes} classes, but {ignored} is the label of ignored pixels")
    if predicted.shape != truth.shape:
        raise ValueError(f"the prediction has shape {predicted.shape}, but the labels have {truth.shape}")
    # Two maps in which every pixel that must not be counted is `ignored`, so that one histogram of each is enough.
    correct = np.where(predicted == truth, truth, ignored)
    predicted = np.where(truth == ignored, ignored, predicted)
    return np.stack(
        [
            _count_pixels("label", correct, classes, ignored),
            _count_pixels("prediction", predicted, classes, ignored),
            _count_pixels("label", truth, classes, ignored),
        ]
    )


def count_class_pixels_on_device(
    predicted: torch.Tensor, truth: torch.Tensor, classes: int, ignored: int = IGNORED
) -> torch.Tensor:
    """As `count_class_pixels`, on the device of the maps and without waiting for it.

    Args:
        predicted: (H, W) integer label map, classes from 0 to `classes` - 1.
        truth: (H, W) integer label map, classes or `ignored`. Values are not checked.

    Returns:
        (3, C) int64 on the same device.
    """
    is_counted = truth != ignored
    truth, predicted = truth.long(), predicted.long()
    # One more bin, for the pixels that do not count.
    counts = [
        count_labels_of_rows(torch.where(is_selected, labels, classes), classes + 1).sum(0)
        for labels, is_selected in (
            (truth, is_counted & (predicted == truth)),
            (predicted, is_counted),
            (truth, is_counted),
        )
    ]
    return torch.stack(counts)[:, :classes]


def count_labels_of_rows(maps: torch.Tensor, bins: int) -> torch.Tensor:
    """Count the labels of each row of label maps (..., W) int64: (..., bins) int64, on the same device.

    `torch.bincount` would wait for a GPU, and a histogram of a whole map would make its threads wait for each other.
    Those of maps on MPS are counted on the CPU: it has added integers wrongly (pytorch/pytorch#90635, #161446).
    """
    if maps.device.type == "mps":
        return count_labels_of_rows(maps.cpu(), bins).to(maps.device)
    counts = torch.zeros(*maps.shape[:-1], bins, dtype=torch.int64, device=maps.device)
    return counts.scatter_add_(-1, maps, counts.new_ones(()).expand_as(maps))


def _count_pixels(name: str, label_map: np.ndarray, classes: int, ignored: int) -> np.ndarray:
    """Count the pixels of each class in a label map: (C,) int64.

    Bytes go to `torch.bincount`, which counts them as they are. `np.bincount` would first copy them to int64, eight
    times the memory, and the copy takes most of the time for a large image.

    Raises:
        ValueError: a value that is neither a class nor `ignored`; `name` says in the message which map it is in.
    """
    if label_map.size and label_map.min() < 0:
        raise ValueError(f"a {name} is {label_map.min()}, but classes go from 0 to {classes - 1}")
    bins = max(classes, ignored + 1)
    if label_map.dtype == np.uint8:
        flat = torch.from_numpy(np.ascontiguousarray(label_map)).flatten()
        counts = torch.bincount(flat, minlength=bins).numpy()
    else:
        counts = np.bincount(label_map.ravel(), minlength=bins)
    invalid = counts.copy()
    invalid[:classes], invalid[ignored] = 0, 0
    if invalid.any():
        raise ValueError(f"a {name} is {int(np.flatnonzero(invalid)[0])}, but classes go from 0 to {classes - 1}")
    return counts[:classes].astype(np.int64)


@dataclass(frozen=True)
class PixelCounts:
    """Pixel counts of many images, stored sparsely: one entry for each image and each class that occurs in it.

    A class occurs in an image if it is labelled or predicted there. An image has only a few of the 171 classes of
    COCO-Stuff, and the bootstrap reads these arrays a thousand times.
    """

    image: np.ndarray
    """(E,) int64, index of the image of each entry."""
    label: np.ndarray
    """(E,) int64, class of each entry."""
    counts: np.ndarray
    """(E, 3) int64 pixels: intersection, prediction, label."""
    classes: int
    """Number of classes C, of which some may occur in no image."""

    def total(self, weights: np.ndarray | None = None) -> np.ndarray:
        """Sum the pixel counts over images, in a bootstrap with the weights of the resample.

        Args:
            weights: (images,) how often each image counts; None: once.

        Returns:
            (3, C) intersection, prediction, label; int64 (exact) without weights, float64 with them.
        """
        if weights is None:
            sums = np.zeros((3, self.classes), np.int64)
            np.add.at(sums.T, self.label, self.counts)
            return sums
        entry_weights = weights[self.image]
        return np.stack(
            [
                np.bincount(self.label, weights=entry_weights * counts, minlength=self.classes)
                for counts in self.counts.T
            ]
        )


def collect_pixel_counts(image_counts: list[np.ndarray], classes: int) -> PixelCounts:
    """Collect the pixel counts of many images into sparse arrays.

    Args:
        image_counts: (3, C) pixel counts of each image, as `count_class_pixels` returns them.
        classes: number of classes C.

    Returns:
        The entries, sorted by image, then by class.
    """
    occurring = [np.flatnonzero(counts[1] + counts[2]) for counts in image_counts]
    image = np.repeat(np.arange(len(image_counts)), [len(class_indices) for class_indices in occurring])
    entries = [counts[:, class_indices].T for counts, class_indices in zip(image_counts, occurring, strict=True)]
    # np.concatenate needs at least one array, of the right shape and type: the empty one stands for "no image".
    return PixelCounts(
        image.astype(np.int64),
        np.concatenate([*occurring, np.zeros(0, np.int64)]).astype(np.int64),
        np.concatenate([*entries, np.zeros((0, 3), np.int64)]),
        classes,
    )


def class_iou(total: np.ndarray) -> np.ndarray:
    """Intersection over union of every class.

    Args:
        total: (3, C) pixel counts summed over images: intersection, prediction, label.

    Returns:
        (C,) float64 fractions; NaN for a class that is neither predicted nor labelled in any image.
    """
    intersection, predicted, labelled = total
    return _divide(intersection, predicted + labelled - intersection)


def class_accuracy(total: np.ndarray) -> np.ndarray:
    """Accuracy (recall) of every class: the fraction of its labelled pixels that are predicted as it.

    Args:
        total: (3, C) pixel counts summed over images: intersection, prediction, label.

    Returns:
        (C,) float64 fractions; NaN for a class that is labelled in no image.
    """
    return _divide(total[0], total[2])


def segmentation_metrics(total: np.ndarray) -> dict[str, float]:
    """Mean IoU, pixel accuracy and mean class accuracy (mIoU, aAcc and mAcc of mmsegmentation).

    Args:
        total: (3, C) pixel counts summed over images: intersection, prediction, label.

    Returns:
        `miou`, `pixel_accuracy` and `mean_accuracy` as fractions. Means are over the classes that have an IoU or an
        accuracy; NaN where no class has one, which is where no pixel is labelled.
    """
    return {
        "miou": _mean_of_known(class_iou(total)),
        "pixel_accuracy": float(_divide(total[0].sum(), total[2].sum())),
        "mean_accuracy": _mean_of_known(class_accuracy(total)),
    }


def estimate_pixel_proportion(entries: PixelCounts, metric: str, only: int | None = None) -> ProportionEstimate:
    """Estimate how exactly images determine a metric of segmentation, for its interval.

    A ratio of summed pixel counts is a weighted mean over images. For one class it is the mean of IoU_i (the
    intersection in image i over the union in image i), weighted by the union in image i as a fraction of the class's
    whole union; for accuracies, likewise with labelled pixels in place of the union. The mean IoU is the mean of these
    over classes. So the interval of weighted means applies, with images as units.

    This treats the weights as fixed, although a union depends on the prediction: the usual linearisation of a ratio
    estimator (Cochran, Sampling Techniques, 1977, chapter 6).

    Args:
        entries: pixel counts of all images.
        metric: `miou`, `pixel_accuracy` or `mean_accuracy`.
        only: a class that occurs; with `miou`, the IoU of this class alone.

    Returns:
        What `proportion_intervals` needs.
    """
    intersection, predicted, labelled = entries.counts.T.astype(np.float64)
    denominator = predicted + labelled - intersection if metric == "miou" else labelled
    used = denominator > 0 if only is None else (denominator > 0) & (entries.label == only)
    label, image = entries.label[used], entries.image[used]
    denominator, intersection = denominator[used], intersection[used]
    if metric == "pixel_accuracy":
        return estimate_proportion(intersection / denominator, image, denominator)
    class_denominator = np.bincount(label, weights=denominator)
    return estimate_proportion(intersection / denominator, image, denominator / class_denominator[label], label)


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divide in float64; NaN where the denominator is 0."""
    numerator, denominator = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    return np.divide(numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator > 0)


def _mean_of_known(values: np.ndarray) -> float:
    """Mean of the values that are not NaN; NaN where all are."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
