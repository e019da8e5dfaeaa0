"""The strength of a linear probe's regularisation, chosen on validation images as CLIP's probes choose it.

Protocol: Radford et al., CLIP, 2021, A.3. Strengths from 1e-6 to 1e6 in 96 equal steps of the logarithm, 8 a decade;
the search begins with every second decade, then looks at both sides of the best strength, at a distance that is halved
until it is one step. So 7 and at most 8 further strengths are fitted; clip-benchmark's linear probe searches in the
same way.

A fit is not finished once it is hopeless: near its optimum, and right on significantly fewer validation images than the
best one so far. Of weak strengths, which are seldom the best and take most steps, this saves most.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cosmos_eval.metrics.accuracy import compute_class_rank_counts, expected_topk
from cosmos_eval.metrics.linear_scores import LinearClassifier, LinearScores
from cosmos_eval.metrics.logistic_regression import End, LogisticRegression
from cosmos_eval.progress import Reporter, Silent

STRENGTHS = tuple(10 ** (step / 8 - 6) for step in range(97))
FIRST_STEP = 16
"""Steps between the strengths that are fitted first."""
SEARCH_TOLERANCE = 1e-5
"""Of the fits that are only compared; see `logistic_regression.TOLERANCE`. In 8 of 11 sets (real features of CIFAR-10,
generated ones, toybox) the chosen strength is that of 1e-6; with 1e-4, where fits stay nearer their start, in 4."""
SEARCH_OBJECTIVE = 0.1
"""Share of the objective without features, log C. The tolerance is a share of at least this: classes that can be
separated have an objective that goes to 0 with the strength, while the classifier hardly changes."""
LARGE_SEARCH_TOLERANCE = 3e-4
"""Of the same fits where the set is large (`logistic_regression.LARGE`). For 50,000 x 512 of 1,000 classes, 1e-5 takes
three times as many steps and chooses a strength one step of the search away, of nearly equal accuracy."""
SIGNIFICANT = 2.0
"""Standard errors of the paired difference in right answers from which on a fit is hopeless."""
WORK_AT_ONCE = {"cpu": 2**28, "cuda": 2**36}
"""Products of samples, dimensions, classes and strengths up to which strengths are fitted together. Beyond, each fit
keeps the device busy on its own and begins at the one before, which saves more."""


@dataclass(frozen=True)
class StrengthSearch:
    """The chosen strength, and what was found."""

    strength: float
    accuracies: Mapping[float, float]
    """Strength -> top-1 accuracy on the validation images, of all that were fitted; where a fit was hopeless, its
    accuracy when it was given up."""
    end: End
    """Of the fit with the chosen strength, without the validation images."""


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
    ends: dict[int, End] = {}
    hits: dict[int, Tensor] = {}  # (V,) probability that each validation image is predicted right
    tolerance = LARGE_SEARCH_TOLERANCE if regression.is_large else SEARCH_TOLERANCE
    least = SEARCH_OBJECTIVE * math.log(regression.classes)
    with (reporter or Silent()).task("choosing the strength", len(first) + 2 * len(steps), "fits") as advance:

        def is_hopeless(classifier: LinearClassifier) -> bool:
            if not hits:
                return False  # of fits that are made at once, none is known to be better
            lost = hits[_best(hits)] - _hits(classifier, features, labels)
            return float(lost.sum()) > SIGNIFICANT * float(lost.square().sum()) ** 0.5

        def fit(indices: list[int]) -> None:
            together = regression.fits_at_once(WORK_AT_ONCE)
            for start in range(0, len(indices), together):
                group = indices[start : start + together]
                best = _best(hits) if hits else None  # which has its pairs, see below
                nearest = min(ends, key=lambda known: (abs(known - group[0]), known != best), default=None)
                begin = ends[nearest] if nearest is not None else None
                strengths = [STRENGTHS[i] for i in group]
                fits = regression.fit(strengths, begin, tolerance, least, is_hopeless=is_hopeless)
                for position, i in enumerate(group):
                    ends[i] = fits.ends[position]
                    hits[i] = _hits(fits.classifier(position), features, labels)
                # The pairs take much more memory than the weights; the next fit begins at the last one or the best.
                for i in set(ends) - {_best(hits), group[-1]}:
                    ends[i] = replace(ends[i], pairs=())
                advance(len(group))

        fit(first)
        for step in steps:
            best = _best(hits)
            around = [i for i in (best + step, best - step) if 0 <= i < len(STRENGTHS)]
            fit([i for i in around if i not in ends])
    best = _best(hits)
    return StrengthSearch(STRENGTHS[best], {STRENGTHS[i]: float(hits[i].mean()) for i in sorted(hits)}, ends[best])


def _best(hits: Mapping[int, Tensor]) -> int:
    return max(hits, key=lambda i: (float(hits[i].mean()), i))


def _hits(classifier: LinearClassifier, features: Tensor, labels: Tensor) -> Tensor:
    """Return (V,) float64 the probability that each image is predicted right."""
    classes = len(classifier.intercepts)
    scores = LinearScores(features, classifier, torch.arange(classes), classes)
    return expected_topk(compute_class_rank_counts(scores, labels, classes), 1).double()
