"""Scores of pairs by the cross-attention poolers: against single pairs in float64, and against the training forward."""

import pytest
import torch

from cosmos_core.cross_scores import cross_scores, image_states
from cosmos_core.train import initial_model
from tests.oracles.cross_scores import cross_score


@pytest.fixture(scope="module")
def pairs():
    torch.manual_seed(0)
    model = initial_model("toybox", 0).eval()
    images = torch.randn(3, 3, *model.image_size)
    ids = torch.zeros(3, model.context_length, dtype=torch.long)
    for row, length in zip(ids, (4, 9, model.context_length), strict=True):
        row[:length] = torch.randint(1, model.vocab_size - 2, (length,))
        row[length - 1] = model.vocab_size - 1  # the end token
    return model, images, ids


@torch.no_grad()
def test_batches_of_pairs_equal_single_pairs_in_float64(pairs):
    model, images, ids = pairs
    grid = [(i, j) for i in range(3) for j in range(3)]
    states = image_states(model, images)
    scores = cross_scores(model, states[[i for i, _ in grid]], ids[[j for _, j in grid]])
    expected = torch.tensor([cross_score(model, images[i], ids[j]) for i, j in grid])
    assert torch.allclose(scores, expected, rtol=0, atol=1e-6)
    assert scores.std() > 1e-3


@torch.no_grad()
def test_a_pair_is_scored_by_the_cross_modal_features_of_the_training_forward(pairs):
    model, images, ids = pairs
    features = model(images, ids, batch_size=3)  # of each image with its own text; tests/parity checks them
    expected = (
        (features.image_cross_features * features.text_features).sum(1)
        + (features.text_cross_features * features.image_features).sum(1)
    ) / 2
    assert torch.allclose(cross_scores(model, image_states(model, images), ids), expected, rtol=0, atol=1e-6)
