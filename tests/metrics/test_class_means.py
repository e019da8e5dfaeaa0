"""Recall of each class: scikit-learn's, with the intervals that the slow way of all other metrics gives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import recall_score

from cosmos_eval.metrics.class_means import class_means
from cosmos_eval.tasks.common import Measured


def test_recall_is_scikit_learns():
    rng = np.random.default_rng(3)
    labels, predicted = rng.integers(0, 7, (2, 400))
    means = class_means((labels == predicted).astype(float), labels, 7)
    np.testing.assert_allclose(means.value, recall_score(labels, predicted, average=None), rtol=0, atol=1e-12)
    assert means.n.tolist() == np.bincount(labels).tolist()


def test_three_classes_by_hand():
    # class 0: hit, miss; class 1: a tie of four classes; class 3 has no image
    means = class_means(np.array([1, 0, 0.25, 1]), np.array([0, 0, 1, 2]), 4)
    assert means.value[:3].tolist() == [0.5, 0.25, 1.0]
    assert np.isnan([means.value[3], means.low[3], means.high[3]]).all()
    assert (means.n.tolist(), means.method[3]) == ([2, 1, 1, 0], "")
    # one hit of one: P(X = 1) / 2 = 0.025 at p = 0.05
    assert (means.low[2], means.high[2]) == (pytest.approx(0.05), 1.0)


def test_intervals_are_those_of_a_mean_over_the_images_of_the_class():
    """A class with many hits and misses (bootstrap), one in between, and small ones (mid-p)."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), [120, 40, 9, 1])
    values = (rng.random(170) < 0.6).astype(float)
    order = rng.permutation(170)
    labels, values = labels[order], values[order]
    means = class_means(values, labels, 4, seed=5)
    measured = Measured(170)
    for c in range(4):
        measured.mean(str(c), values[labels == c], np.flatnonzero(labels == c))
    for c, metric in enumerate(measured.metrics(seed=5).values()):
        assert (means.value[c], means.low[c], means.high[c]) == pytest.approx((metric.value, metric.low, metric.high))
        assert means.method[c] == metric.method
    assert set(means.method) == {"bootstrap", "mid-p and bootstrap", "mid-p"}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=30))
def test_values_lie_in_their_intervals_and_their_mean_over_images_is_the_accuracy(samples):
    labels, values = np.array([c for c, _ in samples]), np.array([value for _, value in samples])
    means = class_means(values, labels, 5)
    present = means.n > 0
    assert (means.low[present] <= means.value[present]).all()
    assert (means.value[present] <= means.high[present]).all()
    assert (means.value[present] * means.n[present]).sum() / len(samples) == pytest.approx(values.mean())


def test_outcomes_that_are_no_fractions_are_refused():
    with pytest.raises(ValueError, match="outcomes must be in"):
        class_means(np.array([1.5]), np.array([0]), 1)
