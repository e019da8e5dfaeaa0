"""What two models did on the same samples, for one metric: what a paired test takes.

The unit is the one that the metric's interval resamples: the image, where captions or items share one (of a cut-out
the image that it is cut from, of an item of several images the first).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cosmos_core.errors import RequestError
from cosmos_eval.metrics.areas import PresentAreas
from cosmos_eval.metrics.paired import Drops, drops_of
from cosmos_eval.metrics.paired_areas import AreaDrop, bootstrap_areas

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Hits:
    """Hits in [0, 1] of N samples in both models, and what each adds to the metric."""

    baseline: np.ndarray
    candidate: np.ndarray
    unit: np.ndarray
    weights: np.ndarray | None = None

    def drops(self) -> Drops:
        return drops_of(self.baseline, self.candidate, self.unit, self.weights)

    def if_all_lost(self) -> Drops:
        """The worst candidate there can be: no hit at all."""
        return drops_of(self.baseline, np.zeros(len(self.baseline)), self.unit, self.weights)

    def values(self) -> tuple[float, float]:
        both = [np.average(one, weights=self.weights) for one in (self.baseline, self.candidate)]
        return float(both[0]), float(both[1])


@dataclass(frozen=True)
class Areas:
    """Areas of the same images in both models, for a mean IoU over `labels` (all that occur without)."""

    baseline: PresentAreas
    candidate: PresentAreas
    images: int
    labels: tuple[int, ...] | None = None

    def exchanged(self) -> "Areas":
        """With the candidate as the baseline."""
        return Areas(self.candidate, self.baseline, self.images, self.labels)

    def drop(self, resamples: int, seed: int) -> AreaDrop:
        return bootstrap_areas(self.baseline, self.candidate, self.images, self.labels, resamples, seed)


def require_column(column: str, *frames: "pd.DataFrame") -> None:
    """RequestError where the samples of a model lack a column."""
    if any(column not in frame for frame in frames):
        raise RequestError(
            f"samples.parquet has no column {column!r}, as an older version wrote it; measure both models again with "
            "run --overwrite"
        )


def label_numbers(labels: np.ndarray | Sequence[str]) -> np.ndarray:
    """(N,) int64, equal for equal labels, from 0 in order of first appearance."""
    import pandas as pd

    return pd.factorize(np.asarray(labels))[0].astype(np.int64)
