"""Intervals and paired tests of averages: joint resampling against an explicit one, coverage, level."""

import numpy as np
import pytest

from benchmarks.average_coverage import measure
from benchmarks.average_simulations import SUITES, members_of
from benchmarks.studies import average_calibration
from cosmos_eval.metrics.average_interval import BOOTSTRAP, RECOVERED, average_interval
from cosmos_eval.metrics.iou import PixelCounts
from cosmos_eval.metrics.paired_average import PairedAverage, join_hits
from cosmos_eval.metrics.paired_average_precision import PairedLabelScores
from cosmos_eval.metrics.paired_drop import drop_p_value
from cosmos_eval.metrics.paired_samples import Hits, PairedPixelCounts
from cosmos_eval.metrics.resampled_metric import (
    group_by_shared_units,
    resample_together,
    shared_fraction,
)


def named(*names: str) -> np.ndarray:
    return np.array(names, dtype=object)


def hits(values, names, classes=None, weights=None) -> Hits:
    values = np.asarray(values, float)
    unit = np.unique(np.asarray(names).astype(str), return_inverse=True)[1]
    return Hits(values, values, unit, weights, np.asarray(names, dtype=object), classes)


def test_metrics_that_share_units_directly_or_through_others_are_one_group():
    groups = group_by_shared_units([named("a", "b"), named("c"), named("b", "d"), named("e"), named("d", "c")])
    assert groups == [[0, 1, 2, 4], [3]]
    assert shared_fraction(named("a", "b"), named("b", "c", "d", "e")) == pytest.approx(1 / np.sqrt(8))


def test_the_same_metric_twice_is_the_same_in_every_resample_and_another_is_not():
    rng = np.random.default_rng(0)
    values, names = rng.random(200), [f"i{i}" for i in range(200)]
    one = hits(values, names).of_model(0)
    other = hits(values, [f"j{i}" for i in range(200)]).of_model(0)
    first, second, third = resample_together([one, one, other], 400).T
    assert np.array_equal(first, second)
    assert abs(np.corrcoef(first, third)[0, 1]) < 0.2
    assert first.std() == pytest.approx(values.std() / np.sqrt(200), rel=0.15)


def test_joint_resampling_has_the_covariance_of_the_shared_images():
    """Against the formula for two means of which some units are shared: cov = sum of products over n m."""
    rng = np.random.default_rng(1)
    difficulty = rng.standard_normal(500)
    first = (difficulty[:400] + rng.standard_normal(400) < 0.3).astype(float)
    second = (difficulty[200:] + rng.standard_normal(300) < 0.5).astype(float)
    metrics = [
        hits(first, [f"{i}" for i in range(400)]).of_model(0),
        hits(second, [f"{i}" for i in range(200, 500)]).of_model(0),
    ]
    resampled = resample_together(metrics, 20_000, seed=3)
    centred = first[200:] - first.mean(), second[:200] - second.mean()
    expected = (centred[0] * centred[1]).sum() / (400 * 300)
    assert np.cov(resampled.T)[0, 1] == pytest.approx(expected, rel=0.1)


def test_means_per_class_vary_inside_classes_only():
    values = np.repeat([1.0, 0.0], 100)  # one class all right, one all wrong: nothing varies inside
    names = [f"{i}" for i in range(200)]
    classes = np.repeat([0, 1], 100)
    metric = hits(values, names, classes).of_model(0)
    assert resample_together([metric], 200).std() == 0
    assert resample_together([hits(values, names).of_model(0)], 200).std() > 0.02


def test_several_samples_of_one_image_are_one_unit_and_equal_contents_are_one_image():
    names = ["a", "a", "a", "b", "c", "c"]
    metric = hits([1, 0, 1, 0, 1, 1], names).of_model(0)
    assert len(metric.names) == 3
    assert metric.values(np.ones((1, 3)))[0] == pytest.approx(4 / 6)
    assert metric.values(np.array([[1.0, 2.0, 0.5]]))[0] == pytest.approx((2 + 0 + 1) / (3 + 2 + 1))


def test_mean_iou_and_average_precision_resample_with_the_others():
    areas = np.array([[5, 5, 10], [4, 8, 4], [0, 3, 6], [9, 9, 9]])  # intersection, prediction, label
    counts = PixelCounts(np.array([0, 0, 1, 2]), np.array([0, 1, 0, 1]), areas, 2)
    iou = PairedPixelCounts(counts, counts, 3, None, named("a", "b", "c")).of_model(0)
    # class 0: 5 of 10 and 0 of 9; class 1: 4 of 8 and 9 of 9
    assert iou.values(np.ones((1, 3)))[0] == pytest.approx((5 / 19 + 13 / 17) / 2)
    assert iou.values(np.array([[1.0, 0.0, 0.0]]))[0] == pytest.approx((5 / 10 + 4 / 8) / 2)
    scores = np.array([[0.9], [0.8], [0.1]])
    labels = np.array([[1], [0], [1]])
    precision = PairedLabelScores(scores, scores, labels, named("a", "b", "c")).of_model(0)
    assert precision.values(np.ones((1, 3)))[0] == pytest.approx((1 + 2 / 3) / 2)
    first, second = resample_together([iou, precision], 300).T
    assert first.std() > 0.01
    assert second.std() > 0.01


def test_one_member_has_its_own_interval_and_few_errors_are_recovered_from_members():
    rng = np.random.default_rng(4)
    outcomes = [(rng.random(400) < 0.6).astype(float)]
    (member,) = members_of(outcomes, [named(*(f"{i}" for i in range(400)))])
    interval = average_interval([member])
    assert interval.method == BOOTSTRAP
    assert interval.low == pytest.approx(member.low, abs=0.006)
    assert interval.high == pytest.approx(member.high, abs=0.006)
    perfect = members_of([np.ones(30)], [named(*(f"{i}" for i in range(30)))])
    interval = average_interval(perfect)
    assert interval.method == RECOVERED
    assert (interval.low, interval.high) == (pytest.approx(perfect[0].low), 1.0)


def test_coverage_of_a_small_sample_of_simulations():
    """Few trials: only gross errors fail. In full: results/average_intervals.md."""
    for number in (0, 5):
        result = measure(SUITES[number], 25, seed=number, resamples=200)
        assert result.covered >= 0.8


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(SUITES)))
def test_coverage_is_93_to_97_percent(number):
    assert measure(SUITES[number], 1000, seed=number).holds


def test_joined_hits_are_the_average_and_one_image_is_one_unit():
    first = hits([1, 1, 0, 0], ["a", "b", "c", "d"])
    second = hits([1, 0], ["a", "e"])
    joined = join_hits([(0.5, first), (0.5, second)], [first.unit_names, second.unit_names])
    assert joined.values() == (pytest.approx(0.5), pytest.approx(0.5))
    assert len(np.unique(joined.unit)) == 5


def test_the_bootstrapped_average_has_the_drop_of_its_members():
    rng = np.random.default_rng(5)
    names = named(*(f"{i}" for i in range(300)))
    baseline = (rng.random(300) < 0.7).astype(float)
    candidate = np.where(rng.random(300) < 0.2, 0.0, baseline)
    samples = Hits(baseline, candidate, np.arange(300), unit_names=names)
    average = PairedAverage(((0.5, samples), (0.5, samples)), ((samples.of_model(0), samples.of_model(1)),) * 2)
    drop = average.bootstrap_drop(500, 0)
    assert drop.drop == pytest.approx(baseline.mean() - candidate.mean())
    assert average.images == 300
    low, high = drop.interval()
    exact = drop_p_value(samples.differences(), 0.0)
    assert low < drop.drop < high
    assert drop.p_value(0.0) < 0.01
    assert exact < 0.01
    assert average.swapped().bootstrap_drop(500, 0).drop == pytest.approx(-drop.drop)


def test_the_level_of_a_small_sample_of_simulations():
    """In full: results/regress_averages.md."""
    for simulation, _ in average_calibration.HITS[:1]:
        row = average_calibration.measure(simulation, 30, seed=3)
        assert row.false_alarms <= 0.2
    row = average_calibration.measure_bootstrap(average_calibration.BOOTSTRAPS[2](), 5, seed=4)
    assert row.false_alarms <= 0.6


@pytest.mark.slow
def test_the_level_is_kept_in_all_simulations():
    for number, (simulation, _) in enumerate(average_calibration.HITS):
        assert average_calibration.keeps_level(average_calibration.measure(simulation, 1000, seed=number))
    for number, build in enumerate(average_calibration.BOOTSTRAPS):
        assert average_calibration.keeps_level(average_calibration.measure_bootstrap(build(), 300, seed=number))
