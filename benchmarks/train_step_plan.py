"""Sizes of `train_step.py`. Nothing here imports torch."""

from dataclasses import dataclass
from typing import Any

TOLERANCE = 1e-4
"""Largest difference that is allowed: of losses relative to the loss, of gradients relative to the whole norm."""


@dataclass(frozen=True)
class ViewCounts:
    """Numbers of views of a sample, and of samples on each rank; the first two images and texts are global views."""

    images: int
    texts: int
    batch: int

    @property
    def label(self) -> str:
        return f"{self.images} + {self.texts} views, {self.batch} samples per rank"


@dataclass(frozen=True)
class TrainStepPlan:
    """What is measured with every number of processes."""

    loss: ViewCounts
    width: int
    """Dimension of the features in the loss."""
    steps: tuple[ViewCounts, ...]
    loss_repetitions: int
    """With the largest number of processes; with fewer processes there are proportionally more repetitions."""
    step_repetitions: int
    model: Any = "toybox"
    """Configuration of the network in the whole step, or its name."""
    counted: tuple[tuple[int, int], ...] = ((2, 2), (4, 4), (8, 8))
    """(image views, captions) for which collectives are counted with the largest number of processes."""
    gathers: tuple[str, ...] = ("without_gradient", "with_gradient", "local")
    """The methods of the peer to gather features; see `peers/plain_loss.py`."""
    largest: int = 4
    """The largest number of processes."""


FULL = TrainStepPlan(
    loss=ViewCounts(8, 8, 32),
    width=512,
    steps=(ViewCounts(4, 4, 32), ViewCounts(8, 8, 8)),
    loss_repetitions=11,
    step_repetitions=11,
)
QUICK = TrainStepPlan(
    loss=ViewCounts(8, 8, 32),
    width=512,
    steps=(ViewCounts(4, 4, 16), ViewCounts(8, 8, 4)),
    loss_repetitions=3,
    step_repetitions=3,
    counted=((2, 2), (8, 8)),
    gathers=("without_gradient", "local"),
)
