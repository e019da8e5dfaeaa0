"""The drop of a metric between two models under random weights of the images: p-values and intervals of a bootstrap.

For metrics that are not means over images (`cosmos_eval.metrics.paired_iou`, `paired_average_precision`), which compute
the resampled drops.
"""

from dataclasses import dataclass

import numpy as np

from cosmos_eval.metrics.detectable_drop import PowerInputs


@dataclass(frozen=True)
class BootstrapDrop:
    """Bootstrap of the drop (baseline minus candidate) of a metric: R resamples of U images; all fractions."""

    values: tuple[float, float]
    """The metric of the baseline and of the candidate on the data."""
    resampled: np.ndarray
    """(R,) drop under random weights of the images."""
    unseen: np.ndarray
    """(R,) what the unseen image takes off the drop, with a random weight of its own in each resample."""
    influence: np.ndarray
    """(U,) what each image adds to the drop, to first order; adds up to 0."""
    worst: float
    """What the unseen image takes off the drop if its weight is 1."""
    worst_candidate: np.ndarray
    """(R,) `resampled` minus `unseen` if the candidate were the worst possible one."""

    @property
    def drop(self) -> float:
        """Metric of the baseline minus that of the candidate."""
        return self.values[0] - self.values[1]

    def p_value(self, max_drop: float) -> float:
        """Return the p-value of "the true drop is at most `max_drop`" (a fraction); at least 1 / (R + 1)."""
        return _p_value(self.resampled - self.unseen, max_drop)

    def least_p_value(self, max_drop: float) -> float:
        """Return the p-value of the worst possible candidate: above the level, no candidate could fail this test."""
        return _p_value(self.worst_candidate, max_drop)

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Return (low, high) of the drop: quantiles of the resamples, each with the unseen image at its worst."""
        tail = (1 - confidence) / 2
        low = float(np.quantile(self.resampled - self.unseen, tail))
        return low, float(np.quantile(self.resampled + self.unseen, 1 - tail))

    def power_inputs(self) -> PowerInputs:
        """Return what `detectable_drop` needs, with influences in place of the differences of a mean."""
        squares = float(np.square(self.influence).sum())
        size = (squares + self.worst**2) / (float(np.abs(self.influence).sum()) + self.worst)
        return PowerInputs(len(self.influence), squares + 2 * self.worst * size, size, self.worst)


def _p_value(drops: np.ndarray, max_drop: float) -> float:
    """Fraction of (R,) resampled drops that are at most `max_drop`; the data count as one more resample."""
    return float(((drops <= max_drop).sum() + 1) / (len(drops) + 1))
