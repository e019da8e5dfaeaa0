"""Intersection over union from areas, counted in whole pixels.

The definitions are mmsegmentation's `IoUMetric`: areas are summed over the set before anything is divided, ignored
pixels count nowhere, a class that is neither predicted nor labelled anywhere has no IoU, one that is predicted and
never labelled has IoU 0 and no accuracy. Theirs adds up float32 histograms, which stop counting at 2 ** 24 pixels of a
class and image; these are integers.
"""

from dataclasses import dataclass

import numpy as np
import torch

from cosmos_eval.metrics.share_interval import Evidence, evidence_of

IGNORED = 255
"""The label of pixels that nobody is asked about."""


def class_areas(predicted: np.ndarray, truth: np.ndarray, classes: int, ignored: int = IGNORED) -> np.ndarray:
    """(3, C) int64 of one image: pixels of each class where both agree, that are predicted, that are labelled.

    Args:
        predicted, truth: (H, W) integers, classes from 0; pixels whose truth is `ignored` are left out.

    Raises:
        ValueError: maps of different sizes, or a value that is no class.
    """
    if classes > ignored:
        raise ValueError(f"{classes} classes with {ignored} for ignored pixels")
    if predicted.shape != truth.shape:
        raise ValueError(f"a prediction of {predicted.shape} for labels of {truth.shape}")
    right = np.where(predicted == truth, truth, ignored)
    asked = np.where(truth == ignored, ignored, predicted)
    found = [_counts(name, one, classes, ignored) for name, one in (("label", right), ("prediction", asked))]
    return np.stack([*found, _counts("label", truth, classes, ignored)])


def _counts(name: str, labels: np.ndarray, classes: int, ignored: int) -> np.ndarray:
    """(C,) int64 pixels of each class. Bytes are counted as they are: no copy in a wider type, which would take most of
    the time for a large image."""
    if labels.size and labels.min() < 0:
        raise ValueError(f"a {name} of {labels.min()} among {classes} classes")
    least = max(classes, ignored + 1)
    if labels.dtype == np.uint8:
        counts = torch.bincount(torch.from_numpy(np.ascontiguousarray(labels)).flatten(), minlength=least).numpy()
    else:
        counts = np.bincount(labels.ravel(), minlength=least)
    beyond = counts.copy()
    beyond[:classes], beyond[ignored] = 0, 0
    if beyond.any():
        raise ValueError(f"a {name} of {int(np.flatnonzero(beyond)[0])} among {classes} classes")
    return counts[:classes].astype(np.int64)


@dataclass(frozen=True)
class PresentAreas:
    """Areas of many images, the classes that occur in each of them only: one entry an image and class."""

    image: np.ndarray
    """(E,) int64"""
    label: np.ndarray
    """(E,) int64, the class"""
    areas: np.ndarray
    """(E, 3) int64: intersection, prediction, label"""
    classes: int

    def total(self, weights: np.ndarray | None = None) -> np.ndarray:
        """(3, C) sums over images, image i counted `weights[i]` times (once, in whole pixels, without)."""
        if weights is None:
            sums = np.zeros((3, self.classes), np.int64)
            np.add.at(sums.T, self.label, self.areas)
            return sums
        drawn = weights[self.image]
        return np.stack([np.bincount(self.label, weights=drawn * of, minlength=self.classes) for of in self.areas.T])


def present(areas: list[np.ndarray], classes: int) -> PresentAreas:
    """The entries of images in order, from the (3, C) areas of each."""
    rows = [np.flatnonzero(one[1] + one[2]) for one in areas]
    image = np.repeat(np.arange(len(areas)), [len(own) for own in rows])
    entries = [one[:, own].T for one, own in zip(areas, rows, strict=True)]
    empty = np.zeros((0, 3), np.int64)
    return PresentAreas(
        image.astype(np.int64),
        np.concatenate([*rows, np.zeros(0, np.int64)]).astype(np.int64),
        np.concatenate([*entries, empty]),
        classes,
    )


def class_iou(total: np.ndarray) -> np.ndarray:
    """(C,) float64 from (3, C) summed areas; NaN for a class that occurs nowhere."""
    intersection, predicted, labelled = total
    return _ratio(intersection, predicted + labelled - intersection)


def class_accuracy(total: np.ndarray) -> np.ndarray:
    """(C,) float64: the share of a class's pixels that are found; NaN for a class that is never labelled."""
    return _ratio(total[0], total[2])


def summary(total: np.ndarray) -> dict[str, float]:
    """`miou`, `pixel_accuracy` and `mean_accuracy` of (3, C) summed areas; NaN where no pixel is labelled."""
    iou, accuracy = class_iou(total), class_accuracy(total)
    return {
        "miou": _mean(iou),
        "pixel_accuracy": float(_ratio(total[0].sum(), total[2].sum())),
        "mean_accuracy": _mean(accuracy),
    }


def area_evidence(entries: PresentAreas, metric: str, only: int | None = None) -> Evidence:
    """What images tell of the error of `miou`, `pixel_accuracy` or `mean_accuracy`, or of the IoU of one class.

    A ratio of summed areas is a weighted mean: an image's own IoU (or share of labelled pixels that are right) in a
    class counts as much as its part of the class's union (or labels). That a union depends on the prediction is left
    out, as in the linearisation of any ratio estimator (Cochran, Sampling Techniques, 1977, chapter 6).

    Args:
        only: the class of an IoU, which must occur.
    """
    inside, predicted, labelled = entries.areas.T.astype(np.float64)
    whole = predicted + labelled - inside if metric == "miou" else labelled
    some = whole > 0 if only is None else (whole > 0) & (entries.label == only)
    label, unit, whole, inside = entries.label[some], entries.image[some], whole[some], inside[some]
    weights = whole if metric == "pixel_accuracy" else whole / np.bincount(label, weights=whole)[label]
    return evidence_of(inside / whole, unit, weights, None if metric == "pixel_accuracy" else label)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    above, below = np.asarray(above, np.float64), np.asarray(below, np.float64)
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
