"""Worlds in which the true drop between two models is known: what the tests of `regress` are tried on.

A world makes samples of both models for a true drop that it is told, as often as one likes. They are those that a
test may stumble over: captions that share an image, images of very unequal size, hits that are fractions, failures
or wins so rare that a sample misses them, few units, classes of unequal size, mean IoU with rare classes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from cosmos_eval.metrics.areas import PresentAreas
from cosmos_eval.metrics.paired import class_weights
from cosmos_eval.metrics.paired_samples import Hits

Rng = np.random.Generator


@dataclass(frozen=True)
class World:
    """A way to draw samples, at a `max_drop`."""

    name: str
    units: int
    max_drop: float
    draw: Callable[[Rng, int, float], Hits]
    """From a generator, the number of units, and the true drop."""

    def samples(self, rng: Rng, drop: float) -> Hits:
        return self.draw(rng, self.units, drop)


def outcomes(rng: Rng, n: int, loss: np.ndarray | float, win: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """(n,) hits of 0 and 1 of both models, lost and won with these chances; of the rest one half is right in both."""
    u, both = rng.random(n), rng.random(n) < 0.5
    lost, won = u < loss, (u >= loss) & (u < loss + win)
    return (both & ~won) | lost, (both & ~lost) | won


def alone(churn: float) -> Callable[[Rng, int, float], Hits]:
    """Samples that stand alone; the share `churn` changes each way without any drop."""

    def draw(rng: Rng, units: int, drop: float) -> Hits:
        baseline, candidate = outcomes(rng, units, churn + drop, churn)
        return Hits(baseline.astype(float), candidate.astype(float), np.arange(units))

    return draw


def captions(
    churn: float, each: int = 5, together: float = 0.6, fractions: bool = False
) -> Callable[[Rng, int, float], Hits]:
    """`each` captions an image; in the share `together` of the images all of them do as the first one does.

    With `fractions`, a change is by a quarter, a half or a whole hit, as ties in expectation give it.
    """

    def draw(rng: Rng, units: int, drop: float) -> Hits:
        n, unit = units * each, np.repeat(np.arange(units), each)
        size = rng.choice([0.25, 0.5, 1.0], n) if fractions else np.ones(n)
        factor = 12 / 7 if fractions else 1.0  # one over the mean size of a change
        lost, kept = outcomes(rng, n, factor * (churn + drop), factor * churn)
        as_first = (rng.random(units) < together)[unit]
        first = unit * each
        lost, kept, size = (np.where(as_first, one[first], one) for one in (lost, kept, size))
        change = (lost.astype(float) - kept) * size
        return Hits(np.where(change > 0, change, 0.0), np.where(change < 0, -change, 0.0), unit)

    return draw


def unequal(churn: float, largest: int = 30) -> Callable[[Rng, int, float], Hits]:
    """Images with 1 to `largest` items, most with few; the larger one is, the likelier all of it is lost."""

    def draw(rng: Rng, units: int, drop: float) -> Hits:
        kinds = np.arange(1, largest + 1)
        chance = 1 / kinds**1.5
        chance /= chance.sum()
        size = rng.choice(kinds, units, p=chance)
        mean, square = (chance * kinds).sum(), (chance * kinds**2).sum()
        lost, kept = outcomes(rng, units, np.minimum(churn + drop * size * mean / square, 1 - churn), churn)
        unit = np.repeat(np.arange(units), size)
        return Hits(lost[unit].astype(float), kept[unit].astype(float), unit)

    return draw


def rare_wins(rate: float) -> Callable[[Rng, int, float], Hits]:
    """Every sample loses a little, and one in 1 / `rate` wins a whole hit: most draws see the losses only."""

    def draw(rng: Rng, units: int, drop: float) -> Hits:
        little = (drop + rate) / (1 - rate)
        won = rng.random(units) < rate
        baseline = np.where(won, 0.0, 0.5 + little / 2)
        return Hits(baseline, np.where(won, 1.0, 0.5 - little / 2), np.arange(units))

    return draw


def classes(churn: float, number: int = 20) -> Callable[[Rng, int, float], Hits]:
    """A mean over classes whose sizes differ twentyfold and are drawn anew; the drop is all in every second class."""

    def draw(rng: Rng, units: int, drop: float) -> Hits:
        chance = 1 / np.arange(1, number + 1)
        label = np.concatenate([np.arange(number), rng.choice(number, units - number, p=chance / chance.sum())])
        lost, kept = outcomes(rng, units, churn + np.where(label % 2, 2 * drop, 0.0), churn)
        return Hits(lost.astype(float), kept.astype(float), np.arange(units), class_weights(label))

    return draw


WORLDS = (
    World("alone, 0 or 1", 20, 0.0, alone(0.1)),
    World("alone, 0 or 1", 200, 0.0, alone(0.05)),
    World("alone, 0 or 1", 2000, 0.0, alone(0.03)),
    World("alone, 0 or 1", 200, 0.01, alone(0.05)),
    World("alone, 0 or 1", 2000, 0.01, alone(0.03)),
    World("alone, 0 or 1", 100, 0.05, alone(0.02)),
    World("rare failures, nothing won", 200, 0.005, alone(0.0)),
    World("rare failures, nothing won", 2000, 0.002, alone(0.0)),
    World("rare wins, all others lose a little", 40, 0.0, rare_wins(0.02)),
    World("rare wins, all others lose a little", 200, 0.01, rare_wins(0.01)),
    World("5 captions an image", 6, 0.0, captions(0.15)),
    World("5 captions an image", 10, 0.02, captions(0.15)),
    World("5 captions an image", 100, 0.0, captions(0.05)),
    World("5 captions an image", 1000, 0.0, captions(0.05)),
    World("5 captions an image", 1000, 0.01, captions(0.05)),
    World("5 captions an image, fractions", 30, 0.01, captions(0.1, fractions=True)),
    World("5 captions an image, fractions", 300, 0.0, captions(0.05, fractions=True)),
    World("5 captions an image, fractions", 1000, 0.01, captions(0.05, fractions=True)),
    World("1 to 30 items an image", 50, 0.0, unequal(0.1)),
    World("1 to 30 items an image", 400, 0.01, unequal(0.05)),
    World("1 to 30 items an image", 1000, 0.0, unequal(0.02)),
    World("mean over 20 unequal classes", 300, 0.0, classes(0.05)),
    World("mean over 20 unequal classes", 1000, 0.02, classes(0.05)),
)


@dataclass(frozen=True)
class Scenes:
    """Segmentations: images of three classes each, of unequal area, whose quality in both models goes together.

    `drop` is no number that one can set: it follows from the candidate's quality and is read from many images.
    """

    name: str
    images: int
    classes: int
    rare: bool = False
    """The share of class c falls as 1 / c."""
    odd: float = 0.0
    """The share of images in which the candidate has all right and the baseline nothing."""
    baseline: float = 1.0
    candidate: float = 0.7
    """Quality, as the logit of the share of a class's pixels that are found."""
    truth: dict[float, float] = field(default_factory=dict, compare=False)

    def areas(self, rng: Rng, images: int, candidate: float) -> tuple[np.ndarray, np.ndarray]:
        """(U, C, 3) intersection, prediction and label of baseline and candidate."""
        kinds = min(3, self.classes)
        weight = 1 / np.arange(1, self.classes + 1) if self.rare else np.ones(self.classes)
        order = np.log(weight) + rng.gumbel(size=(images, self.classes))
        label = np.argpartition(-order, kinds - 1, axis=1)[:, :kinds]
        area = np.ceil(1000 * rng.dirichlet(np.ones(kinds), images) * rng.gamma(3, 1 / 3, (images, 1)))
        common, row = rng.normal(size=area.shape), np.arange(images)
        odd = rng.random((images, 1)) < self.odd
        made = []
        for quality, share_of_odd in ((self.baseline, 0.0), (candidate, 1.0)):
            own = 0.6 * common + 0.8 * rng.normal(size=area.shape)
            found = np.where(odd, share_of_odd, 1 / (1 + np.exp(-(quality + 1.5 * own))))
            inside = np.floor(area * found)
            areas = np.zeros((images, self.classes, 3))
            areas[row[:, None], label] = np.stack([inside, inside, area], axis=2)
            for k in range(kinds):
                np.add.at(areas, (row, rng.integers(0, self.classes, images), 1), area[:, k] - inside[:, k])
            made.append(areas)
        return made[0], made[1]

    def true_drop(self, candidate: float, images: int = 30_000) -> float:
        """The drop of the mean IoU over very many images."""
        if candidate not in self.truth:
            both = self.areas(np.random.default_rng(1), images, candidate)
            self.truth[candidate] = mean_iou(both[0]) - mean_iou(both[1])
        return self.truth[candidate]

    def with_drop(self, drop: float) -> "Scenes":
        """With the candidate's quality such that its true drop is this."""
        qualities = [-8.0, *np.linspace(-4.0, 4.0, 33).tolist()]
        drops = [self.true_drop(quality) for quality in qualities]
        return replace(self, candidate=float(np.interp(-drop, [-one for one in drops], qualities)), truth={})


SCENES = (
    Scenes("mean IoU of 4 classes", 20, 4),
    Scenes("mean IoU of 9 classes", 100, 9),
    Scenes("mean IoU of 9 classes", 400, 9),
    Scenes("mean IoU of 40 classes, most rare", 300, 40, rare=True),
    Scenes("mean IoU of 9 classes, rare wins", 100, 9, odd=0.02),
    Scenes("mean IoU of 9 classes, rare wins", 400, 9, odd=0.01),
)


def entries(areas: np.ndarray) -> PresentAreas:
    image, label = np.nonzero(areas[:, :, 1] + areas[:, :, 2])
    return PresentAreas(image, label, areas[image, label].astype(np.int64), areas.shape[1])


def mean_iou(areas: np.ndarray) -> float:
    inside, predicted, labelled = areas.sum(0).T
    union = predicted + labelled - inside
    return float((inside[union > 0] / union[union > 0]).mean())
