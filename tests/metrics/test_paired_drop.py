"""Paired test of a drop: by hand, against slow oracles, and cases in which it must not reject."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_eval.metrics.detectable_drop import detectable_drop, detection_power, measure_power_inputs
from cosmos_eval.metrics.paired_drop import (
    PairedDifferences,
    drop_interval,
    drop_p_value,
    holm,
    mcnemar,
    mean_per_class_weights,
    sum_differences,
)
from tests.oracles import paired_drop as oracle


def independent(losses: int, wins: int, unchanged: int) -> PairedDifferences:
    """Differences of independent samples with outcomes 0 and 1."""
    baseline = np.repeat([1.0, 0.0, 1.0], [losses, wins, unchanged])
    candidate = np.repeat([0.0, 1.0, 1.0], [losses, wins, unchanged])
    return sum_differences(baseline, candidate, np.arange(len(baseline)))


@pytest.mark.parametrize(("losses", "wins"), [(0, 0), (1, 0), (0, 3), (5, 0), (7, 2), (4, 4), (2, 9)])
def test_mcnemar_agrees_with_the_slow_oracle(losses, wins):
    assert mcnemar(losses, wins) == pytest.approx(float(oracle.mcnemar(losses, wins)), abs=1e-14)


def test_five_losses_without_a_win_are_needed_for_significance():
    # 2 ** -5
    assert drop_p_value(independent(5, 0, 100)) == pytest.approx(1 / 32)
    assert drop_p_value(independent(4, 0, 100)) == pytest.approx(1 / 16)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 60))
@settings(max_examples=40, deadline=None)
def test_for_independent_samples_of_0_and_1_the_test_is_mcnemar(losses, wins, unchanged):
    differences = independent(losses, wins, unchanged)
    assert differences.is_binary
    weighted = drop_p_value(PairedDifferences(differences.unit_drops, differences.unit_weights, is_binary=False))
    assert weighted == pytest.approx(mcnemar(losses, wins), rel=1e-9, abs=1e-14)


@given(st.integers(0, 10**6), st.integers(1, 6), st.floats(0, 0.3))
@settings(max_examples=12, deadline=None)
def test_p_agrees_with_a_bootstrap_that_is_drawn(seed, units, max_drop):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(units, 4 * units + 1))
    unit = np.concatenate([np.arange(units), rng.integers(0, units, n - units)])
    baseline, candidate = rng.integers(0, 5, (2, n)) / 4
    weights = rng.integers(1, 4, n) / 1.0
    slow = oracle.drop_p_value(baseline, candidate, unit, weights / weights.sum(), max_drop, draws=4000)
    fast = drop_p_value(sum_differences(baseline, candidate, unit, weights), max_drop)
    assert fast == pytest.approx(slow, abs=0.033)  # four standard errors of a proportion of 4,000


def test_captions_of_one_image_count_as_one():
    # five images lose all of their five captions: this is worth five lost samples, not twenty-five
    baseline, candidate = np.ones(200), np.ones(200)
    candidate[:25] = 0
    by_image = drop_p_value(sum_differences(baseline, candidate, np.repeat(np.arange(40), 5)))
    assert by_image == pytest.approx(1 / 32)
    assert drop_p_value(sum_differences(baseline, candidate, np.arange(200))) < 1e-7


@given(st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_neither_the_order_of_samples_nor_the_names_of_units_matter(seed):
    rng = np.random.default_rng(seed)
    unit = rng.integers(0, 9, 30)
    baseline, candidate = rng.integers(0, 3, (2, 30)) / 2
    order, names = rng.permutation(30), rng.permutation(1000)[:9]
    differences = sum_differences(baseline, candidate, unit)
    reordered = sum_differences(baseline[order], candidate[order], names[unit[order]])
    assert drop_p_value(differences, 0.02) == pytest.approx(drop_p_value(reordered, 0.02), abs=1e-9)
    assert drop_interval(differences) == pytest.approx(drop_interval(reordered), abs=1e-6)


@given(st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_p_rises_with_max_drop_and_falls_with_every_loss(seed):
    rng = np.random.default_rng(seed)
    unit = rng.integers(0, 12, 40)
    baseline, candidate = rng.integers(0, 3, (2, 40)) / 2
    p = [drop_p_value(sum_differences(baseline, candidate, unit), m) for m in (0.0, 0.01, 0.1, 0.5)]
    assert p == sorted(p)
    worse = candidate.copy()
    worse[rng.integers(40)] = 0
    assert drop_p_value(sum_differences(baseline, worse, unit), 0.01) <= p[1] + 1e-12


def test_an_equal_or_a_better_model_is_no_regression():
    rng = np.random.default_rng(0)
    hits = rng.integers(0, 2, 300).astype(float)
    unit = np.arange(300) // 3
    assert drop_p_value(sum_differences(hits, hits, unit)) == 1
    assert drop_p_value(sum_differences(hits, hits, unit), 0.01) > 0.9
    assert drop_p_value(sum_differences(hits, np.ones(300), unit)) > 0.999


def test_three_units_are_never_significant():
    assert drop_p_value(sum_differences(np.ones(30), np.zeros(30), np.arange(30) // 10)) == pytest.approx(1 / 8)
    assert drop_p_value(sum_differences(np.ones(50), np.zeros(50), np.arange(50) // 10)) == pytest.approx(1 / 32)


def test_a_rare_win_that_was_not_sampled_is_allowed_for():
    # Twenty units lose 0.01 each. If one unit in a hundred won everything, the true drop would be zero, and most
    # samples of twenty units would look like this one. Random sign flips and a t-test would both be certain of a drop.
    differences = sum_differences(np.full(20, 0.51), np.full(20, 0.50), np.arange(20))
    assert drop_p_value(differences) > 0.5


def test_the_interval_ends_where_the_test_rejects():
    differences = independent(30, 8, 200)
    low, high = drop_interval(differences)
    assert low < differences.drop < high
    assert drop_p_value(differences, low) == pytest.approx(0.025, abs=1e-4)
    mirrored = PairedDifferences(-differences.unit_drops, differences.unit_weights, differences.is_binary)
    assert drop_p_value(mirrored, -high) == pytest.approx(0.025, abs=1e-4)


def test_a_mean_over_classes_gives_classes_equal_weight():
    classes = np.array([0, 0, 0, 2])
    baseline, candidate = np.array([1.0, 1.0, 1.0, 1.0]), np.array([1.0, 1.0, 0.0, 0.0])
    differences = sum_differences(baseline, candidate, np.arange(4), mean_per_class_weights(classes))
    assert differences.drop == pytest.approx((1 / 3 + 1) / 2)
    assert differences.unit_weights.tolist() == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 2])


def test_invalid_samples_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        sum_differences(np.ones(0), np.ones(0), np.ones(0, dtype=int))
    with pytest.raises(ValueError, match="must have one length"):
        sum_differences(np.ones(3), np.ones(2), np.arange(3))
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        sum_differences(np.array([1.5]), np.ones(1), np.arange(1))
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        sum_differences(np.array([np.nan]), np.ones(1), np.arange(1))


def test_holm_by_hand():
    # sorted: .01 .02 .03 .5, times 4, 3, 2, 1, and never below the one before
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_detectable_drop_falls_with_more_data_and_rises_with_more_changes_and_max_drop():
    few, many = (
        detectable_drop(measure_power_inputs(independent(0, 0, 100))),
        detectable_drop(measure_power_inputs(independent(0, 0, 10_000))),
    )
    assert 10 * many < few
    few_changes, many_changes = (
        detectable_drop(measure_power_inputs(independent(k, k, 1000 - 2 * k))) for k in (5, 100)
    )
    assert few_changes < many_changes
    assert detectable_drop(measure_power_inputs(independent(5, 5, 990)), 0.01) > few_changes + 0.01
    # with many changes the normal approximation holds: 1.64 + 0.84 = 2.49 standard errors
    assert detectable_drop(measure_power_inputs(independent(2000, 2000, 46_000))) == pytest.approx(
        2.49 * 4000**0.5 / 50_000, rel=0.1
    )


def test_with_too_little_data_there_is_no_detectable_drop():
    assert detectable_drop(measure_power_inputs(independent(0, 0, 4))) == float("inf")
    inputs = measure_power_inputs(independent(2, 2, 60))
    smallest = detectable_drop(inputs)
    assert detection_power(inputs, smallest, 0.0, 0.05) >= 0.8
    assert detection_power(inputs, 0.9 * smallest, 0.0, 0.05) < 0.8
