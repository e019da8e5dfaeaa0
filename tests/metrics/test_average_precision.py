"""Average precision against scikit-learn, clip-benchmark, a slow oracle and numbers worked out by hand."""

import io
from fractions import Fraction

import numpy as np
import pytest
import torch
from clip_benchmark.metrics.zeroshot_classification import average_precision_per_class
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from cosmos_eval import progress
from cosmos_eval.cli.console import LineReporter
from cosmos_eval.metrics.average_precision import average_precision, rank_class
from cosmos_eval.metrics.paired_average_precision import PairedLabelScores
from tests.oracles import average_precision as oracle


def one_class(scores, labels):
    return float(average_precision(np.array(scores, float)[:, None], np.array(labels)[:, None])[0])


def test_five_images_by_hand():
    # positives at positions 1 and 4 of five: (1/1 + 2/4) / 2
    assert one_class([0.9, 0.8, 0.7, 0.6, 0.5], [1, 0, 0, 1, 0]) == 0.75
    # the second and third pass one threshold together: precision 2/3 for the positive among them
    assert one_class([0.9, 0.8, 0.8, 0.6], [1, 0, 1, 0]) == pytest.approx((1 + 2 / 3) / 2)


def test_an_image_that_is_left_out_changes_nothing():
    assert one_class([0.99, 0.9, 0.8, 0.8, 0.6], [-1, 1, 0, 1, 0]) == pytest.approx((1 + 2 / 3) / 2)


def test_a_perfect_model_has_one_and_a_constant_model_the_prevalence():
    labels = np.array([1, 1, 0, 0, 0])
    assert one_class([5, 4, 3, 2, 1], labels) == 1
    assert one_class([1, 1, 1, 1, 1], labels) == pytest.approx(2 / 5)
    assert one_class([1, 2, 3, 4, 5], labels) == pytest.approx((1 / 4 + 2 / 5) / 2)


def test_a_class_without_a_positive_has_none():
    assert np.isnan(one_class([1, 2, 3], [0, 0, -1]))
    assert rank_class(np.ones(3), np.zeros(3, int)) is None


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_is_refused_by_image(wrong):
    with pytest.raises(ValueError, match=r"the score of image 2 is .*must be finite"):
        one_class([1, 2, wrong], [1, 0, 0])


def test_scores_and_labels_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        average_precision(np.ones((3, 2)), np.ones((3, 3)))


cases = st.integers(1, 30).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 6), min_size=n, max_size=n),  # few different scores: many ties
        st.lists(st.sampled_from([0, 1]), min_size=n, max_size=n),
        st.lists(st.integers(0, 3), min_size=n, max_size=n),
    )
)


@given(cases)
@settings(max_examples=200, deadline=None)
def test_equal_to_scikit_learn_and_to_the_oracle_with_ties(case):
    scores, labels, weights = case
    if not any(labels):
        labels[0] = 1
    expected = average_precision_score(labels, scores)
    assert one_class(scores, labels) == pytest.approx(expected, abs=1e-12)
    assert one_class(scores, labels) == pytest.approx(float(oracle.average_precision(scores, labels)), abs=1e-12)
    ranking = rank_class(np.array(scores, float), np.array(labels))
    assert ranking.precisions.mean() == pytest.approx(expected, abs=1e-12)
    # weights are repetitions, which is how a bootstrap resample draws images
    weighted = ranking.average_precision(np.array(weights, float)[:, None])[0]
    repeated = np.repeat(np.arange(len(scores)), weights)
    if any(np.array(labels)[repeated]):
        expected = average_precision_score(np.array(labels)[repeated], np.array(scores)[repeated])
        assert weighted == pytest.approx(expected, abs=1e-12)
    else:
        assert np.isnan(weighted)


def test_equal_to_clip_benchmark_without_ties():
    rng = np.random.default_rng(0)
    scores = rng.permutation(500 * 7).reshape(500, 7).astype(np.float32)
    labels = (rng.random((500, 7)) < 0.15).astype(np.int8)
    theirs = average_precision_per_class(torch.from_numpy(scores), torch.from_numpy(labels))
    assert average_precision(scores, labels) == pytest.approx(theirs.numpy(), abs=1e-6)
    assert average_precision(scores, labels) == pytest.approx(
        [average_precision_score(labels[:, c], scores[:, c]) for c in range(7)], abs=1e-12
    )


def paired_case(seed, images=40, classes=3):
    rng = np.random.default_rng(seed)
    labels = (rng.random((images, classes)) < 0.3).astype(np.int8)
    labels[0], labels[1, 0] = 1, -1
    baseline = labels + rng.normal(size=(images, classes))
    return PairedLabelScores(baseline.round(1), rng.normal(size=(images, classes)).round(1), labels)


def mean_of(scores, labels, weights):
    weights = [Fraction(w) for w in weights]
    values = [
        oracle.average_precision(scores[:, c].tolist(), labels[:, c].tolist(), weights) for c in range(labels.shape[1])
    ]
    return float(sum(values)) / len(values)


def test_resampled_drops_agree_with_the_oracle():
    pair = paired_case(0)
    drop = pair.bootstrap_drop(4, seed=3)
    weights = np.random.default_rng(3).standard_exponential((4, 40))
    slow = [mean_of(pair.baseline, pair.labels, w) - mean_of(pair.candidate, pair.labels, w) for w in weights]
    assert drop.resampled == pytest.approx(slow, abs=1e-9)
    assert drop.values == pytest.approx(
        [np.nanmean(average_precision(one, pair.labels)) for one in (pair.baseline, pair.candidate)]
    )


def test_the_influence_is_what_an_image_adds_to_first_order():
    pair = paired_case(1)
    drop = pair.bootstrap_drop(2, seed=0)
    assert drop.influence.sum() == pytest.approx(0, abs=1e-12)
    for i in (0, 1, 17):
        heavier = [1.0] * 40
        heavier[i] += 1e-6
        changed = mean_of(pair.baseline, pair.labels, heavier) - mean_of(pair.candidate, pair.labels, heavier)
        assert (changed - drop.drop) / 1e-6 == pytest.approx(drop.influence[i], abs=1e-5)


def test_a_large_drop_is_found_and_equal_models_differ_by_nothing():
    pair = paired_case(2, images=200)
    assert pair.bootstrap_drop(2000, 0).p_value(0.0) < 0.01
    assert pair.swapped().bootstrap_drop(2000, 0).p_value(0.0) > 0.5
    same = PairedLabelScores(pair.baseline, pair.baseline, pair.labels).bootstrap_drop(2000, 0)
    assert same.drop == 0
    assert same.p_value(0.0) == 1
    low, high = same.interval()
    assert -0.1 < low < 0 < high < 0.1


def test_slow_resampling_reports_every_resample(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    stream = io.StringIO()
    with progress.use_reporter(LineReporter(stream, every=0.0)), progress.use_benchmark_name("voc2007"):
        paired_case(0).bootstrap_drop(200, 0)
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("voc2007, resampling images: 64/200 resamples, ")
    assert lines[-1].startswith("voc2007, resampling images: 200/200 resamples, ")


def test_an_unseen_image_changes_the_drop_by_what_the_test_allows_for():
    # one class, positives 0 and 1 of four images; the baseline ranks them first, the candidate last
    labels = np.array([1, 1, 0, 0])[:, None]
    pair = PairedLabelScores(np.array([4.0, 3, 2, 1])[:, None], np.array([1.0, 2, 3, 4])[:, None], labels)
    drop = pair.bootstrap_drop(50, 0)
    assert drop.drop == pytest.approx(1 - (1 / 3 + 2 / 4) / 2)
    # a negative, first in the baseline, takes most: precisions 1/2 and 2/3 in place of 1 and 1
    assert drop.worst == pytest.approx(1 - (1 / 2 + 2 / 3) / 2)
    assert (drop.unseen > 0).all()
    assert (np.abs(drop.resampled - drop.unseen) <= 1).all()


@pytest.mark.parametrize(("resamples", "labels"), [(1, [[1], [0]]), (5, [[0], [0]]), (5, [[], []])])
def test_unusable_input_is_refused(resamples, labels):
    labels = np.array(labels, dtype=int).reshape(2, -1)
    pair = PairedLabelScores(labels * 1.0, labels * 1.0, labels)
    with pytest.raises(ValueError, match=r"needs at least|has no positive"):
        pair.bootstrap_drop(resamples, 0)
