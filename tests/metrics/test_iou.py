"""Pixel counts and intersection over union: by hand, against mmsegmentation's IoUMetric, and beyond float32."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_eval.metrics.iou import (
    class_accuracy,
    class_iou,
    collect_pixel_counts,
    count_class_pixels,
    segmentation_metrics,
)

TRUTH = np.array([[0, 0, 1, 1], [0, 0, 1, 255], [2, 2, 1, 255]])
PREDICTED = np.array([[0, 0, 1, 0], [1, 0, 1, 3], [3, 2, 1, 2]])


def test_an_image_of_3_by_4_pixels_by_hand():
    counts = count_class_pixels(PREDICTED, TRUTH, 5)
    # of ten counted pixels: class 0 has three of four right, 1 three of four, 2 one of two; 3 is predicted once
    assert counts.tolist() == [[3, 3, 1, 0, 0], [4, 4, 1, 1, 0], [4, 4, 2, 0, 0]]
    assert class_iou(counts) == pytest.approx([3 / 5, 3 / 5, 1 / 2, 0, np.nan], nan_ok=True)
    assert class_accuracy(counts) == pytest.approx([3 / 4, 3 / 4, 1 / 2, np.nan, np.nan], nan_ok=True)
    assert segmentation_metrics(counts) == pytest.approx(
        {"miou": (0.6 + 0.6 + 0.5 + 0) / 4, "pixel_accuracy": 0.7, "mean_accuracy": (0.75 + 0.75 + 0.5) / 3}
    )


def test_perfect_and_empty_maps():
    assert segmentation_metrics(count_class_pixels(TRUTH % 255, TRUTH, 5)) == {
        "miou": 1,
        "pixel_accuracy": 1,
        "mean_accuracy": 1,
    }
    unlabelled = segmentation_metrics(count_class_pixels(PREDICTED, np.full_like(TRUTH, 255), 5))
    assert all(np.isnan(value) for value in unlabelled.values())


@pytest.mark.parametrize(
    ("predicted", "truth", "message"),
    [
        (PREDICTED[:, :3], TRUTH, r"the prediction has shape \(3, 3\), but the labels have \(3, 4\)"),
        (PREDICTED, np.where(TRUTH == 2, 5, TRUTH), "a label is 5, but classes go from 0 to 4"),
        (PREDICTED - 1, TRUTH, "a prediction is -1, but classes go from 0 to 4"),
    ],
)
def test_invalid_maps_are_refused(predicted, truth, message):
    with pytest.raises(ValueError, match=message):
        count_class_pixels(predicted, truth, 5)


seeds = st.integers(0, 2**32 - 1)


@settings(deadline=None)
@given(seed=seeds, classes=st.integers(2, 9), images=st.integers(1, 5))
def test_sums_of_sparse_entries_are_those_of_dense_counts(seed: int, classes: int, images: int):
    rng = np.random.default_rng(seed)
    image_counts = [
        count_class_pixels(*rng.integers(0, rng.integers(1, classes + 1), (2, 5, 7)), classes) for _ in range(images)
    ]
    entries = collect_pixel_counts(image_counts, classes)
    assert entries.total().tolist() == sum(image_counts).tolist()
    weights = rng.integers(0, 4, images).astype(float)
    weighted = sum(weight * counts for weight, counts in zip(weights, image_counts, strict=True))
    assert entries.total(weights).tolist() == weighted.tolist()
    assert (entries.counts[:, 1:].sum(1) > 0).all()


@settings(deadline=None, max_examples=50)
@given(seed=seeds)
def test_our_metrics_are_those_of_mmsegmentation(seed: int):
    """On random label maps of several images, with ignored pixels and with classes that are absent."""
    from cosmos_eval.datasets.mmseg.placeholder import import_mmseg

    import_mmseg()
    from mmseg.evaluation.metrics import IoUMetric

    rng = np.random.default_rng(seed)
    classes = 7
    predicted = rng.integers(0, 5, (3, 11, 13))  # classes 5 and 6 are never predicted
    truth = rng.choice([0, 1, 2, 5, 255], (3, 11, 13))  # classes 3 and 4 are never labelled, 6 is in neither map
    ours = [count_class_pixels(*maps, classes) for maps in zip(predicted, truth, strict=True)]
    theirs = [
        IoUMetric.intersect_and_union(*map(torch.from_numpy, maps), classes, 255)
        for maps in zip(predicted, truth, strict=True)
    ]
    assert [counts.tolist() for counts in ours] == [
        torch.stack([intersection, prediction, label]).long().tolist() for intersection, _, prediction, label in theirs
    ]
    sums = [sum(counts) for counts in zip(*theirs, strict=True)]
    metrics = IoUMetric.total_area_to_metrics(*sums, ["mIoU"])
    total = sum(ours)
    assert class_iou(total) == pytest.approx(metrics["IoU"], abs=1e-6, nan_ok=True)
    assert class_accuracy(total) == pytest.approx(metrics["Acc"], abs=1e-6, nan_ok=True)
    expected = {
        "miou": float(np.nanmean(metrics["IoU"])),
        "pixel_accuracy": float(metrics["aAcc"]),
        "mean_accuracy": float(np.nanmean(metrics["Acc"])),
    }
    assert segmentation_metrics(total) == pytest.approx(expected, abs=1e-6)


@given(seed=seeds)
def test_uint8_and_int64_maps_give_the_same_counts(seed: int):
    rng = np.random.default_rng(seed)
    predicted, truth = rng.integers(0, 7, (2, 9, 5))
    truth[rng.random(truth.shape) < 0.3] = 255
    narrow = count_class_pixels(predicted.astype(np.uint8), truth.astype(np.uint8), 7)
    assert narrow.tolist() == count_class_pixels(predicted, truth, 7).tolist()


def test_more_pixels_are_counted_than_float32_can_count():
    side = 4200  # 17,640,000 pixels, more than 2 ** 24
    truth = np.zeros((side, side), np.uint8)
    truth[0, 0] = 1
    assert count_class_pixels(truth, truth, 2).tolist() == [[side * side - 1, 1]] * 3
