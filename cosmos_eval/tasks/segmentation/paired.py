"""Paired comparison of two models on segmentation, for `regress`."""

from typing import TYPE_CHECKING

import numpy as np

from cosmos_eval.metrics.iou import PixelCounts
from cosmos_eval.metrics.paired_samples import Hits, PairedPixelCounts, name_units, number_labels
from cosmos_eval.tasks.segmentation import AREAS, labelled_samples

if TYPE_CHECKING:
    import pandas as pd

    from cosmos_eval.results.record import Result


def paired(
    metric: str, results: "tuple[Result, Result]", frames: "tuple[pd.DataFrame, pd.DataFrame]"
) -> Hits | PairedPixelCounts:
    """What both models did on the same images; the unit is the image.

    Args:
        metric: `miou`, `pixel_accuracy`, `mean_accuracy` or `<class>/iou`.
        results: baseline and candidate.
        frames: their samples; rows of labelled classes are equal in number and order, others are not.
    """
    if metric in ("pixel_accuracy", "mean_accuracy"):
        return _paired_accuracy(metric, frames)
    return _paired_iou(metric, frames)


def _paired_accuracy(metric: str, frames: "tuple[pd.DataFrame, pd.DataFrame]") -> Hits:
    """The share of correct pixels in each labelled class of each image. Unlike an IoU, an accuracy is a weighted mean
    of these shares: its denominator does not depend on the model."""
    baseline, candidate = (labelled_samples(samples) for samples in frames)
    labelled_pixels = baseline["label"].to_numpy(np.float64)
    weights, class_number = labelled_pixels, None
    if metric == "mean_accuracy":  # each class has the same weight, its pixels together
        class_number = number_labels(baseline["class"].to_numpy())
        weights = labelled_pixels / np.bincount(class_number, weights=labelled_pixels)[class_number]
    return Hits(
        baseline["intersection"].to_numpy() / labelled_pixels,
        candidate["intersection"].to_numpy() / labelled_pixels,
        number_labels(baseline["image"].to_numpy()),
        weights,
        name_units(baseline, "image"),
        class_number,
    )


def _paired_iou(metric: str, frames: "tuple[pd.DataFrame, pd.DataFrame]") -> PairedPixelCounts:
    """The areas of each class in each image, with images numbered alike in both models."""
    image_numbers = number_labels(np.concatenate([samples["image"].to_numpy() for samples in frames]))
    image_names = np.empty(1 + int(image_numbers.max()), dtype=object)
    image_names[image_numbers] = np.concatenate([name_units(samples, "image") for samples in frames])
    class_count = 1 + int(max(samples["class"].max() for samples in frames))
    baseline_numbers, candidate_numbers = np.split(image_numbers, [len(frames[0])])
    baseline, candidate = (
        PixelCounts(
            numbers,
            samples["class"].to_numpy(np.int64),
            samples[list(AREAS)].to_numpy(np.int64),
            class_count,
        )
        for samples, numbers in zip(frames, (baseline_numbers, candidate_numbers), strict=True)
    )
    classes = None
    if metric != "miou":
        name = metric.removesuffix("/iou")
        # A class that one model never predicts and that is nowhere labelled is in the samples of the other one only.
        classes = tuple(
            sorted({int(c) for samples in frames for c in samples.loc[samples["name"] == name, "class"].unique()})
        )
    return PairedPixelCounts(baseline, candidate, len(image_names), classes, image_names)
