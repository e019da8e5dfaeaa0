"""Training samples of toybox: rendered when they are read, or all at once and kept in memory."""

from collections.abc import Callable, Sequence
from typing import overload

import numpy as np

from cosmos_eval.datasets.toybox.captioning import record
from cosmos_eval.datasets.toybox.drawing import render
from cosmos_eval.datasets.toybox.scenes import make_scene

TrainingSample = tuple[str, np.ndarray, dict[str, list[str]]]
"""Key, image (size, size, 3) uint8, DreamLIP record."""


class TrainRecords(Sequence[TrainingSample]):
    """The first n scenes of a split and seed as samples, each rendered when it is read, or once by `render_all`."""

    def __init__(self, seed: int, n: int, size: int = 64, split: str = "train") -> None:
        self.seed, self.n, self.size, self.split = seed, n, size, split
        self._rendered: list[TrainingSample] | None = None

    def __len__(self) -> int:
        return self.n

    @overload
    def __getitem__(self, index: int) -> TrainingSample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[TrainingSample]: ...
    def __getitem__(self, index: int | slice) -> TrainingSample | Sequence[TrainingSample]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self.n))]
        if not -self.n <= index < self.n:
            raise IndexError(f"sample {index} of {self.n}")
        return self._rendered[index] if self._rendered is not None else self._make_sample(index % self.n)

    def render_all(self, on_done: Callable[[int], None] | None = None) -> "TrainRecords":
        """Render every scene now and keep it in memory (12 kB each at 64 pixels).

        Args:
            on_done: called after every 100 scenes with the number of scenes rendered since the last call.
        """
        rendered = []
        for index in range(self.n):
            rendered.append(self._make_sample(index))
            if on_done is not None and ((index + 1) % 100 == 0 or index + 1 == self.n):
                on_done(index % 100 + 1)
        self._rendered = rendered
        return self

    def _make_sample(self, index: int) -> TrainingSample:
        scene = make_scene(self.seed, self.split, index)
        return scene.key, render(scene, self.size), record(scene)


def train_records(seed: int, n: int, size: int = 64, on_done: Callable[[int], None] | None = None) -> TrainRecords:
    """Return n training samples (key, image (size, size, 3) uint8, record); 35 % of the scenes have a single object.

    A sample is rendered when it is read, in 0.3 ms. With `on_done` all are rendered now; it is called after every 100
    with their number.
    """
    records = TrainRecords(seed, n, size)
    return records if on_done is None else records.render_all(on_done)
