"""Slow oracle of the accuracy of items of one image and two texts (`cosmos_eval.metrics.item_accuracy`)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cosmos_eval.metrics.similarity import check_features, plain_float32


@dataclass(frozen=True)
class Pairs:
    """Scores of the right and of the wrong candidate of each item; (I,) each, on the CPU."""

    right: Tensor
    wrong: Tensor

    @property
    def strict(self) -> Tensor:
        """(I,) float64: 1 where the right candidate scores strictly higher, else 0."""
        return (self.right > self.wrong).double()

    @property
    def expected(self) -> Tensor:
        """(I,) float64: likewise, but 1/2 for a tie."""
        return self.strict + (self.right == self.wrong).double() / 2


def compare_pairs(anchors: Tensor, right: Tensor, wrong: Tensor) -> Pairs:
    """Score a right and a wrong candidate against the anchor of each item.

    Args:
        anchors, right, wrong: (I, D) features of each item.

    Raises:
        ValueError: shapes differ, or a feature is not finite (names the first item).
    """
    if not anchors.shape == right.shape == wrong.shape:
        shapes = ", ".join(str(tuple(x.shape)) for x in (anchors, right, wrong))
        raise ValueError(f"anchors, right and wrong candidates must have one shape, got {shapes}")
    for features in (anchors, right, wrong):
        check_features(features, "item")
    with plain_float32():
        right_scores = (anchors.float() * right.float()).sum(1)
        wrong_scores = (anchors.float() * wrong.float()).sum(1)
    # Equal candidates share one score, as the order in which a kernel adds up may differ.
    equal = (right == wrong).all(1)
    return Pairs(right_scores.cpu(), torch.where(equal, right_scores, wrong_scores).cpu())
