"""Percentile bootstrap: against resamples that are written out, widths, and seeds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_eval.metrics.bootstrap import (
    bootstrap_intervals,
    mean_estimator,
    mean_per_class_estimator,
    median_estimator,
)
from tests.oracles import accuracy
from tests.oracles.bootstrap import resampled


@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 25))
@settings(max_examples=40, deadline=None)
def test_all_estimators_agree_with_resamples_written_out(seed, units, samples):
    rng = np.random.default_rng(seed)
    unit = rng.integers(0, units, samples)
    values = rng.integers(0, 5, samples) / 4
    labels = rng.integers(0, 3, samples)
    slow = [
        resampled(lambda i: float(values[i].mean()), unit, units, 20, seed),
        resampled(lambda i: float(np.median(values[i])), unit, units, 20, seed),
        resampled(lambda i: accuracy.mean_per_class(values[i].tolist(), labels[i].tolist()), unit, units, 20, seed),
    ]
    estimators = [
        mean_estimator(values, unit, units),
        median_estimator(values, unit),
        mean_per_class_estimator(values, labels, unit),
    ]
    if not slow[0]:
        return  # 20 resamples without a single sample: nothing to compare
    bounds = bootstrap_intervals(estimators, units, resamples=20, seed=seed)
    for (low, high), resamples in zip(bounds, slow, strict=True):
        assert [low, high] == pytest.approx(np.quantile(resamples, [0.025, 0.975]).tolist(), abs=1e-12)


def test_constant_values_have_an_interval_of_width_zero():
    ones, unit = np.ones(50), np.arange(50)
    assert bootstrap_intervals([mean_estimator(ones, unit, 50), median_estimator(ones, unit)], 50) == [(1, 1), (1, 1)]


def test_the_mean_of_coin_tosses_has_the_width_of_the_binomial():
    values = np.tile([0.0, 1.0], 500)
    ((low, high),) = bootstrap_intervals([mean_estimator(values, np.arange(1000), 1000)], 1000)
    # 1.96 * sqrt(0.25 / 1000) = 0.031, up to the noise of a thousand resamples
    assert low == pytest.approx(0.5 - 0.031, abs=0.004)
    assert high == pytest.approx(0.5 + 0.031, abs=0.004)


def test_captions_of_one_image_count_as_one_when_they_all_agree():
    values = np.tile([0.0, 1.0], 100)
    five_captions = bootstrap_intervals([mean_estimator(values.repeat(5), np.arange(200).repeat(5), 200)], 200)
    one_caption = bootstrap_intervals([mean_estimator(values, np.arange(200), 200)], 200)
    wrong_unit = bootstrap_intervals([mean_estimator(values.repeat(5), np.arange(1000), 1000)], 1000)
    assert five_captions == one_caption
    assert five_captions[0][1] - five_captions[0][0] > 1.8 * (wrong_unit[0][1] - wrong_unit[0][0])


def test_a_seed_gives_the_same_interval_and_another_seed_another():
    values = np.random.default_rng(0).random(40)
    estimator = mean_estimator(values, np.arange(40), 40)
    assert bootstrap_intervals([estimator], 40, seed=3) == bootstrap_intervals([estimator], 40, seed=3)
    assert bootstrap_intervals([estimator], 40, seed=3) != bootstrap_intervals([estimator], 40, seed=4)


def test_an_interval_does_not_depend_on_the_other_metrics():
    values, unit = np.random.default_rng(0).random(40), np.arange(40)
    both = bootstrap_intervals([median_estimator(values, unit), mean_estimator(values, unit, 40)], 40)
    assert both == [
        *bootstrap_intervals([median_estimator(values, unit)], 40),
        *bootstrap_intervals([mean_estimator(values, unit, 40)], 40),
    ]


def test_an_interval_needs_units_and_resamples():
    with pytest.raises(ValueError, match="at least 1 unit"):
        bootstrap_intervals([lambda drawn: 0.0], 0)
    with pytest.raises(ValueError, match="2 resamples"):
        bootstrap_intervals([lambda drawn: 0.0], 5, resamples=1)
