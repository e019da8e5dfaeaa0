"""Drop of a mean or of the smallest of several ratios between two models: macro F1, the accuracy of the worst group.

They are not weighted means over images, so the exact test of `cosmos_eval.metrics.paired_drop` does not apply, but its
method does, as for the mean IoU (`cosmos_eval.metrics.paired_iou`): exponential weights of the images, the same to both
models, and one unseen image that speaks most against a drop, whose effect is computed to first order.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cosmos_eval.metrics.bootstrap_drop import BootstrapDrop
from cosmos_eval.metrics.resampled_metric import UnitSums, mean_of_ratios, resample_together
from cosmos_eval.metrics.worst_group import smallest_ratio

if TYPE_CHECKING:
    from scipy.sparse import csr_array


@dataclass(frozen=True)
class PairedRatios:
    """Numerators and denominators of C ratios for the same images, of both models."""

    baseline: UnitSums
    """Its sums are the C numerators and the C denominators; `combine` is `mean_of_ratios` or `smallest_ratio`."""
    candidate: UnitSums
    """For the same units in the same order."""
    hit: tuple[float, float]
    """What an image that is right adds to the numerator and to the denominator of its class (or group)."""
    miss: float
    """What an image that is wrong adds to the denominator of its class."""
    miss_elsewhere: float = 0.0
    """What it adds to the denominator of another class, the one that is predicted."""

    @property
    def images(self) -> int:
        return len(self.baseline.names)

    def swapped(self) -> "PairedRatios":
        """Return the same with baseline and candidate swapped, for a test of a gain."""
        return PairedRatios(self.candidate, self.baseline, self.hit, self.miss, self.miss_elsewhere)

    def of_model(self, number: int) -> UnitSums:
        """Return the metric of one model (0 the baseline, 1 the candidate) under random weights of the images."""
        return (self.baseline, self.candidate)[number]

    def bootstrap_drop(self, resamples: int, seed: int) -> BootstrapDrop:
        """Bootstrap the drop of the metric.

        Args:
            resamples: number of resamples R, at least 2.
            seed: of the random weights.
        """
        resampled = resample_together([self.baseline, self.candidate], resamples, seed)
        unseen_weight = np.random.default_rng([seed, 1]).standard_exponential(resamples)
        ones = np.ones((1, self.images))
        values = [float(model.values(ones)[0]) for model in (self.baseline, self.candidate)]
        worst = self._largest_unseen_gain(self.candidate.sums)
        lost = self.baseline.sums.copy()
        lost.data[lost.indices < lost.shape[1] // 2] = 0.0  # the worst candidate has nothing right
        influence = _influence(self.baseline) - _influence(self.candidate)
        drops = resampled[:, 0] - resampled[:, 1]
        least = resampled[:, 0] - self._largest_unseen_gain(lost) * unseen_weight
        return BootstrapDrop((values[0], values[1]), drops, worst * unseen_weight, influence, worst, least)

    def _largest_unseen_gain(self, candidate_sums: "csr_array") -> float:
        """How much one more image could take off the drop: the baseline has it wrong and the candidate right."""
        (rate, size), (other_rate, other_size) = (_ratios(sums) for sums in (self.baseline.sums, candidate_sums))
        loss = self.miss * rate / size + self.miss_elsewhere * (rate / size).max()
        gain = (self.hit[0] - other_rate * self.hit[1]) / other_size
        return float((loss + gain).max()) / (len(rate) if self.baseline.combine is mean_of_ratios else 1)


def _ratios(sums: "csr_array") -> tuple[np.ndarray, np.ndarray]:
    """(C',) ratios and their denominators, of the classes whose denominator is not 0."""
    numerator, denominator = np.split(np.asarray(sums.sum(axis=0)).ravel(), 2)
    present = denominator > 0
    return numerator[present] / denominator[present], denominator[present]


def _influence(metric: UnitSums) -> np.ndarray:
    """(U,) derivative of the metric with respect to the weight of each image; of the smallest ratio, of it alone.

    With N and D the numerator and denominator of a class, n and d those of one image, it is (n - N / D * d) / D.
    """
    numerator, denominator = np.split(np.asarray(metric.sums.sum(axis=0)).ravel(), 2)
    present = np.flatnonzero(denominator > 0)
    rate = numerator[present] / denominator[present]
    share = np.full(len(present), 1 / len(present))
    if metric.combine is smallest_ratio:
        share = (np.arange(len(present)) == rate.argmin()).astype(np.float64)
    factors = np.zeros(2 * len(numerator))
    factors[present] = share / denominator[present]
    factors[len(numerator) + present] = -share * rate / denominator[present]
    return np.asarray(metric.sums @ factors)
