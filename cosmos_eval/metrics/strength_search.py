"""The strength of a linear probe's regularisation, chosen on validation images as CLIP's probes choose it.

Protocol: Radford et al., CLIP, 2021, A.3. Strengths from 1e-6 to 1e6 in 96 equal steps of the logarithm, 8 a decade;
the search begins with every second decade, then looks at both sides of the best strength, at a distance that is halved
until it is one step. So 7 and at most 8 further strengths are fitted; clip-benchmark's linear probe searches in the
same way.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from cosmos_eval.metrics.accuracy import compute_class_rank_counts, expected_topk
from cosmos_eval.metrics.linear_scores import LinearClassifier, LinearScores
from cosmos_eval.metrics.logistic_regression import LogisticRegression
from cosmos_eval.progress import Reporter, Silent

STRENGTHS = tuple(10 ** (step / 8 - 6) for step in range(97))
FIRST_STEP = 16
"""Steps between the strengths that are fitted first."""
SEARCH_TOLERANCE = 1e-4
"""Of the fits that are only compared; see `logistic_regression.TOLERANCE`."""
WORK_AT_ONCE = {"cpu": 2**28, "cuda": 2**36}
"""Products of samples, dimensions, classes and strengths up to which strengths are fitted together. Beyond, each fit
keeps the device busy on its own and begins at the one before, which saves more."""


@dataclass(frozen=True)
class StrengthSearch:
    """The chosen strength, and what was found."""

    strength: float
    accuracies: Mapping[float, float]
    """Strength -> top-1 accuracy on the validation images, of all that were fitted."""
    classifier: LinearClassifier
    """Of the chosen strength, fitted without the validation images."""


def choose_strength(
    regression: LogisticRegression,
    features: Tensor,
    labels: Tensor,
    reporter: Reporter | None = None,
) -> StrengthSearch:
    """Fit the train images at several strengths, and choose the one with the best top-1 accuracy on others.

    Of strengths with equal accuracy the strongest is chosen, whose coefficients are smallest.

    Args:
        regression: the train images.
        features: (V, D) of the validation images.
        labels: (V,) int64 of the classes of the train images.
        reporter: shows progress.
    """
    first = list(range(len(STRENGTHS) - 1, -1, -FIRST_STEP))  # from the strongest: each fit is near the next one
    steps = [FIRST_STEP >> halving for halving in range(1, FIRST_STEP.bit_length())]
    fits: dict[int, LinearClassifier] = {}
    accuracies: dict[int, float] = {}
    with (reporter or Silent()).task("choosing the strength", len(first) + 2 * len(steps), "fits") as advance:

        def fit(indices: list[int]) -> None:
            together = regression.fits_at_once(WORK_AT_ONCE)
            for start in range(0, len(indices), together):
                group = indices[start : start + together]
                nearest = min(fits, key=lambda known: abs(known - group[0]), default=None)
                begin = fits[nearest] if nearest is not None else None
                fitted = regression.fit([STRENGTHS[i] for i in group], begin, SEARCH_TOLERANCE)
                for position, i in enumerate(group):
                    fits[i] = fitted.classifier(position)
                    accuracies[i] = _accuracy(fits[i], features, labels)
                advance(len(group))

        fit(first)
        for step in steps:
            best = _best(accuracies)
            around = [i for i in (best + step, best - step) if 0 <= i < len(STRENGTHS)]
            fit([i for i in around if i not in fits])
    best = _best(accuracies)
    return StrengthSearch(STRENGTHS[best], {STRENGTHS[i]: accuracies[i] for i in sorted(accuracies)}, fits[best])


def _best(accuracies: Mapping[int, float]) -> int:
    return max(accuracies, key=lambda i: (accuracies[i], i))


def _accuracy(classifier: LinearClassifier, features: Tensor, labels: Tensor) -> float:
    classes = len(classifier.intercepts)
    scores = LinearScores(features, classifier, torch.arange(classes), classes)
    return float(expected_topk(compute_class_rank_counts(scores, labels, classes), 1).mean())
