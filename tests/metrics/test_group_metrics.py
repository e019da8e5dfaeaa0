"""Macro F1 and the worst group: against scikit-learn, under ties, and paired between two models."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from cosmos_eval.metrics.macro_f1 import f1_entries, macro_f1, tied_predictions
from cosmos_eval.metrics.paired_ratios import PairedRatios
from cosmos_eval.metrics.proportion import ProportionEstimate, mid_p_bounds
from cosmos_eval.metrics.query_scores import DotProducts
from cosmos_eval.metrics.resampled_metric import UnitSums, mean_of_ratios
from cosmos_eval.metrics.worst_group import smallest_ratio, worst_interval


def ratio_sums(values, groups, combine=smallest_ratio) -> UnitSums:
    n, count = len(values), int(max(groups)) + 1
    names = np.array([str(i) for i in range(n)], dtype=object)
    return UnitSums.build(
        names,
        np.tile(np.arange(n), 2),
        np.concatenate([groups, np.asarray(groups) + count]),
        np.concatenate([values, np.ones(n)]),
        combine,
    )


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40))
def test_macro_f1_is_scikit_learns_over_the_classes_that_have_samples(pairs):
    labels, predictions = (np.array(column) for column in zip(*pairs, strict=True))
    ours = macro_f1(f1_entries([[int(one)] for one in predictions], labels))
    theirs = f1_score(labels, predictions, average="macro", labels=np.unique(labels), zero_division=0)
    assert ours == pytest.approx(theirs, abs=1e-12)


def test_tied_classes_are_predicted_with_equal_probability():
    # two samples of class 0 and one of class 1; the first is predicted 0 or 1, the others 1
    entries = f1_entries([[0, 1], [1], [1]], np.array([0, 0, 1]))
    # class 0: TP 1/2, predicted 1/2, labelled 2; class 1: TP 1, predicted 5/2, labelled 1
    assert macro_f1(entries) == pytest.approx((2 * 0.5 / 2.5 + 2 * 1 / 3.5) / 2)


def test_a_constant_model_has_the_f1_of_a_random_guess_and_a_perfect_one_100():
    labels = np.repeat(np.arange(4), [10, 20, 30, 40])
    constant = macro_f1(f1_entries([[0, 1, 2, 3]] * 100, labels))
    # TP n/4, predicted 25, labelled n for each class
    assert constant == pytest.approx(np.mean([2 * (n / 4) / (25 + n) for n in (10, 20, 30, 40)]))
    assert macro_f1(f1_entries([[int(one)] for one in labels], labels)) == 1.0


def test_samples_without_a_prediction_or_none_at_all_are_refused():
    with pytest.raises(ValueError, match="at least one predicted class"):
        f1_entries([[0], []], np.array([0, 1]))
    with pytest.raises(ValueError, match="at least one predicted class"):
        f1_entries([], np.zeros(0, np.int64))


def test_the_classes_that_share_the_highest_score_are_found():
    images = torch.eye(3)
    classes = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    assert tied_predictions(DotProducts(images, classes)) == [[0, 1], [2], [0, 1, 2]]


def test_the_interval_of_the_worst_group_covers_the_smallest_true_rate():
    """Of four groups of 50 with one rate the worst one observed is far below it."""
    rng = np.random.default_rng(0)
    cases = [[(hits / 50, 50.0) for hits in rng.binomial(50, 0.6, size=4)] for _ in range(300)]
    low = mid_p_bounds(np.arange(51), 50.0)[0]
    covered = 0
    for case in cases:
        estimates = [ProportionEstimate(rate, n, n, 10.0) for rate, n in case]
        bounds = worst_interval(estimates, [low[round(50 * rate)] for rate, _ in case])
        covered += bounds[0] <= 0.6 <= bounds[1]
        assert bounds[0] <= min(rate for rate, _ in case) <= bounds[1]
    assert covered / len(cases) > 0.93
    with pytest.raises(ValueError, match="one at least"):
        worst_interval([], [])


def test_the_smallest_ratio_leaves_out_groups_without_weight():
    sums = np.array([[1.0, 0.0, 3.0, 4.0, 0.0, 4.0], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]])
    assert smallest_ratio(sums).tolist() == [0.25, 0.0]


@pytest.mark.parametrize("combine", [smallest_ratio, mean_of_ratios])
def test_a_candidate_that_loses_everything_is_a_regression_and_an_equal_one_is_not(combine):
    rng = np.random.default_rng(1)
    groups = rng.integers(0, 3, 300)
    right = (rng.random(300) < 0.8).astype(float)
    baseline = ratio_sums(right, groups, combine)
    same = PairedRatios(baseline, baseline, (1.0, 1.0), 1.0).bootstrap_drop(400, 0)
    assert same.drop == 0
    assert same.p_value(0.0) > 0.5
    lost = PairedRatios(baseline, ratio_sums(np.zeros(300), groups, combine), (1.0, 1.0), 1.0)
    drop = lost.bootstrap_drop(400, 0)
    assert drop.drop == pytest.approx(float(baseline.values(np.ones((1, 300)))[0]))
    assert drop.p_value(0.0) == pytest.approx(1 / 401)
    assert drop.least_p_value(0.0) == pytest.approx(1 / 401)
    low, high = drop.interval()
    assert low < drop.drop < high
    assert lost.swapped().bootstrap_drop(400, 0).drop == pytest.approx(-drop.drop)


def test_influences_are_the_derivatives():
    rng = np.random.default_rng(2)
    groups = rng.integers(0, 3, 60)
    baseline, candidate = (ratio_sums((rng.random(60) < p).astype(float), groups, mean_of_ratios) for p in (0.7, 0.5))
    influence = PairedRatios(baseline, candidate, (1.0, 1.0), 1.0).bootstrap_drop(2, 0).influence
    weights = np.ones((2, 60))
    weights[1, 7] += 1e-6
    change = np.subtract(*(np.diff(model.values(weights))[0] for model in (baseline, candidate)))
    assert influence[7] == pytest.approx(change / 1e-6, rel=1e-4)
    assert influence.sum() == pytest.approx(0, abs=1e-12)
