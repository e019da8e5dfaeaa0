"""Training scenes: drawn when asked for, or all at once and kept."""

from collections.abc import Callable, Sequence
from typing import overload

import numpy as np

from cosmos_eval.datasets.toybox.drawing import render
from cosmos_eval.datasets.toybox.scenes import make_scene
from cosmos_eval.datasets.toybox.sentences import record

Sample = tuple[str, np.ndarray, dict[str, list[str]]]
"""Key, image (size, size, 3) uint8, DreamLIP record."""


class TrainRecords(Sequence[Sample]):
    """The first n scenes of a seed in a split, each rendered when it is read, or all kept after `render_all`."""

    def __init__(self, seed: int, n: int, size: int = 64, split: str = "train") -> None:
        self.seed, self.n, self.size, self.split = seed, n, size, split
        self._kept: list[Sample] | None = None

    def __len__(self) -> int:
        return self.n

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self.n))]
        if not -self.n <= index < self.n:
            raise IndexError(f"sample {index} of {self.n}")
        return self._kept[index] if self._kept is not None else self._make(index % self.n)

    def render_all(self, on_done: Callable[[int], None] | None = None) -> "TrainRecords":
        """Render every scene now (12 kB each at 64 pixels) and keep them; `on_done` is told of every 100."""
        kept = []
        for index in range(self.n):
            kept.append(self._make(index))
            if on_done is not None and ((index + 1) % 100 == 0 or index + 1 == self.n):
                on_done(index % 100 + 1)
        self._kept = kept
        return self

    def _make(self, index: int) -> Sample:
        scene = make_scene(self.seed, self.split, index)
        return scene.key, render(scene, self.size), record(scene)


def train_records(seed: int, n: int, size: int = 64, on_done: Callable[[int], None] | None = None) -> TrainRecords:
    """n training scenes as (key, image (size, size, 3) uint8, record); 35 % of them hold a single object.

    Rendered when read, 0.3 ms each; with `on_done` all are rendered now and `on_done` is told how many more are done.
    """
    records = TrainRecords(seed, n, size)
    return records if on_done is None else records.render_all(on_done)
