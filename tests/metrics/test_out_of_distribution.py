"""AUROC and FPR95: by hand, against scikit-learn with and without ties, perfect and constant scores, invalid input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from cosmos_eval.metrics.out_of_distribution import auroc, fpr_at_recall


def test_by_hand():
    inside, outside = np.array([3.0, 2, 1]), np.array([2.0, 0])
    assert auroc(inside, outside) == (2 + 1.5 + 1) / 6
    assert fpr_at_recall(inside, outside) == 1 / 2  # all three are kept by the threshold 1
    assert fpr_at_recall(inside, outside, 2 / 3) == 1 / 2  # the threshold 2 is reached by a tie
    assert fpr_at_recall(inside, outside, 1 / 3) == 0


def test_perfect_and_constant_scores():
    assert (auroc(np.ones(4), np.zeros(9)), fpr_at_recall(np.ones(4), np.zeros(9))) == (1, 0)
    assert (auroc(np.ones(4), np.ones(9)), fpr_at_recall(np.ones(4), np.ones(9))) == (1 / 2, 1)
    assert auroc(np.zeros(4), np.ones(9)) == 0


scores = st.lists(st.integers(0, 12), min_size=1, max_size=60).map(lambda values: np.array(values, dtype=float))


@settings(deadline=None)
@given(scores, scores)
def test_agrees_with_scikit_learn(inside, outside):
    labels = np.r_[np.ones(len(inside)), np.zeros(len(outside))]
    both = np.r_[inside, outside]
    assert auroc(inside, outside) == pytest.approx(roc_auc_score(labels, both))
    false_rate, true_rate, _ = roc_curve(labels, both, drop_intermediate=False)
    assert fpr_at_recall(inside, outside) == pytest.approx(false_rate[np.argmax(true_rate >= 0.95 - 1e-9)])


@pytest.mark.parametrize("function", [auroc, fpr_at_recall])
def test_invalid_scores_are_refused(function):
    with pytest.raises(ValueError, match="no scores from outside"):
        function(np.ones(2), np.array([]))
    with pytest.raises(ValueError, match="the score 1 from inside is nan"):
        function(np.array([1, np.nan]), np.ones(2))
