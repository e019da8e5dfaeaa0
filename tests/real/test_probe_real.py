"""Probes of real features: the small encoder's of CIFAR-10, split in halves, against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression as SklearnRegression
from sklearn.neighbors import KNeighborsClassifier

from cosmos_eval.metrics.least_squares import draw_shots, fit_least_squares
from cosmos_eval.metrics.logistic_regression import LogisticRegression
from cosmos_eval.metrics.nearest_neighbours import knn_accuracy
from cosmos_eval.metrics.strength_search import choose_strength
from tests.oracles.probe import least_squares_outputs


@pytest.fixture(scope="module")
def halves(real_dir):
    """Features and labels of the even images, then of the odd ones."""
    stored = np.load(real_dir / "lit/embeddings/cifar10_test2000.npz", allow_pickle=False)
    features, labels = torch.from_numpy(stored["image_embeddings"]), torch.from_numpy(stored["labels"]).long()
    return features[::2], labels[::2], features[1::2], labels[1::2]


@pytest.fixture(scope="module")
def peers(halves):
    """scikit-learn's fits by strength."""
    train, labels = halves[0].double().numpy(), halves[1].numpy()
    return {s: SklearnRegression(C=1 / s, tol=1e-7, max_iter=5000).fit(train, labels) for s in (10.0, 1.0)}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_coefficients_and_accuracy_are_those_of_scikit_learn(halves, peers, dtype):
    train, labels, test, _ = halves
    fits = LogisticRegression(train, labels, 10, dtype).fit(list(peers))
    for i, peer in enumerate(peers.values()):
        ours = fits.classifier(i)
        scale = np.abs(peer.coef_).max()
        assert np.abs(ours.coefficients.double().numpy().T - peer.coef_).max() < 1e-3 * max(1, scale)
        assert np.abs(ours.intercepts.double().numpy() - peer.intercept_).max() < 1e-3 * max(1, scale)
        predictions = (test.to(dtype) @ ours.coefficients + ours.intercepts).argmax(1).numpy()
        assert (predictions != peer.predict(test.double().numpy())).sum() <= 1


def test_the_search_finds_a_better_strength_than_those(halves, peers):
    train, labels, val, val_labels = halves
    search = choose_strength(LogisticRegression(train, labels, 10, torch.float32), val, val_labels)
    best = max(peer.score(val.double().numpy(), val_labels.numpy()) for peer in peers.values())
    assert max(search.accuracies.values()) >= best
    assert 0.03 <= search.strength <= 1


def test_few_shot_and_neighbours_are_those_of_numpy_and_scikit_learn(halves):
    train, labels, test, truth = halves
    drawn = torch.from_numpy(draw_shots(labels.numpy(), 10, 8, seed=0))
    fitted = fit_least_squares(train[drawn], labels[drawn], 10)
    outputs = test.double() @ fitted.coefficients + fitted.intercepts
    expected = least_squares_outputs(
        train[drawn].double().numpy(), labels[drawn].numpy(), test.double().numpy(), 10, 1024.0
    )
    assert outputs.numpy() == pytest.approx(expected, abs=1e-8)
    hits = knn_accuracy(test, truth, train, labels, 10, [10, 200])
    for k, of_k in hits.items():
        weights = lambda distances: np.exp((1 - distances) / 0.07)  # noqa: E731
        peer = KNeighborsClassifier(k, metric="cosine", weights=weights, algorithm="brute").fit(train, labels)
        assert abs(of_k.sum().item() - (peer.predict(test) == truth.numpy()).sum()) <= 1
