"""Modality gap and effective rank: by hand, against scikit-learn's PCA, on collapsed embeddings."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch.nn.functional import normalize

from cosmos_eval.metrics.embedding_geometry import effective_rank, modality_gap, singular_value_shares


def random_features(n: int = 60, d: int = 12, seed: int = 0) -> torch.Tensor:
    scale = torch.linspace(0.1, 2, d)
    return normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) * scale + 0.3, dim=1)


def test_the_gap_is_the_distance_of_the_means():
    images, texts = torch.tensor([[1.0, 0], [0, 1]]), torch.tensor([[1.0, 0], [-1, 0]])
    assert modality_gap(images, texts) == pytest.approx(0.5**0.5)  # (1/2, 1/2) and (0, 0)
    assert modality_gap(images, images) == 0
    assert modality_gap(images[:1], -images[:1]) == 2


@pytest.mark.parametrize("n", [60, 7])
def test_singular_values_are_those_of_scikit_learn(n):
    features = random_features(n)
    values = PCA().fit(features.double().numpy()).singular_values_
    np.testing.assert_allclose(singular_value_shares(features), values / values.sum(), atol=1e-7)


def test_the_effective_rank_counts_directions():
    square = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    assert effective_rank(square) == pytest.approx(2)
    assert effective_rank(square[:2]) == pytest.approx(1)
    assert effective_rank(torch.cat([square, square + 5])) < 2
    assert effective_rank(normalize(torch.ones(50, 8), dim=1)) == 0  # collapsed
    shares = singular_value_shares(random_features()).numpy()
    assert effective_rank(random_features()) == pytest.approx(
        np.exp(-(shares[shares > 0] * np.log(shares[shares > 0])).sum())
    )
