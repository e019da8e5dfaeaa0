"""Simulated samples of two models with a known true drop, on which `regress_calibration.py` checks `regress`.

A simulation draws samples of both models for a given true drop. The simulations are cases in which a test may fail:
captions that share an image, images of very unequal size, fractional hits, failures or wins so rare that a sample
misses them, few units, classes of unequal size, mean IoU with rare classes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from cosmos_eval.metrics.iou import PixelCounts
from cosmos_eval.metrics.paired_drop import mean_per_class_weights
from cosmos_eval.metrics.paired_samples import Hits

Rng = np.random.Generator


@dataclass(frozen=True)
class PairedSimulation:
    """A method to draw samples of two models, and the `max_drop` of the test."""

    name: str
    units: int
    max_drop: float
    draw: Callable[[Rng, int, float], Hits]
    """Function of a generator, the number of units, and the true drop."""

    def samples(self, rng: Rng, drop: float) -> Hits:
        return self.draw(rng, self.units, drop)


def outcomes(rng: Rng, n: int, loss: np.ndarray | float, win: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """Return (n,) boolean hits of baseline and candidate.

    A sample is lost or won with these probabilities; of the other samples, both models get one half right.
    """
    u, both = rng.random(n), rng.random(n) < 0.5
    lost, won = u < loss, (u >= loss) & (u < loss + win)
    return (both & ~won) | lost, (both & ~lost) | won


def independent(churn: float) -> Callable[[Rng, int, float], Hits]:
    """Independent samples; without a drop, the fraction `churn` is lost and the same fraction won."""

    def draw(rng: Rng, units: int, drop: float) -> Hits:
        baseline, candidate = outcomes(rng, units, churn + drop, churn)
        return Hits(baseline.astype(float), candidate.astype(float), np.arange(units))

    return draw


def captions(
    churn: float, each: int = 5, correlated: float = 0.6, fractions: bool = False
) -> Callable[[Rng, int, float], Hits]:
    """`each` captions per image; in the fraction `correlated` of the images, all captions equal the first one.

    With `fractions`, a change is a quarter, a half or a whole hit, as for expectations under ties.
    """

    def draw(rng: Rng, units: int, drop: float) -> Hits:
        n, unit = units * each, np.repeat(np.arange(units), each)
        size = rng.choice([0.25, 0.5, 1.0], n) if fractions else np.ones(n)
        factor = 12 / 7 if fractions else 1.0  # 1 / (mean size of a change)
        baseline, candidate = outcomes(rng, n, factor * (churn + drop), factor * churn)
        is_correlated = (rng.random(units) < correlated)[unit]
        first = unit * each
        baseline, candidate, size = (
            np.where(is_correlated, values[first], values) for values in (baseline, candidate, size)
        )
        change = (baseline.astype(float) - candidate) * size
        return Hits(np.where(change > 0, change, 0.0), np.where(change < 0, -change, 0.0), unit)

    return draw


def unequal(churn: float, largest: int = 30) -> Callable[[Rng, int, float], Hits]:
    """Images with 1 to `largest` items, most with few. All items of an image change together, large ones more often."""

    def draw(rng: Rng, units: int, drop: float) -> Hits:
        sizes = np.arange(1, largest + 1)
        probability = 1 / sizes**1.5
        probability /= probability.sum()
        size = rng.choice(sizes, units, p=probability)
        mean, square = (probability * sizes).sum(), (probability * sizes**2).sum()
        loss = np.minimum(churn + drop * size * mean / square, 1 - churn)
        baseline, candidate = outcomes(rng, units, loss, churn)
        unit = np.repeat(np.arange(units), size)
        return Hits(baseline[unit].astype(float), candidate[unit].astype(float), unit)

    return draw


def rare_wins(rate: float) -> Callable[[Rng, int, float], Hits]:
    """One in 1 / `rate` samples wins a whole hit and all others lose a little, so most draws contain only losses."""

    def draw(rng: Rng, units: int, drop: float) -> Hits:
        little = (drop + rate) / (1 - rate)
        won = rng.random(units) < rate
        baseline = np.where(won, 0.0, 0.5 + little / 2)
        return Hits(baseline, np.where(won, 1.0, 0.5 - little / 2), np.arange(units))

    return draw


def classes(churn: float, number: int = 20) -> Callable[[Rng, int, float], Hits]:
    """A mean over classes whose sizes differ by a factor of twenty; only every second class has the drop."""

    def draw(rng: Rng, units: int, drop: float) -> Hits:
        size = 1 / np.arange(1, number + 1)
        label = np.concatenate([np.arange(number), rng.choice(number, units - number, p=size / size.sum())])
        baseline, candidate = outcomes(rng, units, churn + np.where(label % 2, 2 * drop, 0.0), churn)
        return Hits(baseline.astype(float), candidate.astype(float), np.arange(units), mean_per_class_weights(label))

    return draw


SIMULATIONS = (
    PairedSimulation("independent, 0 or 1", 20, 0.0, independent(0.1)),
    PairedSimulation("independent, 0 or 1", 200, 0.0, independent(0.05)),
    PairedSimulation("independent, 0 or 1", 2000, 0.0, independent(0.03)),
    PairedSimulation("independent, 0 or 1", 200, 0.01, independent(0.05)),
    PairedSimulation("independent, 0 or 1", 2000, 0.01, independent(0.03)),
    PairedSimulation("independent, 0 or 1", 100, 0.05, independent(0.02)),
    PairedSimulation("rare failures, no wins", 200, 0.005, independent(0.0)),
    PairedSimulation("rare failures, no wins", 2000, 0.002, independent(0.0)),
    PairedSimulation("rare wins, all others lose a little", 40, 0.0, rare_wins(0.02)),
    PairedSimulation("rare wins, all others lose a little", 200, 0.01, rare_wins(0.01)),
    PairedSimulation("5 captions per image", 6, 0.0, captions(0.15)),
    PairedSimulation("5 captions per image", 10, 0.02, captions(0.15)),
    PairedSimulation("5 captions per image", 100, 0.0, captions(0.05)),
    PairedSimulation("5 captions per image", 1000, 0.0, captions(0.05)),
    PairedSimulation("5 captions per image", 1000, 0.01, captions(0.05)),
    PairedSimulation("5 captions per image, fractions", 30, 0.01, captions(0.1, fractions=True)),
    PairedSimulation("5 captions per image, fractions", 300, 0.0, captions(0.05, fractions=True)),
    PairedSimulation("5 captions per image, fractions", 1000, 0.01, captions(0.05, fractions=True)),
    PairedSimulation("1 to 30 items per image", 50, 0.0, unequal(0.1)),
    PairedSimulation("1 to 30 items per image", 400, 0.01, unequal(0.05)),
    PairedSimulation("1 to 30 items per image", 1000, 0.0, unequal(0.02)),
    PairedSimulation("mean over 20 unequal classes", 300, 0.0, classes(0.05)),
    PairedSimulation("mean over 20 unequal classes", 1000, 0.02, classes(0.05)),
)


@dataclass(frozen=True)
class SegmentationSimulation:
    """Segmentation of images with three classes of unequal area, whose quality is correlated between the models.

    The true drop cannot be set directly. It follows from the quality of the candidate and is estimated from many
    images.
    """

    name: str
    images: int
    classes: int
    rare: bool = False
    """The frequency of class c is proportional to 1 / c."""
    odd: float = 0.0
    """The fraction of images in which the candidate is right everywhere and the baseline nowhere."""
    baseline: float = 1.0
    candidate: float = 0.7
    """Quality of each model: the logit of the fraction of a class's pixels that the model predicts."""
    truth: dict[float, float] = field(default_factory=dict, compare=False)
    """Cache of `true_drop`, by the quality of the candidate."""

    def areas(self, rng: Rng, images: int, candidate: float) -> tuple[np.ndarray, np.ndarray]:
        """Draw (U, C, 3) areas of intersection, prediction and label, for baseline and candidate."""
        kinds = min(3, self.classes)
        weight = 1 / np.arange(1, self.classes + 1) if self.rare else np.ones(self.classes)
        order = np.log(weight) + rng.gumbel(size=(images, self.classes))
        label = np.argpartition(-order, kinds - 1, axis=1)[:, :kinds]
        area = np.ceil(1000 * rng.dirichlet(np.ones(kinds), images) * rng.gamma(3, 1 / 3, (images, 1)))
        common, row = rng.normal(size=area.shape), np.arange(images)  # `common` correlates the two models
        odd = rng.random((images, 1)) < self.odd
        drawn = []
        for quality, recall_if_odd in ((self.baseline, 0.0), (candidate, 1.0)):
            noise = 0.6 * common + 0.8 * rng.normal(size=area.shape)
            recall = np.where(odd, recall_if_odd, 1 / (1 + np.exp(-(quality + 1.5 * noise))))
            intersection = np.floor(area * recall)
            areas = np.zeros((images, self.classes, 3))
            areas[row[:, None], label] = np.stack([intersection, intersection, area], axis=2)
            for k in range(kinds):  # missed pixels are predicted as a random class
                areas[row, rng.integers(0, self.classes, images), 1] += area[:, k] - intersection[:, k]
            drawn.append(areas)
        return drawn[0], drawn[1]

    def true_drop(self, candidate: float, images: int = 30_000) -> float:
        """Return the drop of the mean IoU over very many images."""
        if candidate not in self.truth:
            both = self.areas(np.random.default_rng(1), images, candidate)
            self.truth[candidate] = mean_iou(both[0]) - mean_iou(both[1])
        return self.truth[candidate]

    def with_drop(self, drop: float) -> "SegmentationSimulation":
        """Return the simulation with a candidate whose true drop is `drop`."""
        qualities = [-8.0, *np.linspace(-4.0, 4.0, 33).tolist()]
        drops = [self.true_drop(quality) for quality in qualities]
        return replace(self, candidate=float(np.interp(-drop, [-value for value in drops], qualities)), truth={})


SEGMENTATIONS = (
    SegmentationSimulation("mean IoU of 4 classes", 20, 4),
    SegmentationSimulation("mean IoU of 9 classes", 100, 9),
    SegmentationSimulation("mean IoU of 9 classes", 400, 9),
    SegmentationSimulation("mean IoU of 40 classes, most rare", 300, 40, rare=True),
    SegmentationSimulation("mean IoU of 9 classes, rare wins", 100, 9, odd=0.02),
    SegmentationSimulation("mean IoU of 9 classes, rare wins", 400, 9, odd=0.01),
)


def entries(areas: np.ndarray) -> PixelCounts:
    """Convert (U, C, 3) areas to the entries of the classes that are present."""
    image, label = np.nonzero(areas[:, :, 1] + areas[:, :, 2])
    return PixelCounts(image, label, areas[image, label].astype(np.int64), areas.shape[1])


def mean_iou(areas: np.ndarray) -> float:
    """Return the mean IoU of (U, C, 3) areas."""
    intersection, predicted, labelled = areas.sum(0).T
    union = predicted + labelled - intersection
    return float((intersection[union > 0] / union[union > 0]).mean())
