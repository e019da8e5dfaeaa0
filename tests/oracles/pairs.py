"""Right-or-wrong pairs row by row: what `metrics.comparisons` makes of items of one image and two texts."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cosmos_eval.metrics.similarity import check_features, plain_float32


@dataclass(frozen=True)
class Pairs:
    """Scores of the right and of the wrong candidate of each item; all (I,) on the CPU."""

    right: Tensor
    wrong: Tensor

    @property
    def strict(self) -> Tensor:
        """float64, 1 where the right one scores strictly higher: a tie is wrong."""
        return (self.right > self.wrong).double()

    @property
    def expected(self) -> Tensor:
        """float64, a tie counts one half."""
        return self.strict + (self.right == self.wrong).double() / 2


def compare_pairs(anchors: Tensor, right: Tensor, wrong: Tensor) -> Pairs:
    """Score a right and a wrong candidate against the anchor of each item.

    Args:
        anchors, right, wrong: (I, D) features; row i of each belongs to item i.

    Raises:
        ValueError: shapes differ, or features that are not finite (names the first item).
    """
    if not anchors.shape == right.shape == wrong.shape:
        shapes = ", ".join(str(tuple(x.shape)) for x in (anchors, right, wrong))
        raise ValueError(f"anchors, right and wrong candidates must have one shape, got {shapes}")
    for features in (anchors, right, wrong):
        check_features(features, "item")
    with plain_float32():
        of_right = (anchors.float() * right.float()).sum(1)
        of_wrong = (anchors.float() * wrong.float()).sum(1)
    # Equal candidates tie whatever the order in which a kernel adds up.
    equal = (right == wrong).all(1)
    return Pairs(of_right.cpu(), torch.where(equal, of_right, of_wrong).cpu())
