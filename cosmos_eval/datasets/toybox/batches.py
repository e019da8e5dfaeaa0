"""Training scenes: drawn when asked for, or many at once into one array."""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import overload

import numpy as np

from cosmos_eval.datasets.toybox.drawing import render
from cosmos_eval.datasets.toybox.scenes import Scene, make_scene
from cosmos_eval.datasets.toybox.sentences import record

Sample = tuple[str, np.ndarray, dict[str, list[str]]]
"""Key, picture (size, size, 3) uint8, DreamLIP record."""


class TrainRecords(Sequence[Sample]):
    """The first n training scenes of a seed, each rendered when it is read. Picklable, for loaders' processes."""

    def __init__(self, seed: int, n: int, size: int = 64, split: str = "train") -> None:
        self.seed, self.n, self.size, self.split = seed, n, size, split

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
        scene = make_scene(self.seed, self.split, index % self.n)
        return scene.key, render(scene, self.size), record(scene)


def train_records(seed: int, n: int, size: int = 64) -> TrainRecords:
    """n training scenes as (key, picture (size, size, 3) uint8, record); 35 % of them hold a single object."""
    return TrainRecords(seed, n, size)


def render_many(scenes: Sequence[Scene], size: int = 64, workers: int = 1) -> np.ndarray:
    """Pictures (N, size, size, 3) uint8 of many scenes; the same whatever the number of worker processes."""
    out = np.empty((len(scenes), size, size, 3), np.uint8)
    if workers <= 1 or len(scenes) < 256:
        for i, scene in enumerate(scenes):
            out[i] = render(scene, size)
        return out
    with ProcessPoolExecutor(workers) as pool:
        for i, pixels in enumerate(pool.map(partial(render, size=size), scenes, chunksize=128)):
            out[i] = pixels
    return out
