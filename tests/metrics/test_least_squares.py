"""Few-shot least squares against the closed form in numpy, and the draw of its images."""

import numpy as np
import pytest
import torch

from cosmos_eval.metrics.least_squares import draw_shots, fit_least_squares
from tests.oracles.probe import least_squares_outputs


@pytest.mark.parametrize("n", [9, 60])  # fewer images than dimensions, and more
def test_outputs_are_those_of_the_normal_equations(n):
    rng = np.random.default_rng(0)
    train, test, labels = rng.normal(size=(n, 20)), rng.normal(size=(7, 20)), np.arange(n) % 3
    for strength in (1.0, 1024.0):
        fitted = fit_least_squares(torch.from_numpy(train), torch.from_numpy(labels), 3, strength)
        outputs = torch.from_numpy(test) @ fitted.coefficients + fitted.intercepts
        expected = least_squares_outputs(train, labels, test, 3, strength)
        assert outputs.numpy() == pytest.approx(expected, abs=1e-8)


def test_two_images_in_one_dimension_by_hand():
    # whitened to -1 and 1 (deviation 1 + 1e-5), targets (1, -1) and (-1, 1): the weight is -2 / (2 + strength) and
    # +2 / (2 + strength), as the bias is orthogonal to it and fits nothing
    fitted = fit_least_squares(torch.tensor([[-1.0], [1.0]]), torch.tensor([0, 1]), 2, strength=2.0)
    assert fitted.coefficients.tolist() == [pytest.approx([-0.5, 0.5], rel=1e-4)]
    assert fitted.intercepts.tolist() == pytest.approx([0, 0], abs=1e-12)


def test_shots_are_drawn_of_each_class_and_with_more_shots_the_same_ones_stay():
    labels = np.array([0, 1, 0, 1, 0, 2, 0, 1])
    few, many = (draw_shots(labels, 3, shots, seed=5) for shots in (1, 3))
    assert labels[few].tolist() == [0, 1, 2]
    assert labels[many].tolist() == [0, 0, 0, 1, 1, 1, 2]  # class 2 has one image
    assert set(few.tolist()) <= set(many.tolist())
    assert len(set(many.tolist())) == 7
    assert any(draw_shots(labels, 3, 1, seed).tolist() != few.tolist() for seed in range(5))


def test_features_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="train image 0"):
        fit_least_squares(torch.full((2, 3), float("nan")), torch.tensor([0, 1]), 2)
