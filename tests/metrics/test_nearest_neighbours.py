"""Weighted neighbours against scikit-learn's, and their ties."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from cosmos_eval.metrics.nearest_neighbours import knn_accuracy
from tests.oracles.probe import knn_hits


def unit(rng, n, dimensions=8):
    return torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(n, dimensions))).float(), dim=1)


@pytest.mark.parametrize("block_bytes", [1, 2**20])
def test_hits_are_those_of_scikit_learn(block_bytes):
    rng = np.random.default_rng(0)
    train, test = unit(rng, 300), unit(rng, 80)
    labels, truth = torch.from_numpy(rng.integers(0, 5, 300)), torch.from_numpy(rng.integers(0, 5, 80))
    hits = knn_accuracy(test, truth, train, labels, 5, [1, 10, 200], block_bytes=block_bytes)
    for k, of_k in hits.items():
        weights = lambda distances: np.exp((1 - distances) / 0.07)  # noqa: E731
        peer = KNeighborsClassifier(k, metric="cosine", weights=weights, algorithm="brute").fit(train, labels)
        assert np.abs(of_k.numpy() - (peer.predict(test) == truth.numpy())).sum() <= 1


def test_three_neighbours_by_hand():
    train = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.6, -0.8], [-1.0, 0.0]])
    labels = torch.tensor([0, 1, 1, 2])
    test, truth = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1])
    # the nearest has 1 vote, the two others together 2 exp(-0.4 / temperature): 0.0066 at 0.07, 1.92 at 10
    assert [one.tolist() for one in knn_accuracy(test, truth, train, labels, 3, [1, 3]).values()] == [[1, 0], [1, 0]]
    assert knn_accuracy(test, truth, train, labels, 3, [3], temperature=10.0)[3].tolist() == [0, 1]
    # of two neighbours, the second place is shared by two images of class 1: together one vote
    assert knn_accuracy(test, truth, train, labels, 3, [2], temperature=1e20)[2].tolist() == [0.5, 0.5]


@given(st.integers(0, 10**6), st.integers(1, 12))
def test_coarse_features_with_many_ties_do_as_the_slow_version(seed, k):
    rng = np.random.default_rng(seed)
    corners = np.array([[1, 0], [0, 1], [0.6, 0.8], [-0.6, 0.8]], np.float32)
    train, test = corners[rng.integers(0, 4, 12)], corners[rng.integers(0, 4, 5)]
    labels, truth = rng.integers(0, 3, 12), rng.integers(0, 3, 5)
    ours = knn_accuracy(*map(torch.from_numpy, (test, truth, train, labels)), 3, [k])[k]
    assert ours.tolist() == pytest.approx(knn_hits(test, truth, train, labels, 3, k))


def test_equal_features_score_chance_whatever_the_order_of_the_train_images():
    train, test = torch.ones(40, 1), torch.ones(8, 1)
    hits = knn_accuracy(test, torch.arange(8) % 4, train, torch.arange(40) // 10, 4, [1, 7, 40])
    assert all(set(of_k.tolist()) == {0.25} for of_k in hits.values())


@pytest.mark.parametrize("k", [0, 3])
def test_a_number_of_neighbours_that_there_are_not_is_refused(k):
    with pytest.raises(ValueError, match=f"there are 2 train images, so k cannot be {k}"):
        knn_accuracy(torch.ones(1, 1), torch.tensor([0]), torch.ones(2, 1), torch.tensor([0, 0]), 1, [k])
    with pytest.raises(ValueError, match="test image 0"):
        knn_accuracy(torch.tensor([[np.nan]]), torch.tensor([0]), torch.ones(2, 1), torch.tensor([0, 0]), 1, [1])
