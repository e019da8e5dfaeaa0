"""Items of an image, a right text and a wrong one, where each text is judged by itself (VALSE, Parcalabescu et al., ACL
2022).

Rules, as in the authors' `lxmert_valse_eval.py`, where a model says for each text whether it fits the image:

- `caption_precision` (their p_c): the right text fits.
- `foil_precision` (their p_f): the wrong text does not fit.
- `threshold_accuracy` (their acc): the mean of the two.

The authors' models have a head with two outputs, and a text fits if the probability of a match is above 0.5. A model
that was trained with a sigmoid loss has such a probability, sigmoid(scale * cosine + bias): it is above 0.5 where the
logit is above 0. A softmax over a batch, as CLIP was trained with, says nothing of a single pair.

`auroc` needs no threshold: the probability that a right text of some item scores higher than a wrong text of any, where
equal scores count half. A model that scores everything alike has 1/2.
"""

import numpy as np
from torch import Tensor

from cosmos_eval.metrics.bootstrap import Estimator
from cosmos_eval.metrics.item_correctness import ItemCorrectness
from cosmos_eval.metrics.out_of_distribution import count_wins

AUROC = "auroc"
THRESHOLD_RULES = ("threshold_accuracy", "caption_precision", "foil_precision")


def score_each_text(logits: Tensor) -> dict[str, ItemCorrectness]:
    """Decide for each text whether it fits its image: above 0.

    Args:
        logits: (I, 2) logit of a match of the image with the right and with the wrong text.

    Returns:
        Each of `THRESHOLD_RULES` -> correctness of the items. No scores are compared, so that there are no ties.
    """
    fits = (logits > 0).double()
    right, wrong = fits[:, 0], 1 - fits[:, 1]
    margins = logits[:, 0], -logits[:, 1]
    both = (right + wrong) / 2
    return {
        "threshold_accuracy": ItemCorrectness(both, both, margins[0].minimum(margins[1])),
        "caption_precision": ItemCorrectness(right, right, margins[0]),
        "foil_precision": ItemCorrectness(wrong, wrong, margins[1]),
    }


def auroc_estimator(right: np.ndarray, wrong: np.ndarray, unit: np.ndarray) -> Estimator:
    """Build the estimator of the area under the ROC curve, right texts against wrong ones.

    Scores are sorted once. A resample repeats both texts of an item as often as its unit was drawn, and the cumulative
    sum over the sorted wrong texts says how many of them are below a right one.

    Args:
        right, wrong: (I,) score of the right and of the wrong text of each item.
        unit: (I,) integers from 0, the unit of each item.

    Returns:
        The estimator.
    """
    order = np.argsort(wrong, kind="stable")
    sorted_wrong, unit_of_wrong = wrong[order], unit[order]
    below = np.searchsorted(sorted_wrong, right, side="left")
    up_to = np.searchsorted(sorted_wrong, right, side="right")

    def estimate(drawn: np.ndarray) -> float:
        cumulative = np.r_[0.0, np.cumsum(drawn[unit_of_wrong])]
        weights = drawn[unit]
        total = weights.sum()
        won = (weights * (cumulative[below] + cumulative[up_to])).sum() / 2
        return float(won / total**2) if total else np.nan

    return estimate


def placements(right: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """The share of pairs that each text wins (DeLong et al., Biometrics 44, 1988); ties count half.

    Args:
        right, wrong: (I,) score of the right and of the wrong text of each item.

    Returns:
        (2, I): the share of wrong texts below each right one, and of right texts above each wrong one. The mean of each
        row is the area under the ROC curve.
    """
    return np.stack([_share_below(right, wrong), 1 - _share_below(wrong, right)])


def _share_below(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Share of the others below each score, equal ones half."""
    return count_wins(scores, others) / (2 * len(others))


def mean_of_estimators(estimators: list[Estimator]) -> Estimator:
    """Build the estimator of the unweighted mean of others; those without samples in a resample are left out of it."""

    def estimate(drawn: np.ndarray) -> float:
        values = [value for value in (estimator(drawn) for estimator in estimators) if not np.isnan(value)]
        return float(np.mean(values)) if values else np.nan

    return estimate
