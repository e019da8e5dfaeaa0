"""Few-shot classification by regularised least squares, in closed form: big_vision's `fewshot_lsr`.

Protocol (google-research/big_vision, big_vision/evaluators/fewshot_lsr.py and configs/common_fewshot.py): K random
images of each class; their features are whitened by mean and standard deviation + 1e-5 of each dimension; a constant
feature of 100 stands for the bias, so that it is hardly regularised; targets are 1 for the class and -1 for the others;
the squared norm of the weights is added to the squared error, times 2**10. The class with the highest output is the
prediction.
"""

import numpy as np
import torch
from torch import Tensor

from cosmos_eval.metrics.accuracy import check_labels
from cosmos_eval.metrics.linear_scores import LinearClassifier
from cosmos_eval.metrics.similarity import check_features

STRENGTH = 2.0**10
"""Factor of the squared norm of the weights."""
BIAS = 100.0
"""The constant feature."""
SMALLEST_DEVIATION = 1e-5
"""Added to the standard deviation of each dimension."""
TIE_DECIMALS = 9
"""Outputs that differ by less are equal: targets are 1 and -1, and float64 computes outputs to about 1e-12."""


def fit_least_squares(features: Tensor, labels: Tensor, classes: int, strength: float = STRENGTH) -> LinearClassifier:
    """Fit the weights that minimise the regularised squared error, in float64.

    Args:
        features: (N, D) finite.
        labels: (N,) int64 in [0, C); a class may have no sample, and then has -1 as the target of all.
        classes: C.
        strength: above 0.

    Returns:
        The classifier of features that are not whitened: the whitening is part of its coefficients and intercepts.

    Raises:
        ValueError: features that are not finite (names the first), or a label out of range.
    """
    check_features(features, "train image")
    check_labels(labels.cpu(), len(features), classes)
    samples = features.double()
    mean, deviation = samples.mean(0), samples.std(0, correction=0) + SMALLEST_DEVIATION
    whitened = torch.nn.functional.pad((samples - mean) / deviation, (0, 1), value=BIAS)  # (N, D + 1)
    targets = 2 * torch.nn.functional.one_hot(labels.to(features.device), classes).double() - 1
    n, dimensions = whitened.shape
    if n >= dimensions:
        weights = _solve(whitened.T @ whitened, strength, whitened.T @ targets)
    else:  # the same weights, from the smaller of the two systems
        weights = whitened.T @ _solve(whitened @ whitened.T, strength, targets)
    coefficients = weights[:-1] / deviation[:, None]
    return LinearClassifier(coefficients, BIAS * weights[-1] - mean @ coefficients)


def _solve(gram: Tensor, strength: float, right: Tensor) -> Tensor:
    """Return (gram + strength I)^-1 right, for a Gram matrix, which has no negative eigenvalue."""
    gram.diagonal().add_(strength)
    return torch.cholesky_solve(right, torch.linalg.cholesky(gram))


def draw_shots(labels: np.ndarray, classes: int, shots: int, seed: int) -> np.ndarray:
    """Draw the images of a few-shot training set, as big_vision draws them: with more shots the same ones and others.

    Args:
        labels: (N,) int64 class of each train image.
        classes: C.
        shots: images of each class; a class that has fewer gives all it has.
        seed: of numpy's generator.

    Returns:
        Indices of the drawn images, class by class.
    """
    rng = np.random.default_rng(seed)
    # Every class is permuted in full, whatever `shots` is: so the generator is in the same state for the next class.
    drawn = [rng.permutation(np.flatnonzero(labels == label))[:shots] for label in range(classes)]
    return np.concatenate(drawn)
