"""Features of every patch of every window: windows of several images share the batches that a tower sees.

Images come in chunks, and no batch holds windows of two chunks: so a process that is given some of the chunks makes
the batches that one with all of them makes.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_eval.datasets.base import ImageSource
from cosmos_eval.datasets.decoders import PILLOW, Decoder
from cosmos_eval.engine.images import each_image
from cosmos_eval.engine.windows import Grid, resized, window_grid
from cosmos_eval.models.preprocess import of_channels
from cosmos_eval.profiling import timed

WAITING = 4
"""Batches' worth of windows that may wait, encoded or not, for an image before them in the dataset."""

CHUNK = 16
"""Images of a chunk, at least."""

Encode = Callable[[Tensor, list[ImageSource]], Tensor]
"""(B, H, W, 3) uint8 windows and the image of each -> (B, h, w, D) features of unit length."""


def chunk_size(batch_size: int) -> int:
    """Images of a chunk. As an image has several windows (six of VOC's usual size), one in some ten batches is a
    smaller one."""
    return max(CHUNK, batch_size)


@dataclass(frozen=True)
class Dense:
    """The patch features of one image.

    `index` is its place in the dataset, `original` its height and width before it was resized; `grid` lies over the
    resized image.
    """

    index: int
    original: tuple[int, int]
    grid: Grid
    features: Tensor
    """(rows, columns, h, w, D) float32 of unit length, on the engine's device: window, then patch."""
    pixels: Tensor | None = None
    """(3, H, W) float32, the resized image normalised as the tower saw it; where it was asked for."""


@dataclass
class _Open:
    """An image whose windows are not all encoded yet."""

    index: int
    original: tuple[int, int]
    grid: Grid
    pixels: Tensor  # (H, W, 3) uint8
    features: dict[int, Tensor] = field(default_factory=dict)
    """By the place of the window."""

    @property
    def missing(self) -> int:
        return self.grid.windows - len(self.features)

    @property
    def shape(self) -> tuple[int, int]:
        return self.grid.crop_height, self.grid.crop_width


def dense_features(
    images: Sequence[ImageSource],
    settings: Mapping[str, Any],
    batch_size: int,
    workers: int,
    encode: Encode,
    normalised: Callable[[Tensor], Tensor] | None = None,
    decoder: Decoder = PILLOW,
) -> Iterator[Dense]:
    """The patch features of each image, in the order given.

    Windows of equal shape share batches, across images, of exactly `batch_size`. A smaller batch runs at the end of a
    chunk, and for an image that holds up more than `WAITING` batches' worth of later windows; so batches depend on the
    order of the images and on `batch_size` only.

    Args:
        images: of any sizes.
        settings: `short_side`, `long_side`, `crop` and `stride` of `cosmos_eval.tasks.segmentation.settings.SETTINGS`.
        batch_size: windows of a batch.
        workers: processes that decode and resize; 0 does it in this one.
        encode: the tower.
        normalised: makes `Dense.pixels` of (H, W, 3) uint8; not kept without it.
        decoder: of the images.

    Raises:
        RequestError: an image that cannot be read or decoded, and what `encode` refuses.
    """
    resize = partial(_resize, short_side=settings["short_side"], long_side=settings["long_side"])
    queues: dict[tuple[int, int], deque[tuple[_Open, int]]] = {}
    opened: deque[_Open] = deque()
    held = 0  # windows of all open images
    chunk = chunk_size(batch_size)

    def run(queue: deque[tuple[_Open, int]]) -> None:
        members = [queue.popleft() for _ in range(min(batch_size, len(queue)))]
        windows = torch.stack([_window(image, place) for image, place in members])
        rows = encode(windows, [images[image.index] for image, _ in members])
        for (image, place), row in zip(members, rows, strict=True):
            image.features[place] = row

    def finished() -> Iterator[Dense]:
        nonlocal held
        while opened and not opened[0].missing:
            first = opened.popleft()
            held -= first.grid.windows
            yield _dense(first, normalised)

    for index, (pixels, original) in enumerate(timed(each_image(images, resize, workers, decoder), "waiting")):
        grid = window_grid(pixels.shape[0], pixels.shape[1], settings["crop"], settings["stride"])
        image = _Open(index, original, grid, pixels)
        opened.append(image)
        held += grid.windows
        queue = queues.setdefault(image.shape, deque())
        queue.extend((image, place) for place in range(grid.windows))
        while len(queue) >= batch_size:
            run(queue)
        yield from finished()
        ends_chunk = (index + 1) % chunk == 0 or index + 1 == len(images)
        while opened and (ends_chunk or held - opened[0].grid.windows > WAITING * batch_size):
            run(queues[opened[0].shape])
            yield from finished()


def _resize(image: Image.Image, short_side: int | None, long_side: int) -> tuple[Tensor, tuple[int, int]]:
    """What a worker makes of an image: resized pixels (H, W, 3) uint8, and its height and width before."""
    return torch.from_numpy(resized(image, short_side, long_side).copy()), (image.height, image.width)


def _window(image: _Open, place: int) -> Tensor:
    grid = image.grid
    top, left = grid.tops[place // len(grid.lefts)], grid.lefts[place % len(grid.lefts)]
    return image.pixels[top : top + grid.crop_height, left : left + grid.crop_width]


def _dense(image: _Open, normalised: Callable[[Tensor], Tensor] | None) -> Dense:
    grid = image.grid
    features = torch.stack([image.features[place] for place in range(grid.windows)])
    features = features.reshape(len(grid.tops), len(grid.lefts), *features.shape[1:])
    pixels = normalised(image.pixels[None])[0] if normalised else None
    return Dense(image.index, image.original, grid, features, pixels)


@dataclass(frozen=True)
class Normalise:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32 on the device, by mean and standard deviation of the channels."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    device: torch.device

    @classmethod
    def of(cls, model: Any, device: torch.device) -> "Normalise":
        """As the model's own preprocessing does it.

        Raises:
            RequestError: the model does not say by which mean and standard deviation.
        """
        mean, std = (getattr(model.preprocess, name, None) for name in ("mean", "std"))
        if mean is None or std is None:
            raise RequestError(
                f"{model.spec}: its preprocess has no mean and std, so windows cannot be normalised; "
                "give it both (three numbers each, for pixels from 0 to 1)"
            )
        mean, std = (tuple(float(v) for v in values) for values in (mean, std))
        return cls(mean, std, device)

    def __call__(self, windows: Tensor) -> Tensor:
        x = windows.to(self.device, non_blocking=True).permute(0, 3, 1, 2).to(torch.float32)
        mean, std = (of_channels(v, self.device) * 255 for v in (self.mean, self.std))
        return ((x - mean) / std).contiguous()
