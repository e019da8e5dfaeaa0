"""Accuracy of zero-shot classification: top-k accuracy and its unweighted mean over classes.

Both are expectations over a random order of tied classes. Without ties they are the numbers of scikit-learn's
`top_k_accuracy_score` and `balanced_accuracy_score`, and clip-benchmark's `acc1`, `acc5` and `mean_per_class_recall`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from cosmos_eval.metrics.query_scores import QueryScores
from cosmos_eval.metrics.similarity import BLOCK_BYTES


@dataclass(frozen=True)
class ClassRankCounts:
    """How the score of the true class of each sample compares with those of all classes; (N,) on the CPU each."""

    above: Tensor
    """int64: number of classes that score strictly above the true class."""
    tied: Tensor
    """int64: number of classes with exactly the score of the true class, itself included; at least 1."""
    prediction: Tensor
    """int64: class with the highest score, the lowest index among tied ones. Only for display: no metric uses it, since
    it breaks ties by the order of the classes."""
    margin: Tensor
    """float32: score of the true class minus the highest score of another class; infinite with a single class."""


def compute_class_rank_counts(
    scores: QueryScores, labels: Tensor, classes: int, block_bytes: int = BLOCK_BYTES
) -> ClassRankCounts:
    """Compare the score of the true class of every sample with the scores of all classes.

    Args:
        scores: scores of N samples (the queries) against `classes` classes (the candidates), all finite. Classes that
            share a column (classes of equal names) tie exactly.
        labels: (N,) int64, the true class of each sample.
        classes: number of classes.
        block_bytes: memory for the scores of one block.

    Returns:
        The counts, the prediction and the margin of every sample.

    Raises:
        ValueError: a label is out of range (names the first such sample), or the labels are not (N,).
    """
    labels = labels.long().cpu()
    check_labels(labels, scores.query_count, classes)
    column_of_class, distinct_count = scores.column.to(scores.device), len(scores.copies)
    above, tied, prediction, margin = [], [], [], []
    for start, stop, block in scores.blocks(block_bytes):
        # From one column per distinct class to one per class; skipped where all classes are distinct, as it is a copy.
        class_scores = block[:, column_of_class] if distinct_count < len(column_of_class) else block
        true_class = labels[start:stop, None].to(scores.device)
        true_score = class_scores.gather(1, true_class)
        # summed as int32: on a CPU, torch takes 25 times as long to sum booleans as int64
        above.append((class_scores > true_score).sum(1, dtype=torch.int32))
        tied.append((class_scores == true_score).sum(1, dtype=torch.int32))
        # Of several classes with the highest score the first one, on every device.
        is_highest = class_scores == class_scores.amax(1, keepdim=True)
        prediction.append(is_highest.int().argmax(1))
        other_scores = class_scores.scatter(1, true_class, -torch.inf)
        margin.append(true_score[:, 0] - other_scores.amax(1))
    counts = [torch.cat(blocks).cpu().long() for blocks in (above, tied)]
    return ClassRankCounts(*counts, *(torch.cat(blocks).cpu() for blocks in (prediction, margin)))


def expected_topk(counts: ClassRankCounts, k: int) -> Tensor:
    """Top-k accuracy of every sample: the probability that the true class is among the first k classes.

    Tied classes are ordered at random: k - `above` of the first k positions are left for the `tied` classes, and the
    true class is equally likely at each position among them. A model that scores all C classes alike gets k / C.

    Args:
        counts: of N samples, as `compute_class_rank_counts` returns them.
        k: cut-off, at least 1; it may exceed the number of classes.

    Returns:
        (N,) float64 probabilities; 0 or 1 where the true class ties with no other.

    Raises:
        ValueError: k < 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    return ((k - counts.above).double() / counts.tied.double()).clamp(0, 1)


def check_labels(labels: Tensor, samples: int, classes: int) -> None:
    """Check that labels are class indices of the right number.

    Args:
        labels: (N,) int64 class of each sample.
        samples: N that is expected.
        classes: number of classes; labels are from 0 to `classes` - 1.

    Raises:
        ValueError: labels have another shape, or a label is out of range (names the first such sample).
    """
    if tuple(labels.shape) != (samples,):
        raise ValueError(f"labels must have shape ({samples},), got {tuple(labels.shape)}")
    out_of_range = (labels < 0) | (labels >= classes)
    if out_of_range.any():
        first = int(out_of_range.nonzero()[0])
        raise ValueError(f"sample {first} has label {int(labels[first])}, there are {classes} classes")


def mean_per_class(values: Tensor, labels: Tensor, classes: int) -> float:
    """Mean per-class accuracy: the mean of `values` inside each class, averaged over classes with equal weight.

    With the top-1 accuracy of each sample this is the balanced accuracy (mean per-class recall) of VTAB and
    clip-benchmark.

    Args:
        values: (N,) value of each sample, such as its expected top-1 accuracy.
        labels: (N,) int64 true classes.
        classes: number of classes.

    Returns:
        The mean over classes, in float64.

    Raises:
        ValueError: a class has no samples (names the first), or a label is out of range (names the first sample).
    """
    labels = labels.long().cpu()
    check_labels(labels, len(values), classes)
    counts = torch.bincount(labels, minlength=classes)
    if (counts == 0).any():
        raise ValueError(f"class {int((counts == 0).nonzero()[0])} has no samples")
    sums = torch.bincount(labels, weights=values.double().cpu(), minlength=classes)
    return float((sums / counts).mean())
