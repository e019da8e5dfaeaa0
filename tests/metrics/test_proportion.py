"""Intervals of proportions: exact for independent samples, with a width where nothing varies, else the bootstrap."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.interval_coverage import bootstrap_bounds, coverage, exact_coverage, interval_bounds, least_allowed
from cosmos_eval.metrics.bootstrap import bootstrap_intervals, mean_estimator
from cosmos_eval.metrics.iou import PixelCounts, estimate_pixel_proportion
from cosmos_eval.metrics.proportion import (
    UNSEEN,
    ProportionEstimate,
    estimate_proportion,
    mid_p_bounds,
    proportion_intervals,
)
from cosmos_eval.metrics.rank_interval import mean_rank_interval, median_rank_interval
from cosmos_eval.tasks.common import Measured
from tests.oracles import proportion as oracle


def interval_of_mean(values, unit=None, **options) -> tuple[float, float]:
    """The interval of a mean, computed as the tasks do."""
    values = np.asarray(values, np.float64)
    unit = np.arange(len(values)) if unit is None else np.asarray(unit)
    units = int(unit.max()) + 1
    bootstrap = bootstrap_intervals([mean_estimator(values, unit, units)], units)
    return proportion_intervals([estimate_proportion(values, unit, **options)], bootstrap)[0]


def correct(count: int, n: int) -> np.ndarray:
    """(n,) outcomes, the first `count` of them 1."""
    return (np.arange(n) < count).astype(np.float64)


@pytest.mark.parametrize("n", [1, 2, 6, 10, 23])
def test_mid_p_agrees_with_binomial_sums(n):
    low, high = mid_p_bounds(np.arange(n + 1), n)
    assert low == pytest.approx([oracle.lower(k, n) for k in range(n + 1)], abs=1e-9)
    assert high == pytest.approx([1 - oracle.lower(n - k, n) for k in range(n + 1)], abs=1e-9)


def test_six_correct_of_six_allow_a_true_accuracy_of_61_percent():
    # p ** 6 / 2 = 0.025
    assert interval_of_mean(np.ones(6)) == (pytest.approx(0.05 ** (1 / 6)), 1.0)
    assert interval_of_mean(np.zeros(6)) == (0.0, pytest.approx(1 - 0.05 ** (1 / 6)))


@given(st.floats(0, 1), st.floats(0, 1), st.floats(1, 1e6), st.floats(1, 4))
@settings(max_examples=80, deadline=None)
def test_mid_p_rises_with_hits_narrows_with_n_and_is_symmetric(share, other_share, n, factor):
    first, second = sorted((share, other_share))
    low, high = mid_p_bounds(np.array([first, second]) * n, n)
    assert (low >= 0).all()
    assert (high <= 1).all()
    assert (low < high).all(), "an interval of width zero"
    assert low[0] <= low[1] + 1e-9
    assert high[0] <= high[1] + 1e-9
    misses = mid_p_bounds(n - first * n, n)
    assert (1 - misses[1], 1 - misses[0]) == (pytest.approx(low[0], abs=1e-9), pytest.approx(high[0], abs=1e-9))
    narrower = mid_p_bounds(first * n * factor, n * factor)
    assert narrower[1] - narrower[0] <= high[0] - low[0] + 1e-9


@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_the_interval_contains_the_proportion_and_mirrors_that_of_wrong_samples(seed, units, samples):
    rng = np.random.default_rng(seed)
    values, unit = rng.choice([0.0, 0.0, 0.25, 1 / 3, 0.5, 1.0], samples), rng.integers(0, units, samples)
    classes = rng.integers(0, 3, samples)
    for options in ({}, {"classes": classes}, {"weights": rng.random(samples) + 0.01}):
        estimate, of_wrong = (
            estimate_proportion(values, unit, **options),
            estimate_proportion(1 - values, unit, **options),
        )
        assert of_wrong.value == pytest.approx(1 - estimate.value)
        assert (of_wrong.n_low, of_wrong.n_high) == (pytest.approx(estimate.n_high), pytest.approx(estimate.n_low))
        assert of_wrong.rarer_count == pytest.approx(estimate.rarer_count)
        ((low, high),) = proportion_intervals([estimate], [(estimate.value, estimate.value)])
        assert 0 <= low <= estimate.value <= high <= 1
        assert low < high
        ((mirrored, _),) = proportion_intervals([of_wrong], [(of_wrong.value, of_wrong.value)])
        assert mirrored == pytest.approx(1 - high, abs=1e-9)


@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_the_effective_n_agrees_with_the_slow_oracle(seed, units, samples):
    rng = np.random.default_rng(seed)
    values, unit = rng.choice([0.0, 0.5, 1.0], samples), rng.integers(0, units, samples)
    estimate = estimate_proportion(values, unit)
    assert estimate.n_high == pytest.approx(oracle.effective_n(values.tolist(), unit.tolist(), UNSEEN, 1.0), rel=1e-6)
    assert estimate.n_low == pytest.approx(oracle.effective_n(values.tolist(), unit.tolist(), UNSEEN, 0.0), rel=1e-6)


@pytest.mark.parametrize(("count", "n"), [(0, 7), (3, 10), (15, 100), (25, 50), (980, 1000)])
def test_for_independent_samples_the_effective_n_is_the_number_of_samples(count, n):
    estimate = estimate_proportion(correct(count, n), np.arange(n))
    assert (estimate.n_low, estimate.n_high) == (pytest.approx(n), pytest.approx(n))
    assert estimate.rarer_count == min(count, n - count)


def test_with_twenty_correct_and_twenty_wrong_the_interval_is_the_bootstrap_exactly():
    for count in (20, 50, 80):
        ((low, high),) = bootstrap_intervals([mean_estimator(correct(count, 100), np.arange(100), 100)], 100)
        assert interval_of_mean(correct(count, 100)) == (low, high)
    captions = np.random.default_rng(0).random((200, 5)) < 0.1
    ((low, high),) = bootstrap_intervals([mean_estimator(captions.ravel(), np.arange(1000) // 5, 200)], 200)
    assert interval_of_mean(captions.ravel(), np.arange(1000) // 5) == (low, high)


def test_the_bounds_make_no_jump_between_mid_p_and_bootstrap():
    bounds = [interval_bounds(1000)[1][k] for k in range(8, 24)]
    steps = np.diff(bounds) * 1000
    assert steps.min() > 0.5
    assert steps.max() < 2.1  # one hit more moves a bound by one hit, or by two, as the bootstrap has whole ones only


def test_the_method_is_named():
    methods = [estimate_proportion(correct(count, 100), np.arange(100)).method for count in (0, 10, 11, 19, 20, 81, 95)]
    mixed = "mid-p and bootstrap"
    assert methods == ["mid-p", "mid-p", mixed, mixed, "bootstrap", mixed, "mid-p"]


def test_captions_that_agree_count_as_one_and_captions_that_do_not_count_as_many():
    agreeing = np.repeat(correct(5, 50), 5)
    assert interval_of_mean(agreeing, np.arange(250) // 5) == pytest.approx(interval_of_mean(correct(5, 50)))
    independent = estimate_proportion(np.random.default_rng(0).random(5000) < 0.3, np.arange(5000) // 5)
    assert independent.n_low == pytest.approx(5000, rel=0.1)
    assert independent.n_high == pytest.approx(5000, rel=0.1)


def test_equal_outcomes_have_an_interval_that_narrows_with_n():
    widths = [np.diff(interval_of_mean(np.full(n, 0.5)))[0] for n in (5, 20, 1000)]
    assert 0.4 > widths[0] > widths[1] > 0.05 > widths[2] > 0
    # a thousand ties of a thousand candidates: nothing lower is likely, but three hits in a thousand are possible
    low, high = interval_of_mean(np.full(1000, 0.001))
    assert low == pytest.approx(0.001, rel=0.01)
    assert 0.002 < high < 0.005


def test_classes_with_no_or_only_correct_samples_still_have_an_interval():
    labels = np.repeat([0, 1], 10)
    low, high = interval_of_mean(labels.astype(float), classes=labels)
    assert low < 0.42
    assert high > 0.58
    # one image per class: the classes are treated as one
    single = estimate_proportion(correct(6, 6), np.arange(6), classes=np.arange(6))
    assert (single.n_low, single.value) == (pytest.approx(6), 1)
    # a hundred images of one class say nothing about the other class, which has one image
    one_right = estimate_proportion(np.ones(101), np.arange(101), classes=np.r_[np.zeros(100, int), 1])
    assert one_right.n_low == pytest.approx(1 / (0.25 + 0.25 / 100))


def test_invalid_arguments_are_refused():
    for values, options in (([], {}), ([1.5], {}), ([np.nan], {}), ([1.0], {"weights": np.zeros(1)}),
                         ([1.0], {"classes": np.zeros(2, int)})):  # fmt: skip
        with pytest.raises(ValueError):
            estimate_proportion(np.array(values), np.arange(len(values)), **options)
    for k, n in ((1, 0), (-1, 3), (4, 3)):
        with pytest.raises(ValueError, match="n must be above 0"):
            mid_p_bounds(k, n)


@pytest.mark.parametrize("n", [10, 20, 50, 100, 1000, 5000])
def test_coverage_is_as_documented_at_every_proportion(n):
    """Sums of binomial probabilities, without noise. The lowest coverage is beside one of the bounds."""
    row = exact_coverage(n)
    assert 0.93 <= row.means[1] <= 0.98
    assert row.worst[0] >= least_allowed(n)
    assert row.worst[0] > 0.91
    assert row.worst_old[0] < 0.01, "the coverage of the bootstrap alone falls to zero near 0 and 1"
    assert row.holds


def test_coverage_is_a_sum_of_binomial_probabilities():
    low, high = bootstrap_bounds(3)
    assert low.tolist() == [0, 0, 0, 1]
    assert high.tolist() == [0, 1, 1, 1]
    assert coverage(3, (low, high), np.array([0.25])) == pytest.approx([1 - 0.75**3 - 0.25**3])


def pixel_counts(intersection, union, classes=1) -> PixelCounts:
    """Counts of images that have one class each, the classes in turn."""
    intersection, union = np.asarray(intersection), np.asarray(union)
    image = np.arange(len(intersection))
    return PixelCounts(image, image % classes, np.stack([intersection, intersection, union], axis=1), classes)


def test_iou_weights_images_by_their_pixels():
    perfect = estimate_pixel_proportion(pixel_counts([100] * 6, [100] * 6), "miou")
    assert (perfect.value, perfect.n_low) == (1, pytest.approx(6))
    one_large = estimate_pixel_proportion(pixel_counts([1000, 10, 10], [1000, 10, 10]), "miou")
    assert one_large.n_low == pytest.approx(1020**2 / (1000**2 + 2 * 10**2))
    estimate = estimate_pixel_proportion(pixel_counts([50, 10], [100, 100], classes=2), "miou")
    assert estimate.value == pytest.approx((0.5 + 0.1) / 2)
    assert estimate_pixel_proportion(pixel_counts([50, 10], [100, 100], classes=2), "miou", 1).value == pytest.approx(
        0.1
    )


@pytest.mark.parametrize("metric", ["miou", "pixel_accuracy", "mean_accuracy"])
def test_the_proportion_of_pixel_counts_is_the_metric(metric):
    from cosmos_eval.metrics.iou import segmentation_metrics
    from tests.metrics.test_paired_iou import dense_counts, to_entries

    entries = to_entries(dense_counts(0, 30, 4, 0.5))
    assert estimate_pixel_proportion(entries, metric).value == pytest.approx(
        segmentation_metrics(entries.total())[metric]
    )


def test_ranks_of_few_images_have_wide_intervals():
    ones, image = np.ones(4), np.arange(4)
    low, high, method = mean_rank_interval(ones, image, 50.5, (1.0, 1.0))
    # up to 1 - 0.025 ** (1 / 4) = 0.602 of the images may be unlike these four, and ranked as by chance
    assert (low, method) == (1, "bootstrap, units unseen")
    assert high == pytest.approx(1 + (1 - 0.025**0.25) * 49.5)
    assert median_rank_interval(ones, image, 100, (1.0, 1.0)) == (1, 100, "every rank")
    assert median_rank_interval(np.ones(6), np.arange(6), 100, (1.0, 1.0)) == (1, 1, "order statistics")
    many = np.arange(1, 101.0)
    assert mean_rank_interval(many, np.arange(100), 50.5, (45.0, 56.0)) == (45, 56, "bootstrap")
    assert median_rank_interval(many, np.arange(100), 100, (41.0, 60.0)) == (41, 60, "bootstrap")


def test_the_interval_of_the_median_of_ten_goes_from_the_second_to_the_ninth():
    ranks = np.arange(1, 11.0)
    low, high, _ = median_rank_interval(ranks, np.arange(10), 100, (4.0, 7.0))
    assert (low, high) == (
        2,
        9,
    )


def test_all_metrics_of_a_run_have_a_method_and_an_interval_that_contains_them():
    measured = Measured(8)
    values, labels = correct(7, 8), np.arange(8) % 3
    measured.mean("top1", values, np.arange(8))
    measured.mean_per_class("mean_per_class", values, labels, np.arange(8))
    measured.mean_rank("a_mean_rank", 1 + np.arange(8.0), np.arange(8), 50.5)
    measured.median_rank("a_median_rank", 1 + np.arange(8.0), np.arange(8), 100)
    for metric in measured.metrics(seed=0).values():
        assert metric.low < metric.value < metric.high
        assert metric.method
    assert ProportionEstimate(0.5, 10.0, 10.0, 15.0).bootstrap_weight == 0.5
