"""Whether items of a perception benchmark are right: what every rule returns."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class ItemCorrectness:
    """Whether items are right under one rule (one metric), for I items; tensors on the CPU."""

    strict: Tensor
    """(I,) float64: 1 where the rule holds strictly, else 0."""
    expected: Tensor
    """(I,) float64: probability that the rule holds when ties are ordered at random."""
    margin: Tensor
    """(I,) float32: smallest difference of a right score minus a wrong score among those that the rule compares."""
    per_pair: tuple[Tensor, Tensor] | None = None
    """Only for `match_accuracy`, where the two pairs of an item are classified separately: (I, 2) `strict` and (I, 2)
    `expected` of each pair. The values of the item are their means."""
