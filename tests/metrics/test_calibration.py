"""Confidence and calibration: by hand, against scikit-learn and a slow softmax, under ties and on constant scores."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.calibration import calibration_curve

from cosmos_eval.metrics.calibration import reliability, top_predictions
from cosmos_eval.metrics.query_scores import DotProducts, MatrixScores


def scores_of(rows) -> MatrixScores:
    matrix = torch.tensor(np.asarray(rows), dtype=torch.float32)
    return MatrixScores(matrix, torch.arange(len(matrix)), torch.arange(matrix.shape[1]))


def pairs_of(*candidates) -> np.ndarray:
    return np.array([(query, one) for query, of_query in enumerate(candidates) for one in of_query])


def test_confidence_and_correctness_by_hand():
    # right; wrong; two tied, one of them right; two right ones tied
    rows = [[0.4, 0.2, 0], [0.4, 0.2, 0], [0.3, 0.3, 0], [0.3, 0.3, 0]]
    top = top_predictions(scores_of(rows), pairs_of([0], [1], [1], [0, 1]), 10)
    assert top.correct.tolist() == [1, 0, 1 / 2, 1]
    assert top.confidence.tolist() == pytest.approx(softmax(10 * np.array(rows), axis=1).max(1).tolist(), abs=1e-6)
    assert top.score.tolist() == pytest.approx([0.4, 0.4, 0.3, 0.3])


def test_equal_candidates_each_have_a_probability():
    features = torch.eye(3)
    scores = DotProducts(features[:1], features[[0, 0, 1]])  # two of three candidates are equal
    top = top_predictions(scores, pairs_of([0]), 2.0)
    assert top.confidence.item() == pytest.approx(np.e**2 / (2 * np.e**2 + 1))
    assert top.correct.item() == 1 / 2


def test_a_query_without_a_right_candidate_is_wrong():
    top = top_predictions(scores_of([[1, 0], [1, 0]]), np.array([[1, 0]]), 1.0)
    assert top.correct.tolist() == [0, 1]


@pytest.mark.parametrize("scale", [0, -1, float("inf"), float("nan")])
def test_a_scale_must_be_positive_and_finite(scale):
    with pytest.raises(ValueError, match="logit_scale"):
        top_predictions(scores_of([[1, 0]]), pairs_of([0]), scale)


def test_the_error_by_hand():
    # bins of width 1/2: three queries of confidence .3 with accuracy 2/3, one of .8 that is right
    bins = reliability(np.array([0.3, 0.3, 0.3, 0.8]), np.array([1, 1, 0, 1.0]), bins=2)
    assert bins.count.tolist() == [3, 1]
    assert bins.error == pytest.approx((3 * (2 / 3 - 0.3) + 1 * 0.2) / 4)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 200), st.integers(1, 20))
def test_bins_are_those_of_scikit_learn(seed, n, bins):
    rng = np.random.default_rng(seed)
    confidence, correct = rng.random(n), rng.integers(0, 2, n).astype(float)
    found = reliability(confidence, correct, bins)
    is_used = found.count > 0
    accuracy, mean_confidence = calibration_curve(correct, confidence, n_bins=bins)
    assert found.accuracy[is_used] == pytest.approx(accuracy)
    assert found.confidence[is_used] == pytest.approx(mean_confidence)
    weights = found.count[is_used] / n
    assert found.error == pytest.approx((weights * np.abs(accuracy - mean_confidence)).sum())


def test_a_constant_model_is_calibrated_and_a_certain_one_is_as_wrong_as_its_errors():
    constant = top_predictions(scores_of(np.zeros((40, 4))), pairs_of(*[[i % 4] for i in range(40)]), 100)
    assert reliability(constant.confidence, constant.correct).error == pytest.approx(0)
    certain = top_predictions(scores_of([[1, 0]] * 4), pairs_of([0], [0], [0], [1]), 1e4)
    assert reliability(certain.confidence, certain.correct).error == pytest.approx(1 / 4)


@pytest.mark.parametrize("confidence", [[], [np.nan], [1.5], [-0.1]])
def test_confidences_that_are_none_are_refused(confidence):
    with pytest.raises(ValueError, match=r"is not in \[0, 1\]|needs queries"):
        reliability(np.array(confidence), np.ones(len(confidence)))
