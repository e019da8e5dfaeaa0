"""Patch features of sliding windows, for segmentation: how windows of several images form batches.

An image has several windows (six at the usual size of VOC), which seldom fill a batch. So windows of consecutive images
share batches: each window is put in a queue with the windows of the same shape, and whenever a queue holds `batch_size`
windows, they form a batch. An image is finished when all its windows are encoded, and images are returned in the order
of the dataset.

Two rules end a queue with a smaller batch. Both depend on the order of the images and the batch size only:

- The end of a chunk. Images come in chunks of `chunk_size` images, and no batch holds windows of two chunks. So the
  batches of a chunk do not depend on the other chunks, and ranks that share the chunks form the same batches as a
  single process.
- A waiting image. If the first unfinished image has a rare shape, its queue fills slowly, while later images are
  finished but cannot be returned yet. When these hold more than `MAX_WAITING_BATCHES` batches of windows, the queue of
  the first image is encoded as it is. So memory stays bounded.
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
from cosmos_eval.datasets.decoders import PILLOW, Decoder
from cosmos_eval.datasets.image_sources import ImageSource
from cosmos_eval.engine.device_copies import copy_to_device
from cosmos_eval.engine.image_loading import ReadTarget, each_image
from cosmos_eval.engine.windows import WindowGrid, resize_image, window_grid
from cosmos_eval.engine.worker_count import Workers
from cosmos_eval.models.preprocess import channel_tensor
from cosmos_eval.profiling import time_items

MAX_WAITING_BATCHES = 4
"""Windows of images after the first unfinished one, in batches: more than these do not wait for it."""

MIN_CHUNK_SIZE = 16
"""The smallest number of images in a chunk."""

Encode = Callable[[Tensor, list[ImageSource]], Tensor]
"""Windows (B, H, W, 3) uint8 and the image of each -> patch features (B, h, w, D) of unit length."""


def chunk_size(batch_size: int) -> int:
    """Return the number of images in a chunk: enough that few batches are smaller because a chunk ends.

    With six windows for each image, it is about every tenth batch.
    """
    return max(MIN_CHUNK_SIZE, batch_size)


@dataclass(frozen=True)
class DenseFeatures:
    """The patch features of one image."""

    index: int
    """Position of the image in the dataset."""
    original_size: tuple[int, int]
    """Height and width before resizing."""
    grid: WindowGrid
    """The windows, in pixels of the resized image."""
    features: Tensor
    """(rows of windows, windows of a row, h, w, D) float32 of unit length, on the engine's device; h x w patches for
    each window."""
    pixels: Tensor | None = None
    """(3, H, W) float32, the resized image, normalised as the tower sees it; None if it was not asked for."""
    target: Tensor | None = None
    """What `read_target` returned for the image, on the CPU; None without it."""


@dataclass
class _UnfinishedImage:
    """An image with windows that are not encoded yet."""

    index: int
    original_size: tuple[int, int]
    grid: WindowGrid
    pixels: Tensor  # (H, W, 3) uint8, on the engine's device
    target: Tensor | None = None
    features: dict[int, Tensor] = field(default_factory=dict)
    """Window number, row by row -> (h, w, D)."""

    @property
    def is_finished(self) -> bool:
        return len(self.features) == self.grid.window_count

    @property
    def window_shape(self) -> tuple[int, int]:
        return self.grid.crop_height, self.grid.crop_width

    def window(self, number: int) -> Tensor:
        """Return the pixels (crop height, crop width, 3) uint8 of a window."""
        grid = self.grid
        top, left = grid.tops[number // len(grid.lefts)], grid.lefts[number % len(grid.lefts)]
        return self.pixels[top : top + grid.crop_height, left : left + grid.crop_width]


def dense_features(
    images: Sequence[ImageSource],
    settings: Mapping[str, Any],
    batch_size: int,
    workers: int | Workers,
    encode: Encode,
    normalised: Callable[[Tensor], Tensor] | None = None,
    decoder: Decoder = PILLOW,
    read_target: ReadTarget | None = None,
    device: torch.device | None = None,
) -> Iterator[DenseFeatures]:
    """Yield the patch features of each image, in order; see the module's docstring for the batches.

    Args:
        images: of any sizes.
        settings: `short_side`, `long_side`, `crop` and `stride` of `cosmos_eval.tasks.segmentation.settings.SETTINGS`.
        batch_size: windows of a batch.
        workers: processes that decode and resize; 0 does it in this process.
        encode: the tower.
        normalised: computes `DenseFeatures.pixels` from (1, H, W, 3) uint8; without it, `pixels` is None.
        decoder: decodes the images.
        read_target: reads what belongs to an image, in the processes that decode.
        device: where windows are cut; default: the CPU. From page-locked memory, each image is copied there once.

    Raises:
        RequestError: an image cannot be read or decoded, or `encode` or `read_target` raises it.
    """
    device = device or torch.device("cpu")
    resize = partial(_resize, short_side=settings["short_side"], long_side=settings["long_side"])
    queues: dict[tuple[int, int], deque[tuple[_UnfinishedImage, int]]] = {}  # window shape -> image, window number
    unreturned: deque[_UnfinishedImage] = deque()  # in the order of the dataset; some of them may be finished
    unreturned_windows = 0
    images_per_chunk = chunk_size(batch_size)

    def encode_batch(queue: deque[tuple[_UnfinishedImage, int]]) -> None:
        members = [queue.popleft() for _ in range(min(batch_size, len(queue)))]
        windows = torch.stack([image.window(number) for image, number in members])
        features = encode(windows, [images[image.index] for image, _ in members])
        for (image, number), window_features in zip(members, features, strict=True):
            image.features[number] = window_features

    def return_finished() -> Iterator[DenseFeatures]:
        nonlocal unreturned_windows
        while unreturned and unreturned[0].is_finished:
            image = unreturned.popleft()
            unreturned_windows -= image.grid.window_count
            yield _dense_of(image, normalised)

    loaded = each_image(images, resize, workers, decoder, read_target, pin_memory=device.type == "cuda")
    for index, item in enumerate(time_items(loaded, "waiting")):
        (pixels, original_size), target = (item, None) if read_target is None else item
        grid = window_grid(pixels.shape[0], pixels.shape[1], settings["crop"], settings["stride"])
        image = _UnfinishedImage(index, original_size, grid, copy_to_device(pixels, device), target)
        unreturned.append(image)
        unreturned_windows += grid.window_count
        queue = queues.setdefault(image.window_shape, deque())
        queue.extend((image, number) for number in range(grid.window_count))
        while len(queue) >= batch_size:
            encode_batch(queue)
        yield from return_finished()
        is_chunk_end = (index + 1) % images_per_chunk == 0 or index + 1 == len(images)
        while unreturned and (
            is_chunk_end or unreturned_windows - unreturned[0].grid.window_count > MAX_WAITING_BATCHES * batch_size
        ):
            encode_batch(queues[unreturned[0].window_shape])
            yield from return_finished()


def _resize(image: Image.Image, short_side: int | None, long_side: int) -> tuple[Tensor, tuple[int, int]]:
    """In a worker: return the resized pixels (H, W, 3) uint8, and height and width before resizing."""
    return torch.from_numpy(resize_image(image, short_side, long_side).copy()), (image.height, image.width)


def _dense_of(image: _UnfinishedImage, normalised: Callable[[Tensor], Tensor] | None) -> DenseFeatures:
    grid = image.grid
    features = torch.stack([image.features[number] for number in range(grid.window_count)])
    features = features.reshape(len(grid.tops), len(grid.lefts), *features.shape[1:])
    pixels = normalised(image.pixels[None])[0] if normalised else None
    return DenseFeatures(image.index, image.original_size, grid, features, pixels, image.target)


@dataclass(frozen=True)
class Normalise:
    """Normalises windows (B, H, W, 3) uint8 to (B, 3, H, W) float32 on the device, by channel mean and deviation."""

    mean: tuple[float, ...]
    """Of pixel values from 0 to 1."""
    std: tuple[float, ...]
    device: torch.device

    @classmethod
    def from_model(cls, model: Any, device: torch.device) -> "Normalise":
        """Return the normalisation of the model's own preprocessing.

        Raises:
            RequestError: the model's preprocess has no `mean` and `std`.
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
        x = windows.to(self.device).permute(0, 3, 1, 2).to(torch.float32)
        mean, std = (channel_tensor(v, self.device) * 255 for v in (self.mean, self.std))
        return ((x - mean) / std).contiguous()
