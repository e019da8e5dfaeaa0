"""Worlds in which a share is known: what the intervals of shares are tried on.

A world draws many samples of n images at a true share, and tells of each the evidence that the command's interval is
made from, and the share in every resample.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cosmos_eval.metrics.areas import PresentAreas, area_evidence
from cosmos_eval.metrics.share_interval import Evidence, evidence_of

Rng = np.random.Generator
CAPTIONS = 5
CLASSES = 10
PRESENT = (0.9, 0.7, 0.5, 0.4, 0.3, 0.2)
"""How likely an image has each class, in the world of mean IoUs."""
SPREAD = 4.0
"""Of the beta distribution that an image's own IoU has: a + b."""
PIXELS = 10_000
Measured = tuple[list[Evidence], np.ndarray]


@dataclass(frozen=True)
class World:
    name: str
    about: str
    """How it is drawn, in a sentence."""
    measure: Callable[[Rng, int, float, int, np.ndarray], Measured]
    """From a generator, n, the share, the number of samples T and (R, n) draws: T pieces of evidence and (R, T) shares
    of the resamples."""
    trials: int
    held_from: int
    """The n from which on the bounds are asked for."""


def of_outcomes(draw: Callable[[Rng, int, float, int], np.ndarray]) -> Callable[..., Measured]:
    """A mean of outcomes, `draw` gives (T, n, captions)."""

    def measure(rng: Rng, n: int, share: float, trials: int, drawn: np.ndarray) -> Measured:
        outcomes = draw(rng, n, share, trials)
        unit = np.repeat(np.arange(n), outcomes.shape[2])
        return [evidence_of(one.ravel(), unit) for one in outcomes], drawn @ outcomes.mean(2).T / n

    return measure


def ties(rng: Rng, n: int, share: float, trials: int) -> np.ndarray:
    """1 to 4 candidates tie for the first place, each right with the probability of the share."""
    tied = rng.integers(1, 5, (trials, n))
    return (rng.binomial(tied, share) / tied)[..., None]


def captions(together: float) -> Callable[[Rng, int, float, int], np.ndarray]:
    """An image has a rate of its own, beta-distributed, such that two of its captions correlate by `together`."""

    def draw(rng: Rng, n: int, share: float, trials: int) -> np.ndarray:
        rate = np.full((trials, n, 1), share)
        if together == 1:
            rate = (rng.random((trials, n, 1)) < share).astype(np.float64)
        elif together > 0:
            size = 1 / together - 1
            rate = rng.beta(share * size, (1 - share) * size, (trials, n, 1))
        return (rng.random((trials, n, CAPTIONS)) < rate).astype(np.float64)

    return draw


def shares_of(share: float, classes: int) -> np.ndarray:
    """(C,) half of them above the mean and half of them below, by half of what there is room for."""
    return share + 0.5 * min(share, 1 - share) * np.where(np.arange(classes) % 2, 1, -1)


def per_class(rng: Rng, n: int, share: float, trials: int, drawn: np.ndarray) -> Measured:
    """A mean over classes of unequal size, each with a share of its own."""
    classes = min(CLASSES, n // 5 * 2)
    size = 1 / np.arange(1, classes + 1)
    label = np.sort(np.concatenate([np.arange(classes), np.searchsorted(
        np.cumsum(size) / size.sum(), (np.arange(n - classes) + 0.5) / (n - classes))]))  # fmt: skip
    outcomes = (rng.random((trials, n)) < shares_of(share, classes)[label]).astype(np.float64)
    found, present = np.zeros((len(drawn), trials)), np.zeros((len(drawn), 1))
    for c in range(classes):
        own = label == c
        count = drawn[:, own].sum(1, keepdims=True)
        found += np.where(count > 0, drawn[:, own] @ outcomes[:, own].T / np.maximum(count, 1), 0.0)
        present += count > 0
    return [evidence_of(one, np.arange(n), classes=label) for one in outcomes], found / present


def mean_iou(rng: Rng, n: int, share: float, trials: int, drawn: np.ndarray) -> Measured:
    """Unions are gamma-distributed, an image's own IoU in a class is beta-distributed and does not depend on them: the
    IoU of the class is its mean."""
    classes = len(PRESENT)
    means = shares_of(share, classes)
    there = rng.random((trials, n, classes)) < PRESENT
    there[:, 0] |= ~there.any(1)  # every class occurs
    whole = np.where(there, np.ceil(PIXELS * rng.gamma(2, 0.5, there.shape)), 0.0)
    inside = np.round(whole * rng.beta(SPREAD * means, SPREAD * (1 - means), there.shape))
    found, present = np.zeros((len(drawn), trials)), np.zeros((len(drawn), trials))
    for c in range(classes):
        below = drawn @ whole[..., c].T
        found += np.where(below > 0, drawn @ inside[..., c].T / np.maximum(below, 1), 0.0)
        present += below > 0
    return [area_evidence(_entries(*one), "miou") for one in zip(inside, whole, strict=True)], found / present


def _entries(inside: np.ndarray, whole: np.ndarray) -> PresentAreas:
    image, label = np.nonzero(whole)
    inside, whole = inside[image, label], whole[image, label]
    return PresentAreas(image, label, np.stack([inside, inside, whole], axis=1).astype(np.int64), len(PRESENT))


WORLDS: Sequence[World] = (
    World("Ties", str(ties.__doc__), of_outcomes(ties), 600, 10),
    *(
        World(
            f"{CAPTIONS} captions an image, correlation {together:g}",
            "n is that of images; an image has a rate of its own (beta).",
            of_outcomes(captions(together)),
            600,
            50,
        )
        for together in (0.0, 0.3, 1.0)
    ),
    World(
        "Mean per class",
        f"{CLASSES} classes (4 for n = 10, 8 for n = 20) whose sizes fall as 1 / c; every second one is better "
        "than the mean by half of the room there is, the others worse.",
        per_class,
        300,
        50,
    ),
    World(
        "Mean IoU",
        f"{len(PRESENT)} classes, in {', '.join(f'{100 * p:g}' for p in PRESENT)} % of the images; unions are gamma "
        f"(shape 2), an image's own IoU is beta (a + b = {SPREAD:g}) with the class's share as its mean; classes "
        "differ as above.",
        mean_iou,
        300,
        50,
    ),
)
