"""The range of features, to find out whether a model gives the same feature for everything."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cosmos_eval.metrics.similarity import COLLAPSED


@dataclass
class FeatureRange:
    """The range of values in each dimension of some features, to find out whether all features are equal.

    It stands for features that are too many to keep: those of all patches of a dataset.
    """

    first: Tensor = field(default_factory=lambda: torch.empty(0))
    """(D,) the first feature; empty if there is none yet."""
    low: Tensor = field(default_factory=lambda: torch.empty(0))
    """(D,) smallest value in each dimension."""
    high: Tensor = field(default_factory=lambda: torch.empty(0))
    """(D,) largest value in each dimension."""
    is_wide: bool = False
    """Whether the features certainly differ; further ones are then ignored, to save time."""

    def add(self, features: Tensor) -> None:
        """Extend the range by (N, D) features."""
        if self.is_wide:
            return
        low, high = features.amin(0), features.amax(0)
        if not len(self.first):
            self.first, self.low, self.high = features[0].clone(), low, high
        self.low, self.high = torch.minimum(self.low, low), torch.maximum(self.high, high)
        self.is_wide = bool((self.high - self.low).amax() >= 2 * COLLAPSED)

    def cpu(self) -> "FeatureRange":
        """A copy on the CPU."""
        first, low, high = torch.stack([self.first, self.low, self.high]).cpu()  # one copy
        return FeatureRange(first, low, high, self.is_wide)


def all_features_equal(ranges: Sequence[FeatureRange]) -> bool:
    """Whether the features behind all ranges differ from the first one by less than rounding."""
    first = ranges[0].first

    def is_near_first(other: FeatureRange) -> bool:
        return bool(torch.maximum(other.high - first, first - other.low).amax() < COLLAPSED)

    return all(not feature_range.is_wide and is_near_first(feature_range) for feature_range in ranges)
