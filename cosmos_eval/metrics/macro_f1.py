"""Macro F1: the F1 score of each class, averaged with equal weight over the classes that have samples.

The F1 of a class is 2 TP / (predicted + labelled) (van Rijsbergen, Information Retrieval, 1979). iWildCam is scored by
it (Beery et al., 2021; WILDS, Koh et al., ICML 2021), as the classes of camera traps differ in size by thousands. It is
scikit-learn's `f1_score(average="macro", labels=np.unique(y_true))`.

Ties: a model that scores several classes alike predicts each of them with the same probability, and TP and predicted
are expectations. A model that scores everything alike predicts every class for every sample.
"""

from dataclasses import dataclass

import numpy as np
import torch

from cosmos_eval.metrics.query_scores import QueryScores
from cosmos_eval.metrics.similarity import BLOCK_BYTES


@dataclass(frozen=True)
class F1Entries:
    """What each sample adds to the F1 of each class: that is the sum of `hits` over the sum of `counts`; (E,) each."""

    sample: np.ndarray
    """int64"""
    label: np.ndarray
    """int64 class, from 0 to the number of classes that have samples."""
    hits: np.ndarray
    """float64, twice the probability of a true positive."""
    counts: np.ndarray
    """float64, probability of being predicted as the class, and 1 if it is the true one."""


def tied_predictions(scores: QueryScores, block_bytes: int = BLOCK_BYTES) -> list[list[int]]:
    """Return the classes that share the highest score of each sample, in ascending order; at least one.

    Args:
        scores: of N samples (the queries) against C classes (the candidates).
        block_bytes: memory for the scores of one block.
    """
    column_of_class = scores.column.to(scores.device)
    predictions: list[list[int]] = []
    for _, _, block in scores.blocks(block_bytes):
        class_scores = block[:, column_of_class]
        is_highest = (class_scores == class_scores.amax(1, keepdim=True)).cpu()
        row, label = torch.nonzero(is_highest, as_tuple=True)
        groups = np.split(label.numpy(), np.cumsum(np.bincount(row.numpy(), minlength=len(block)))[:-1])
        predictions += [group.tolist() for group in groups]
    return predictions


def f1_entries(predictions: list[list[int]], labels: np.ndarray) -> F1Entries:
    """Collect what each sample adds to the F1 of each class.

    Args:
        predictions: the classes of the highest score of each of N samples.
        labels: (N,) int64 true classes.

    Raises:
        ValueError: no samples, lengths differ, or a sample without a prediction.
    """
    lengths = np.array([len(predicted) for predicted in predictions])
    if not len(labels) or len(labels) != len(predictions) or not lengths.all():
        raise ValueError("each sample needs a label and at least one predicted class, and there must be a sample")
    samples = np.arange(len(labels))
    present, label_number = np.unique(labels, return_inverse=True)
    predicted_sample = np.repeat(samples, lengths)
    predicted = np.concatenate([np.asarray(classes, np.int64) for classes in predictions])
    probability = np.repeat(1 / lengths, lengths)
    is_hit = predicted == labels[predicted_sample]
    is_wrong = np.isin(predicted, present) & ~is_hit  # a class without samples has no F1
    hit = np.bincount(predicted_sample, weights=np.where(is_hit, probability, 0.0), minlength=len(labels))
    return F1Entries(
        sample=np.concatenate([samples, predicted_sample[is_wrong]]),
        label=np.concatenate([label_number, np.searchsorted(present, predicted[is_wrong])]),
        hits=np.concatenate([2 * hit, np.zeros(int(is_wrong.sum()))]),
        counts=np.concatenate([1 + hit, probability[is_wrong]]),
    )


def macro_f1(entries: F1Entries, weights: np.ndarray | None = None) -> float:
    """Compute the macro F1 score.

    Args:
        entries: of all samples.
        weights: (N,) how often each sample counts, in a bootstrap; None: once.

    Returns:
        A fraction. Classes without any weight are left out.
    """
    of_entry = np.ones(len(entries.sample)) if weights is None else weights[entries.sample]
    hits = np.bincount(entries.label, weights=of_entry * entries.hits)
    counts = np.bincount(entries.label, weights=of_entry * entries.counts)
    present = counts > 0
    return float((hits[present] / counts[present]).mean()) if present.any() else float("nan")
