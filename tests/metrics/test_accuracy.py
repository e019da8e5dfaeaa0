"""Accuracy of classification: by hand, in every order of ties, and on invalid input."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_eval.metrics.accuracy import expected_topk, mean_per_class
from tests.helpers.feature_metrics import class_rank_counts_of_features
from tests.oracles import accuracy as oracle
from tests.oracles.pairs import compare_pairs

SCORES = torch.tensor([[0.9, 0.1, 0.8, 0.2], [0.9, 0.1, 0.5, 0.7], [0.3, 0.3, 0.3, 0.3]])
LABELS = torch.tensor([0, 2, 3])


def test_three_samples_and_four_classes_by_hand():
    counts = class_rank_counts_of_features(torch.eye(3), SCORES.T, LABELS)
    assert counts.above.tolist() == [0, 2, 0]
    assert counts.tied.tolist() == [1, 1, 4]
    assert counts.prediction.tolist() == [0, 0, 0]
    assert counts.margin.tolist() == pytest.approx([0.1, -0.4, 0])
    assert expected_topk(counts, 1).tolist() == [1, 0, 0.25]
    assert expected_topk(counts, 2).tolist() == [1, 0, 0.5]
    assert expected_topk(counts, 3).tolist() == [1, 1, 0.75]


def test_a_perfect_model_is_right_everywhere():
    labels = torch.tensor([3, 1, 0, 2, 2])
    counts = class_rank_counts_of_features(torch.eye(4)[labels], torch.eye(4), labels)
    correct = expected_topk(counts, 1)
    assert correct.tolist() == [1] * 5
    assert counts.prediction.tolist() == labels.tolist()
    assert mean_per_class(correct, labels, 4) == 1


@pytest.mark.parametrize("k", [1, 5, 10, 20])
def test_a_constant_model_scores_chance_however_many_samples_the_first_class_has(k):
    labels = torch.tensor([0] * 90 + list(range(1, 10)))
    counts = class_rank_counts_of_features(torch.ones(99, 3), torch.ones(10, 3), labels)
    assert expected_topk(counts, k).tolist() == [min(1, k / 10)] * 99
    assert mean_per_class(expected_topk(counts, 1), labels, 10) == pytest.approx(0.1)


def test_tied_classes_of_equal_weights_share_the_point():
    weights = torch.nn.functional.normalize(torch.randn(50, 9, generator=torch.Generator().manual_seed(0)), dim=1)
    weights[31] = weights[4]
    counts = class_rank_counts_of_features(weights, weights, torch.arange(50))
    assert expected_topk(counts, 1)[[4, 31]].tolist() == [0.5, 0.5]
    assert expected_topk(counts, 1).sum() == 49
    assert counts.margin[4] == counts.margin[31] == 0


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_expectations_agree_with_the_mean_over_every_order_of_tied_classes(data):
    samples, classes, width = (data.draw(st.integers(1, high)) for high in (6, 5, 3))
    rng = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
    features = torch.randint(-2, 3, (samples, width), generator=rng).float()
    weights = torch.randint(-2, 3, (classes, width), generator=rng).float()
    labels = torch.randint(0, classes, (samples,), generator=rng)
    counts = class_rank_counts_of_features(
        features, weights, labels, block_bytes=data.draw(st.sampled_from([1, 64, 10**6]))
    )
    scores = (features.double() @ weights.double().T).numpy()
    for k in (1, 2, 5):
        slow = [float(oracle.topk(row, int(label), k)) for row, label in zip(scores, labels, strict=True)]
        assert expected_topk(counts, k).tolist() == pytest.approx(slow, abs=1e-12)
    assert counts.prediction.tolist() == scores.argmax(1).tolist()
    if classes > 1:
        margins = [row[label] - np.delete(row, label).max() for row, label in zip(scores, labels, strict=True)]
        assert counts.margin.tolist() == margins


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 1)), min_size=1, max_size=30))
def test_mean_per_class_agrees_with_the_slow_oracle(samples):
    labels = [label for label, _ in samples] + [0, 1, 2, 3]
    values = [value for _, value in samples] + [1.0, 0.0, 0.5, 1.0]
    mean = mean_per_class(torch.tensor(values, dtype=torch.float64), torch.tensor(labels), 4)
    assert mean == pytest.approx(oracle.mean_per_class(values, labels))


def test_an_empty_class_is_an_error_that_names_it():
    with pytest.raises(ValueError, match="class 1 has no samples"):
        mean_per_class(torch.ones(2), torch.tensor([0, 2]), 3)


@pytest.mark.parametrize("label", [-1, 4])
def test_a_label_out_of_range_is_an_error_that_names_the_sample(label):
    with pytest.raises(ValueError, match=f"sample 1 has label {label}, there are 4 classes"):
        class_rank_counts_of_features(torch.eye(3), SCORES.T, torch.tensor([0, label, 9]))


def test_labels_of_another_length_are_refused():
    with pytest.raises(ValueError, match="must have shape"):
        class_rank_counts_of_features(torch.eye(3), SCORES.T, torch.tensor([0, 1]))


def test_a_class_or_sample_that_is_not_finite_is_an_error_that_names_it():
    weights = SCORES.T.clone()
    weights[2, 0] = float("nan")
    with pytest.raises(ValueError, match="class 2 are not finite"):
        class_rank_counts_of_features(torch.eye(3), weights, LABELS)
    with pytest.raises(ValueError, match="sample 0 are not finite"):
        class_rank_counts_of_features(torch.eye(3) * float("inf"), SCORES.T, LABELS)


def test_pairs_by_hand():
    anchors = torch.tensor([[1.0, 0], [1, 0], [0, 1]])
    right = torch.tensor([[0.8, 0], [0.2, 0], [9, 0.5]])
    wrong = torch.tensor([[0.3, 0], [0.4, 0], [7, 0.5]])
    pairs = compare_pairs(anchors, right, wrong)
    assert pairs.strict.tolist() == [1, 0, 0]
    assert pairs.expected.tolist() == [1, 0, 0.5]


@pytest.mark.parametrize("width", [1, 3, 100, 513])
def test_equal_texts_tie_exactly_and_score_0_strictly_and_chance_in_expectation(width):
    rng = torch.Generator().manual_seed(width)
    anchors, text = torch.randn(77, width, generator=rng), torch.randn(1, width, generator=rng).repeat(77, 1)
    pairs = compare_pairs(anchors, text, text.clone())
    assert pairs.strict.sum() == 0
    assert pairs.expected.tolist() == [0.5] * 77


def test_a_perfect_model_wins_every_pair():
    features = torch.eye(5)
    pairs = compare_pairs(features, features, features.roll(1, 0))
    assert pairs.strict.tolist() == pairs.expected.tolist() == [1] * 5


def test_pairs_that_are_not_finite_or_of_different_lengths_are_refused():
    bad = torch.eye(3)
    bad[1, 1] = float("nan")
    with pytest.raises(ValueError, match="item 1"):
        compare_pairs(torch.eye(3), bad, torch.eye(3))
    with pytest.raises(ValueError, match="one shape"):
        compare_pairs(torch.eye(3), torch.eye(3)[:2], torch.eye(3))
