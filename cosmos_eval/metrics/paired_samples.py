"""Samples of two models for one metric, paired: what a task hands to the tests of `regress`.

For a metric that is a weighted mean over samples, a task returns `Hits`.
For another one, such as a mean IoU, it returns a `PairedBootstrap`: `PairedPixelCounts`, `PairedLabelScores`.

The unit is the one that the metric's interval resamples: the image. Captions and items that share an image belong to
one unit. The unit of an image that was cut out of another is the image that it was cut from, and that of an item of
several images is the first one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from cosmos_core.errors import RequestError
from cosmos_eval.metrics.bootstrap_drop import BootstrapDrop
from cosmos_eval.metrics.iou import PixelCounts
from cosmos_eval.metrics.paired_drop import PairedDifferences, sum_differences
from cosmos_eval.metrics.paired_iou import bootstrap_iou_drop

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Hits:
    """Outcomes of both models for the same N samples, whose weighted mean is the metric."""

    baseline: np.ndarray
    """(N,) outcomes in [0, 1], such as top-1 accuracy; fractions where tied candidates share a position."""
    candidate: np.ndarray
    """(N,) outcomes of the candidate for the same samples."""
    unit: np.ndarray
    """(N,) int64 independent unit (image) of each sample."""
    weights: np.ndarray | None = None
    """(N,) weight of each sample in the metric, not negative; None: equal weights."""

    def differences(self) -> PairedDifferences:
        """Return the differences by unit, which the paired test takes."""
        return sum_differences(self.baseline, self.candidate, self.unit, self.weights)

    def against_worst_candidate(self) -> PairedDifferences:
        """Return the differences to the worst possible candidate, which has no sample right."""
        return sum_differences(self.baseline, np.zeros(len(self.baseline)), self.unit, self.weights)

    def values(self) -> tuple[float, float]:
        """Return the metric of the baseline and of the candidate."""
        baseline, candidate = (np.average(one, weights=self.weights) for one in (self.baseline, self.candidate))
        return float(baseline), float(candidate)


class PairedBootstrap(Protocol):
    """What both models did on the same images, where the metric is no mean over samples."""

    @property
    def images(self) -> int:
        """Number of images, the units of the bootstrap."""
        ...

    def swapped(self) -> "PairedBootstrap":
        """Return the same with baseline and candidate swapped, for a test of a gain."""
        ...

    def bootstrap_drop(self, resamples: int, seed: int) -> BootstrapDrop:
        """Bootstrap the drop of the metric."""
        ...


@dataclass(frozen=True)
class PairedPixelCounts:
    """Pixel counts of both models for the same images, whose mean IoU is the metric."""

    baseline: PixelCounts
    candidate: PixelCounts
    images: int
    """Number of images."""
    labels: tuple[int, ...] | None = None
    """Classes of which the mean is taken; None: all that occur."""

    def swapped(self) -> "PairedPixelCounts":
        """Return the pixel counts with baseline and candidate swapped, for a test of a gain."""
        return PairedPixelCounts(self.candidate, self.baseline, self.images, self.labels)

    def bootstrap_drop(self, resamples: int, seed: int) -> BootstrapDrop:
        """Bootstrap the drop of the mean IoU; see `bootstrap_iou_drop`."""
        return bootstrap_iou_drop(self.baseline, self.candidate, self.images, self.labels, resamples, seed)


def require_column(column: str, *frames: "pd.DataFrame") -> None:
    """Check that the samples of all models have a column.

    Raises:
        RequestError: a table lacks it; says how to get it.
    """
    if any(column not in frame for frame in frames):
        raise RequestError(
            f"samples.parquet has no column {column!r}: an older version wrote it; measure both models again with "
            "run --overwrite"
        )


def number_labels(labels: np.ndarray | Sequence[str]) -> np.ndarray:
    """Number labels from 0 in the order of their first appearance.

    Args:
        labels: (N,) of any type that can be compared.

    Returns:
        (N,) int64, equal for equal labels.
    """
    import pandas as pd

    return pd.factorize(np.asarray(labels))[0].astype(np.int64)
