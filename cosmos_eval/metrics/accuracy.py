"""Accuracies of classification, each sample a number in [0, 1]."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cosmos_eval.metrics.query_scores import QueryScores
from cosmos_eval.metrics.similarity import BLOCK_BYTES


@dataclass(frozen=True)
class ClassPlaces:
    """Where the true class of each sample stands; all (N,) on the CPU."""

    better: Tensor
    """int64: classes scored strictly above the true one."""
    tied: Tensor
    """int64: classes with exactly its score, itself included."""
    prediction: Tensor
    """int64: the class with the highest score, the lowest index among equals; for people, never for a metric."""
    margin: Tensor
    """float32: score of the true class minus that of the best other one; infinite where there is no other."""


def count_scored_classes(
    scores: QueryScores, labels: Tensor, classes: int, block_bytes: int = BLOCK_BYTES
) -> ClassPlaces:
    """Compare the score of every sample's true class with those of all others.

    Args:
        scores: of N samples against `classes` classes, all of them finite. Classes that share a column (equal names)
            tie exactly.
        labels: (N,) int64 true classes.
        block_bytes: memory that the scores of one block may take.

    Raises:
        ValueError: a label out of range; names the first.
    """
    labels = labels.long().cpu()
    check_labels(labels, scores.queries, classes)
    column, distinct = scores.column.to(scores.device), len(scores.copies)
    better, tied, prediction, margin = [], [], [], []
    for start, stop, block in scores.blocks(block_bytes):
        of_classes = block[:, column] if distinct < len(column) else block
        own = labels[start:stop, None].to(scores.device)
        true = of_classes.gather(1, own)
        better.append((of_classes > true).sum(1))
        tied.append((of_classes == true).sum(1))
        # argmax leaves open which of several maxima it gives; the first of them is the same on every device.
        prediction.append((of_classes == of_classes.amax(1, keepdim=True)).int().argmax(1))
        others = of_classes.scatter(1, own, -torch.inf)
        margin.append(true[:, 0] - others.amax(1))
    return ClassPlaces(*(torch.cat(parts).cpu() for parts in (better, tied, prediction, margin)))


def expected_topk(places: ClassPlaces, k: int) -> Tensor:
    """(N,) float64 probability that the true class is among the first k when ties are ordered at random.

    Raises:
        ValueError: k < 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    return ((k - places.better).double() / places.tied.double()).clamp(0, 1)


def check_labels(labels: Tensor, samples: int, classes: int) -> None:
    """Refuse labels that are not (samples,) or lie outside [0, classes); ValueError names the first bad sample."""
    if tuple(labels.shape) != (samples,):
        raise ValueError(f"labels must have shape ({samples},), got {tuple(labels.shape)}")
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():
        first = int(wrong.nonzero()[0])
        raise ValueError(f"sample {first} has label {int(labels[first])}, there are {classes} classes")


def mean_per_class(values: Tensor, labels: Tensor, classes: int) -> float:
    """Unweighted mean over classes of the mean of (N,) `values` inside each class.

    Raises:
        ValueError: a class without samples (names the first), or a label out of range.
    """
    labels = labels.long().cpu()
    check_labels(labels, len(values), classes)
    counts = torch.bincount(labels, minlength=classes)
    if (counts == 0).any():
        raise ValueError(f"class {int((counts == 0).nonzero()[0])} has no samples")
    sums = torch.bincount(labels, weights=values.double().cpu(), minlength=classes)
    return float((sums / counts).mean())
