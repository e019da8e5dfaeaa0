"""Simulated suites whose benchmarks share images, with a known true average: for average_coverage.py and
studies/average_calibration.py.

Each image has a latent difficulty, the same in all benchmarks that show it; the outcome of a benchmark on it is right
where a mixture of this difficulty and of noise of the benchmark is below a threshold (a Gaussian copula). So accuracies
are exact, and outcomes on shared images are as correlated as wanted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from benchmarks.interval_coverage import bootstrap_bounds
from cosmos_eval.metrics.average_interval import Member
from cosmos_eval.metrics.proportion import estimate_proportion, proportion_intervals
from cosmos_eval.metrics.resampled_metric import UnitSums, mean_of_ratios

Rng = np.random.Generator


@dataclass(frozen=True)
class SimulatedSuite:
    """Benchmarks with true rates, and the images that each shows."""

    name: str
    rates: tuple[float, ...]
    """True accuracy of each benchmark."""
    images: tuple[range, ...]
    """Images of each, by number: those with the same number are the same image."""
    correlation: float
    """Of the latent variables of two benchmarks on one image."""

    @property
    def average(self) -> float:
        return float(np.mean(self.rates))

    @property
    def total(self) -> int:
        """Number of different images."""
        return max(image for shown in self.images for image in shown) + 1

    def draw(self, rng: Rng) -> list[np.ndarray]:
        """Return for each benchmark the (N_k,) outcomes, 0 or 1."""
        from scipy.special import ndtri

        difficulty = rng.standard_normal(self.total)
        outcomes = []
        for rate, shown in zip(self.rates, self.images, strict=True):
            noise = rng.standard_normal(len(shown))
            latent = np.sqrt(self.correlation) * difficulty[shown.start : shown.stop]
            latent = latent + np.sqrt(1 - self.correlation) * noise
            outcomes.append((latent < ndtri(rate)).astype(np.float64))
        return outcomes

    def names(self) -> list[np.ndarray]:
        """Return for each benchmark the (N_k,) names of its images."""
        return [np.array([f"{image:x}" for image in shown], dtype=object) for shown in self.images]


def members_of(outcomes: Sequence[np.ndarray], names: Sequence[np.ndarray]) -> list[Member]:
    """Members of the plain average, with the intervals that their results would have."""
    members = []
    for correct, of_images in zip(outcomes, names, strict=True):
        n = len(correct)
        estimate = estimate_proportion(correct, np.arange(n))
        low, high = _bounds(n)
        hits = int(correct.sum())
        ((low_end, high_end),) = proportion_intervals([estimate], [(low[hits], high[hits])])
        samples = np.arange(n)
        sums = UnitSums.build(
            of_images,
            np.concatenate([samples, samples]),
            np.repeat([0, 1], n),
            np.concatenate([correct, np.ones(n)]),
            mean_of_ratios,
        )
        members.append(Member(1 / len(outcomes), estimate.value, low_end, high_end, estimate.method, sums))
    return members


@lru_cache(maxsize=64)
def _bounds(n: int) -> tuple[np.ndarray, np.ndarray]:
    return bootstrap_bounds(n)


SUITES = (
    SimulatedSuite("two benchmarks on the same 200 images", (0.7, 0.5), (range(200), range(200)), 0.6),
    SimulatedSuite("two benchmarks on the same 1,000 images", (0.9, 0.6), (range(1000), range(1000)), 0.9),
    SimulatedSuite("three benchmarks, half of the images shared", (0.8, 0.4, 0.6),
                   (range(400), range(200, 600), range(400, 800)), 0.6),
    SimulatedSuite("eight benchmarks of 100 to 2,000 images, four of them on the same", 
                   (0.7, 0.55, 0.9, 0.35, 0.8, 0.6, 0.95, 0.5),
                   (range(500), range(500), range(500), range(500), range(500, 600), range(600, 2600),
                    range(2600, 2900), range(2900, 3900)), 0.6),
    SimulatedSuite("no shared images", (0.7, 0.5, 0.9), (range(300), range(300, 600), range(600, 900)), 0.0),
    SimulatedSuite("nearly all right, the same 60 images", (0.98, 0.95, 0.99), (range(60), range(60), range(60)), 0.6),
    SimulatedSuite("one benchmark nearly all right, 40 images", (0.97, 0.6), (range(40), range(40, 540)), 0.0),
)  # fmt: skip
"""In the last two most members have few wrong samples, so that the interval is not from the bootstrap alone."""
