"""Paired bootstrap of the mean IoU: against slow oracles, against the exact test of means, and on equal models."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_eval.metrics.iou import PixelCounts, segmentation_metrics
from cosmos_eval.metrics.paired_iou import bootstrap_iou_drop
from tests.oracles import paired_drop as oracle


def to_entries(counts: np.ndarray) -> PixelCounts:
    """Sparse entries from dense (U, C, 3) pixel counts."""
    image, label = np.nonzero(counts[:, :, 1] + counts[:, :, 2])
    return PixelCounts(image, label, counts[image, label].astype(np.int64), counts.shape[1])


def dense_counts(seed: int, images: int, classes: int, quality: float) -> np.ndarray:
    """(U, C, 3) random pixel counts; the labels depend on the seed alone, the predictions also on `quality`."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 100, (images, classes)) * (rng.random((images, classes)) < 0.6)
    label[:, 0] += 1
    intersection = np.floor(label * np.clip(quality + 0.3 * rng.random((images, classes)), 0, 1)).astype(int)
    wrong = label.sum(1) - intersection.sum(1)
    predicted = intersection.copy()
    np.add.at(predicted, (np.arange(images), rng.integers(0, classes, images)), wrong)
    return np.stack([intersection, predicted, label], axis=2)


@given(st.integers(0, 10**6), st.integers(1, 8), st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_resampled_drops_agree_with_the_slow_oracle(seed, images, classes):
    a, b = dense_counts(seed, images, classes, 0.6), dense_counts(seed, images, classes, 0.3)
    bootstrap = bootstrap_iou_drop(to_entries(a), to_entries(b), images, resamples=5, seed=seed)
    ones = [1.0] * images
    assert bootstrap.values == pytest.approx((oracle.mean_iou(ones, a), oracle.mean_iou(ones, b)), abs=1e-12)
    rng = np.random.default_rng(seed)
    weights = rng.standard_exponential((5, images))
    slow = [oracle.mean_iou(w, a) - oracle.mean_iou(w, b) for w in weights]
    assert bootstrap.resampled.tolist() == pytest.approx(slow, abs=1e-12)


def test_the_value_is_the_metric_that_the_task_reports():
    a = dense_counts(0, 20, 4, 0.6)
    bootstrap = bootstrap_iou_drop(to_entries(a), to_entries(a), 20, resamples=2)
    assert bootstrap.values[0] == pytest.approx(segmentation_metrics(to_entries(a).total())["miou"], abs=1e-12)


def test_the_influence_is_what_an_image_adds_to_first_order():
    a, b = dense_counts(1, 30, 4, 0.6), dense_counts(1, 30, 4, 0.3)
    bootstrap = bootstrap_iou_drop(to_entries(a), to_entries(b), 30, resamples=2)
    for u in (0, 7, 29):
        heavier = [1.0] * 30
        heavier[u] += 1e-6
        drop = oracle.mean_iou(heavier, a) - oracle.mean_iou(heavier, b)
        assert (drop - bootstrap.drop) / 1e-6 == pytest.approx(bootstrap.influence[u], abs=1e-6)
    assert bootstrap.influence.sum() == pytest.approx(0, abs=1e-12)


def test_with_one_class_in_every_image_p_agrees_with_the_exact_test_of_a_mean():
    # All pixels of an image are right or all are wrong, and wrong ones are predicted as no class. So the IoU is the
    # proportion of images that are right, and the test is that of a mean.
    from cosmos_eval.metrics.paired_drop import drop_p_value, sum_differences

    lost = np.arange(40) < 6
    label = np.full(40, 10)
    a = np.stack([label, label, label], axis=1)[:, None]
    b = np.stack([label * ~lost, label * ~lost, label], axis=1)[:, None]
    bootstrap = bootstrap_iou_drop(to_entries(a), to_entries(b), 40, resamples=20_000, seed=0)
    assert bootstrap.drop == pytest.approx(6 / 40)
    exact = drop_p_value(sum_differences(np.ones(40), (~lost).astype(float), np.arange(40)), 0.05)
    # the unseen image is included to first order only; three Monte-Carlo errors on top
    assert bootstrap.p_value(0.05) == pytest.approx(exact, abs=0.03)


def test_equal_models_pass_and_a_broken_one_does_not():
    a = dense_counts(2, 60, 4, 0.6)
    equal = bootstrap_iou_drop(to_entries(a), to_entries(a), 60, resamples=500)
    assert equal.p_value(0.0) == 1
    low, high = equal.interval()
    assert low < 0 < high
    broken = a.copy()
    broken[:, :, 0] = 0
    bootstrap = bootstrap_iou_drop(to_entries(a), to_entries(broken), 60, resamples=500)
    assert bootstrap.p_value(0.0) == pytest.approx(1 / 501)
    assert bootstrap.least_p_value(0.0) == pytest.approx(1 / 501)


def test_three_images_are_never_significant():
    a = dense_counts(3, 3, 4, 0.6)
    bootstrap = bootstrap_iou_drop(to_entries(a), to_entries(a), 3, resamples=2000)
    assert bootstrap.least_p_value(0.0) > 0.05


def test_the_iou_of_a_single_class():
    a, b = dense_counts(4, 30, 4, 0.6), dense_counts(4, 30, 4, 0.3)
    bootstrap = bootstrap_iou_drop(to_entries(a), to_entries(b), 30, labels=(2,), resamples=50)
    assert bootstrap.values[0] == pytest.approx(oracle.mean_iou([1.0] * 30, a[:, [2]]))


def test_a_seed_gives_the_same_p_and_another_seed_nearly_the_same():
    a, b = dense_counts(5, 40, 4, 0.5), dense_counts(6, 40, 4, 0.5)
    b[:, :, 2] = a[:, :, 2]
    p = [bootstrap_iou_drop(to_entries(a), to_entries(a), 40, resamples=300, seed=s).interval() for s in (1, 1, 2)]
    assert p[0] == p[1] != p[2]
    assert p[0] == pytest.approx(p[2], abs=0.02)


def test_no_images_and_no_resamples_are_refused():
    a = dense_counts(0, 3, 2, 0.5)
    with pytest.raises(ValueError, match="at least 1 image"):
        bootstrap_iou_drop(to_entries(a), to_entries(a), 0)
    with pytest.raises(ValueError, match="2 resamples"):
        bootstrap_iou_drop(to_entries(a), to_entries(a), 3, resamples=1)
