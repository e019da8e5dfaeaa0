import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_eval.metrics.areas import PresentAreas, summary
from cosmos_eval.metrics.paired_areas import bootstrap_areas
from tests.oracles import paired as oracle


def entries(areas: np.ndarray) -> PresentAreas:
    """Of (U, C, 3)."""
    image, label = np.nonzero(areas[:, :, 1] + areas[:, :, 2])
    return PresentAreas(image, label, areas[image, label].astype(np.int64), areas.shape[1])


def made(seed: int, images: int, classes: int, quality: float) -> np.ndarray:
    """(U, C, 3) areas of a model of that quality; the labels depend on the seed alone."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 100, (images, classes)) * (rng.random((images, classes)) < 0.6)
    label[:, 0] += 1
    inside = np.floor(label * np.clip(quality + 0.3 * rng.random((images, classes)), 0, 1)).astype(int)
    wrong = label.sum(1) - inside.sum(1)
    predicted = inside.copy()
    np.add.at(predicted, (np.arange(images), rng.integers(0, classes, images)), wrong)
    return np.stack([inside, predicted, label], axis=2)


@given(st.integers(0, 10**6), st.integers(1, 8), st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_it_agrees_with_sums_written_out(seed, images, classes):
    a, b = made(seed, images, classes, 0.6), made(seed, images, classes, 0.3)
    found = bootstrap_areas(entries(a), entries(b), images, resamples=5, seed=seed)
    ones = [1.0] * images
    assert found.values == pytest.approx((oracle.mean_iou(ones, a), oracle.mean_iou(ones, b)), abs=1e-12)
    rng = np.random.default_rng(seed)
    weights = rng.standard_exponential((5, images))
    slow = [oracle.mean_iou(w, a) - oracle.mean_iou(w, b) for w in weights]
    assert found.resampled.tolist() == pytest.approx(slow, abs=1e-12)


def test_the_value_is_the_metric_that_the_task_reports():
    a = made(0, 20, 4, 0.6)
    found = bootstrap_areas(entries(a), entries(a), 20, resamples=2)
    assert found.values[0] == pytest.approx(summary(entries(a).total())["miou"], abs=1e-12)


def test_the_influence_is_what_a_image_adds():
    a, b = made(1, 30, 4, 0.6), made(1, 30, 4, 0.3)
    found = bootstrap_areas(entries(a), entries(b), 30, resamples=2)
    for u in (0, 7, 29):
        heavier = [1.0] * 30
        heavier[u] += 1e-6
        drop = oracle.mean_iou(heavier, a) - oracle.mean_iou(heavier, b)
        assert (drop - found.drop) / 1e-6 == pytest.approx(found.influence[u], abs=1e-6)
    assert found.influence.sum() == pytest.approx(0, abs=1e-12)


def test_one_class_in_every_image_is_the_test_of_a_mean_of_hits():
    # all pixels of an image right or wrong, and wrong ones ignored by the union: IoU is the share of right images,
    # up to the pixels that a wrong image puts nowhere
    from cosmos_eval.metrics.paired import drops_of, p_of_drop

    lost = np.arange(40) < 6
    label = np.full(40, 10)
    a = np.stack([label, label, label], axis=1)[:, None]
    b = np.stack([label * ~lost, label * ~lost, label], axis=1)[:, None]
    found = bootstrap_areas(entries(a), entries(b), 40, resamples=20_000, seed=0)
    assert found.drop == pytest.approx(6 / 40)
    exact = p_of_drop(drops_of(np.ones(40), (~lost).astype(float), np.arange(40)), 0.05)
    # the unseen image is reckoned to first order; three Monte-Carlo errors on top
    assert found.p(0.05) == pytest.approx(exact, abs=0.03)


def test_equal_models_pass_and_a_ruined_one_does_not():
    a = made(2, 60, 4, 0.6)
    equal = bootstrap_areas(entries(a), entries(a), 60, resamples=500)
    assert equal.p(0.0) == 1
    low, high = equal.interval()
    assert low < 0 < high
    ruined = a.copy()
    ruined[:, :, 0] = 0
    found = bootstrap_areas(entries(a), entries(ruined), 60, resamples=500)
    assert found.p(0.0) == pytest.approx(1 / 501)
    assert found.least_p(0.0) == pytest.approx(1 / 501)


def test_three_images_can_never_say_anything():
    a = made(3, 3, 4, 0.6)
    found = bootstrap_areas(entries(a), entries(a), 3, resamples=2000)
    assert found.least_p(0.0) > 0.05


def test_a_class_may_be_asked_for_alone():
    a, b = made(4, 30, 4, 0.6), made(4, 30, 4, 0.3)
    found = bootstrap_areas(entries(a), entries(b), 30, labels=(2,), resamples=50)
    assert found.values[0] == pytest.approx(oracle.mean_iou([1.0] * 30, a[:, [2]]))


def test_a_seed_gives_the_same_p_and_another_seed_nearly_the_same():
    a, b = made(5, 40, 4, 0.5), made(6, 40, 4, 0.5)
    b[:, :, 2] = a[:, :, 2]
    p = [bootstrap_areas(entries(a), entries(a), 40, resamples=300, seed=s).interval() for s in (1, 1, 2)]
    assert p[0] == p[1] != p[2]
    assert p[0] == pytest.approx(p[2], abs=0.02)


def test_no_images_and_no_resamples_are_refused():
    a = made(0, 3, 2, 0.5)
    with pytest.raises(ValueError, match="at least 1 image"):
        bootstrap_areas(entries(a), entries(a), 0)
    with pytest.raises(ValueError, match="2 resamples"):
        bootstrap_areas(entries(a), entries(a), 3, resamples=1)
