"""Intervals of calibration, AUROC, FPR95 and of embeddings: against slow oracles, by hand, at the edges."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student
from torch.nn.functional import normalize

from benchmarks import geometry_coverage as script
from cosmos_core.collapse import uniformity
from cosmos_eval.metrics.calibration import reliability
from cosmos_eval.metrics.calibration_interval import calibration_error_interval
from cosmos_eval.metrics.detection_interval import detection_intervals, resample
from cosmos_eval.metrics.embedding_geometry import effective_rank, modality_gap
from cosmos_eval.metrics.embedding_intervals import (
    effective_rank_interval,
    gap_interval,
    mean_interval,
    uniformity_interval,
)
from tests.oracles.geometry_intervals import calibration_error_at, dyadic_error, jackknife_error, resampled_detection

SCORES = st.lists(st.integers(0, 12), min_size=1, max_size=30).map(lambda values: np.array(values) / 8)


def overconfident(n: int, rng: np.random.Generator, by: float) -> tuple[np.ndarray, np.ndarray]:
    confidence = rng.beta(6, 1.2, n)
    return confidence, (rng.random(n) < np.clip(confidence - by, 0, 1)).astype(float)


def test_calibration_bounds_are_errors_with_which_the_observed_one_is_at_its_quantiles():
    rng = np.random.default_rng(0)
    unit = np.repeat(np.arange(60), 2)
    confidence, correct = overconfident(120, rng, 0.3)
    low, high = calibration_error_interval(confidence, correct, unit, bins=5, resamples=60)
    error = reliability(confidence, correct, 5).error
    for bound, quantile in ((low, 0.975), (high, 0.025)):
        errors = calibration_error_at(bound / error, confidence, correct, unit, 5, 60, 0)
        assert np.quantile(errors, quantile) == pytest.approx(error, abs=1e-9)


def test_the_interval_of_a_calibrated_model_begins_at_0_while_all_resamples_are_above():
    rng = np.random.default_rng(1)
    contains, below = 0, 0
    for _ in range(20):
        confidence, correct = overconfident(200, rng, 0.0)
        low, high = calibration_error_interval(confidence, correct, np.arange(200), resamples=100)
        contains += low == 0
        drawn = rng.integers(0, 200, (30, 200))
        below += min(reliability(confidence[one], correct[one]).error for one in drawn) > 0
        assert low <= reliability(confidence, correct).error <= high
    assert (contains >= 17, below) == (True, 20)


def test_a_model_that_is_always_right_may_still_be_overconfident():
    """Resamples show no wrong image; of 20 images that are right up to 14 % may be wrong (mid-p)."""
    low, high = calibration_error_interval(np.full(20, 1.0), np.ones(20), np.arange(20))
    assert low == 0
    assert 0.1 < high < 0.2


@pytest.mark.parametrize(("n", "m"), [(40, 25), (7, 60)])
def test_resampled_detection_is_that_of_written_out_resamples(n, m):
    rng = np.random.default_rng(2)
    inside, outside = rng.integers(3, 12, n) / 8, rng.integers(0, 9, m) / 8  # with ties
    np.testing.assert_allclose(
        resample(inside, outside, 30, 5), resampled_detection(inside, outside, 30, 5), atol=1e-12
    )


@settings(max_examples=8, deadline=None)
@given(SCORES, SCORES)
def test_detection_intervals_hold_their_values_and_depend_on_the_order_of_scores_only(inside, outside):
    from cosmos_eval.metrics.out_of_distribution import auroc, fpr_at_recall

    intervals = detection_intervals(inside, outside, resamples=20)
    for value, (low, high) in zip((auroc(inside, outside), fpr_at_recall(inside, outside)), intervals, strict=True):
        assert 0 <= low <= value <= high <= 1
    assert detection_intervals(np.exp(inside), np.exp(outside), resamples=20) == intervals


def test_samples_that_are_apart_may_overlap_in_the_population():
    (low, high), (least, most) = detection_intervals(np.arange(30) + 100.0, np.arange(50.0))
    assert high == 1
    assert 0.85 < low < 0.93  # as an accuracy of 30 of 30: mid-p
    # the 5 % quantile from inside may be below 30 scores from inside, and so below all others
    assert (least, most) == (0, 1)
    assert detection_intervals(np.arange(500) + 1000.0, np.arange(500.0))[1][1] < 0.02


def test_a_mean_of_independent_values_has_the_interval_of_student():
    values = np.random.default_rng(3).normal(size=25)
    expected = student.interval(0.95, 24, values.mean(), values.std(ddof=1) / 5)
    assert mean_interval(values, np.arange(25)) == pytest.approx(expected)
    # captions that agree say as much as one
    assert mean_interval(np.repeat(values, 3), np.repeat(np.arange(25), 3)) == pytest.approx(expected)


def test_pairs_of_two_images_depend_on_those_with_a_common_image():
    rng = np.random.default_rng(4)
    effect = rng.normal(size=12)
    unit, other = rng.integers(0, 12, 40), rng.integers(0, 12, 40)
    keep = unit != other
    unit, other = unit[keep], other[keep]
    values = effect[unit] + effect[other] + 0.1 * rng.normal(size=len(unit))
    low, high = mean_interval(values, unit, other)
    units = len({*unit, *other})
    width = student.ppf(0.975, units - 1) * dyadic_error(values, unit, other)
    assert (low, high) == pytest.approx((values.mean() - width, values.mean() + width))


def test_uniformity_and_rank_are_those_without_each_unit():
    generator = torch.Generator().manual_seed(0)
    features = normalize(torch.randn(24, 5, generator=generator) * torch.linspace(0.2, 1, 5), dim=1)
    unit = np.repeat(np.arange(12), 2)
    for interval, statistic in ((uniformity_interval, uniformity), (effective_rank_interval, effective_rank)):
        error, groups = jackknife_error(statistic, features, unit)
        width = student.ppf(0.975, groups - 1) * error
        value = statistic(features)
        assert interval(features, unit) == pytest.approx((value - width, value + width), abs=2e-4), statistic
    few = features[:4]  # fewer than dimensions
    low, high = effective_rank_interval(few, np.arange(4))
    assert low <= effective_rank(few) <= high


def test_modalities_without_a_gap_have_an_interval_from_0():
    generator = torch.Generator().manual_seed(1)
    images, texts = (normalize(torch.randn(50, 16, generator=generator), dim=1) for _ in range(2))
    gap = modality_gap(images, texts)
    low, high = gap_interval(images, texts, np.arange(50), resamples=200)
    assert (low, gap > 0.1, high < 2 * gap) == (0, True, True)
    apart = gap_interval(images, texts + torch.tensor([3.0] + [0.0] * 15), np.arange(50), resamples=200)
    assert apart[1] == 2  # the largest distance of unit vectors


def test_classes_do_not_vary_and_a_single_image_has_no_interval():
    generator = torch.Generator().manual_seed(2)
    images, classes = (normalize(torch.randn(n, 8, generator=generator) + 0.5, dim=1) for n in (40, 3))
    fixed = gap_interval(images, classes, None, resamples=200)
    captions = gap_interval(images, classes, np.array([0, 1, 2]), resamples=200)
    assert fixed[1] - fixed[0] < captions[1] - captions[0]
    one = images[:1]
    assert np.isnan(gap_interval(one, classes, None)).all()
    for interval in (uniformity_interval, effective_rank_interval):
        assert np.isnan(interval(images[:2], np.arange(2))).all()
    assert np.isnan(mean_interval(np.ones(3), np.zeros(3, dtype=int))).all()


def test_the_benchmark_finds_the_true_values_in_most_intervals(monkeypatch):
    """Few samples: only gross errors fail. In full: results/geometry_intervals.md."""
    monkeypatch.setattr(script, "RESAMPLES", 50)
    measured = script.measure(script.detection(40, 40, 1.8, 1.0), trials=15)
    assert [(one.figure, one.method) for one in measured] == [
        (figure, method) for figure in ("AUROC", "FPR95") for method in ("ours", "bootstrap")
    ]
    ours = [one for one in measured if one.method == "ours"]
    # Phi(1.8 / sqrt 2); 95 % from inside are above 1.8 - 1.645, and so are 1 - Phi(0.155) from outside
    assert [round(one.true, 3) for one in ours] == [0.898, 0.438]
    assert all(one.covered >= 0.8 for one in ours)
    assert script.table(measured).count("\n") == 3
