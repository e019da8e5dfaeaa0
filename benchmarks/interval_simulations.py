"""Simulated samples with a known true rate, on which `interval_coverage.py` tests the intervals of rates.

A simulation draws many samples of n images at a true rate. For each sample it returns the evidence from which our
interval is computed, and the rate in every bootstrap resample.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cosmos_eval.metrics.iou import PixelCounts, estimate_pixel_proportion
from cosmos_eval.metrics.proportion import ProportionEstimate, estimate_proportion

Rng = np.random.Generator
CAPTIONS = 5
CLASSES = 10
PRESENT = (0.9, 0.7, 0.5, 0.4, 0.3, 0.2)
"""Probability that an image has each class, in the simulation of mean IoU."""
SPREAD = 4.0
"""a + b of the beta distribution of an image's IoU."""
PIXELS = 10_000
Measured = tuple[list[ProportionEstimate], np.ndarray]


@dataclass(frozen=True)
class RateSimulation:
    """A method to draw samples at a true rate."""

    name: str
    about: str
    """How samples are drawn, in one sentence."""
    measure: Callable[[Rng, int, float, int, np.ndarray], Measured]
    """Function of a generator, n, the rate, the number of samples T and (R, n) counts of the resamples. It returns T
    pieces of evidence and the (R, T) rates of the resamples."""
    trials: int
    checked_from: int
    """The smallest n for which coverage is required."""


def measure_outcomes(draw: Callable[[Rng, int, float, int], np.ndarray]) -> Callable[..., Measured]:
    """Return the `measure` function for the mean of outcomes (T, n, captions) that `draw` returns."""

    def measure(rng: Rng, n: int, rate: float, trials: int, resamples: np.ndarray) -> Measured:
        outcomes = draw(rng, n, rate, trials)
        unit = np.repeat(np.arange(n), outcomes.shape[2])
        return [estimate_proportion(sample.ravel(), unit) for sample in outcomes], resamples @ outcomes.mean(2).T / n

    return measure


def ties(rng: Rng, n: int, rate: float, trials: int) -> np.ndarray:
    """1 to 4 candidates tie for the first place; each is right with the probability of the rate."""
    tied = rng.integers(1, 5, (trials, n))
    return (rng.binomial(tied, rate) / tied)[..., None]


def captions(correlation: float) -> Callable[[Rng, int, float, int], np.ndarray]:
    """Return a draw function in which each image has its own rate, from a beta distribution.

    Two captions of one image then have the correlation `correlation`.
    """

    def draw(rng: Rng, n: int, rate: float, trials: int) -> np.ndarray:
        image_rate = np.full((trials, n, 1), rate)
        if correlation == 1:
            image_rate = (rng.random((trials, n, 1)) < rate).astype(np.float64)
        elif correlation > 0:
            size = 1 / correlation - 1
            image_rate = rng.beta(rate * size, (1 - rate) * size, (trials, n, 1))
        return (rng.random((trials, n, CAPTIONS)) < image_rate).astype(np.float64)

    return draw


def class_rates(rate: float, classes: int) -> np.ndarray:
    """Return (C,) rates, half of them above the mean and half below, by half of the available range."""
    return rate + 0.5 * min(rate, 1 - rate) * np.where(np.arange(classes) % 2, 1, -1)


def per_class(rng: Rng, n: int, rate: float, trials: int, resamples: np.ndarray) -> Measured:
    """Draw samples for a mean over classes of unequal size, each with its own rate."""
    classes = min(CLASSES, n // 5 * 2)
    size = 1 / np.arange(1, classes + 1)
    label = np.sort(np.concatenate([np.arange(classes), np.searchsorted(
        np.cumsum(size) / size.sum(), (np.arange(n - classes) + 0.5) / (n - classes))]))  # fmt: skip
    outcomes = (rng.random((trials, n)) < class_rates(rate, classes)[label]).astype(np.float64)
    rate_sum, present = np.zeros((len(resamples), trials)), np.zeros((len(resamples), 1))
    for c in range(classes):
        in_class = label == c
        count = resamples[:, in_class].sum(1, keepdims=True)
        hits = resamples[:, in_class] @ outcomes[:, in_class].T
        rate_sum += np.where(count > 0, hits / np.maximum(count, 1), 0.0)
        present += count > 0
    return [estimate_proportion(sample, np.arange(n), classes=label) for sample in outcomes], rate_sum / present


def mean_iou(rng: Rng, n: int, rate: float, trials: int, resamples: np.ndarray) -> Measured:
    """Draw samples for a mean IoU.

    Unions are gamma-distributed. The IoU of an image in a class is beta-distributed and independent of the union, so
    the IoU of the class is its mean.
    """
    classes = len(PRESENT)
    means = class_rates(rate, classes)
    has_class = rng.random((trials, n, classes)) < PRESENT
    has_class[:, 0] |= ~has_class.any(1)  # every class occurs
    union = np.where(has_class, np.ceil(PIXELS * rng.gamma(2, 0.5, has_class.shape)), 0.0)
    intersection = np.round(union * rng.beta(SPREAD * means, SPREAD * (1 - means), has_class.shape))
    iou_sum, present = np.zeros((len(resamples), trials)), np.zeros((len(resamples), trials))
    for c in range(classes):
        union_sum = resamples @ union[..., c].T
        iou_sum += np.where(union_sum > 0, resamples @ intersection[..., c].T / np.maximum(union_sum, 1), 0.0)
        present += union_sum > 0
    evidence = [estimate_pixel_proportion(_entries(*areas), "miou") for areas in zip(intersection, union, strict=True)]
    return evidence, iou_sum / present


def _entries(intersection: np.ndarray, union: np.ndarray) -> PixelCounts:
    image, label = np.nonzero(union)
    intersection, union = intersection[image, label], union[image, label]
    # the prediction is the intersection alone, so that the label area is the union
    areas = np.stack([intersection, intersection, union], axis=1).astype(np.int64)
    return PixelCounts(image, label, areas, len(PRESENT))


SIMULATIONS: Sequence[RateSimulation] = (
    RateSimulation("Ties", str(ties.__doc__), measure_outcomes(ties), 600, 10),
    *(
        RateSimulation(
            f"{CAPTIONS} captions per image, correlation {correlation:g}",
            "n is the number of images; each image has its own rate (beta distribution).",
            measure_outcomes(captions(correlation)),
            600,
            50,
        )
        for correlation in (0.0, 0.3, 1.0)
    ),
    RateSimulation(
        "Mean per class",
        f"{CLASSES} classes (4 for n = 10, 8 for n = 20) with sizes proportional to 1 / c; every second class has a "
        "higher rate than the mean, by half of the available range, and the others a lower one.",
        per_class,
        300,
        50,
    ),
    RateSimulation(
        "Mean IoU",
        f"{len(PRESENT)} classes, which occur in {', '.join(f'{100 * p:g}' for p in PRESENT)} % of the images; unions "
        f"are gamma-distributed (shape 2); the IoU of an image is beta-distributed (a + b = {SPREAD:g}) with the rate "
        "of the class as its mean; classes differ as above.",
        mean_iou,
        300,
        50,
    ),
)
