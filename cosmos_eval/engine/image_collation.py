"""What a worker sends of images: pixels or an error; batches of them, and batches that are joined from parts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


@dataclass(frozen=True)
class LoadError:
    """The message of a RequestError in a worker process.

    A worker returns it as a value. If the worker raised the error, the DataLoader would put the worker's traceback into
    its message; this way, the message is one line and the same with and without workers.
    """

    line: str


class NoRoom(LoadError):
    """The message of a worker whose batch does not fit in shared memory."""


class Loaded(NamedTuple):
    """A preprocessed image, or a batch of them, and the seconds that a worker spent on it."""

    key: str
    """The key of the image, or of the first image of the batch."""
    pixels: Any
    decode_seconds: float
    preprocess_seconds: float


def collate_images(items: list[Loaded | LoadError], lengths_differ: bool = False) -> Loaded | LoadError:
    """Stack the images of a batch; the first error among them, if any, is the result instead.

    Args:
        lengths_differ: what `preprocess` returns is one-dimensional, and shorter tensors are padded with zeros.
    """
    loaded: list[Loaded] = []
    for item in items:
        if isinstance(item, LoadError):
            return item
        loaded.append(item)
    first_key, first_pixels = loaded[0].key, loaded[0].pixels
    seconds = sum(item.decode_seconds for item in loaded), sum(item.preprocess_seconds for item in loaded)
    if lengths_differ:
        return Loaded(first_key, pad_sequence([item.pixels for item in loaded], batch_first=True), *seconds)
    for item in loaded:
        if item.pixels.shape != first_pixels.shape or item.pixels.dtype != first_pixels.dtype:
            return ShapesDiffer(item.key, _shape_and_type(item.pixels), first_key, _shape_and_type(first_pixels))
    return Loaded(first_key, torch.stack([item.pixels for item in loaded]), *seconds)


@dataclass(frozen=True)
class ShapesDiffer(LoadError):
    """The message for an image whose pixels have another shape or type than those of the first one."""

    line: str = field(init=False)
    key: str
    pixels: str
    """Shape and type."""
    first_key: str
    first_pixels: str

    def __post_init__(self) -> None:
        line = (
            f"image {self.key}: the model's preprocess returned {self.pixels} for it and {self.first_pixels} for image "
            f"{self.first_key}; return one shape and type for all images"
        )
        object.__setattr__(self, "line", line)


def tensor_bytes(value: Any) -> int:
    """Return the bytes of a tensor, or of the tensors in nested tuples or lists."""
    if isinstance(value, tuple | list):
        return sum(map(tensor_bytes, value))
    return value.nbytes if isinstance(value, Tensor) else 0


def _shape_and_type(x: Tensor) -> str:
    return f"{'x'.join(map(str, x.shape))} {str(x.dtype).removeprefix('torch.')}"


def divide_batches(images: int, batch: int, part: int) -> list[list[range]]:
    """Return the positions of the images of each part of each batch."""
    batches = [range(start, min(start + batch, images)) for start in range(0, images, batch)]
    return [[members[i : i + part] for i in range(0, len(members), part)] for members in batches]


def join_parts(
    parts: Iterator[Loaded | LoadError], counts: Sequence[int], pin_memory: bool
) -> Iterator[Loaded | LoadError]:
    """Join the parts of each batch; `counts` has the number of parts of each. The first error is a batch's result."""
    for count in counts:
        loaded = list(islice(parts, count))
        yield _collate_parts(loaded, pin_memory)


def _collate_parts(parts: list[Loaded | LoadError], pin_memory: bool) -> Loaded | LoadError:
    loaded: list[Loaded] = []
    for part in parts:
        if isinstance(part, LoadError) and not (isinstance(part, ShapesDiffer) and loaded):
            return part
        # All parts are compared with the first image of the batch, as the images of a whole batch are.
        if isinstance(part, Loaded):
            described = [(part.key, _shape_and_type(part.pixels[0]))]
        else:
            described = [(part.first_key, part.first_pixels), (part.key, part.pixels)]
        first = loaded[0].key if loaded else described[0][0]
        first_pixels = _shape_and_type(loaded[0].pixels[0]) if loaded else described[0][1]
        for key, pixels in described:
            if pixels != first_pixels:
                return ShapesDiffer(key, pixels, first, first_pixels)
        assert isinstance(part, Loaded)
        loaded.append(part)
    seconds = sum(part.decode_seconds for part in loaded), sum(part.preprocess_seconds for part in loaded)
    tensors: list[Tensor] = [part.pixels for part in loaded]
    joined = None
    if pin_memory:  # joined there: a copy of the whole batch afterwards would hold up the launching of kernels
        shape = (sum(map(len, tensors)), *tensors[0].shape[1:])
        joined = torch.empty(shape, dtype=tensors[0].dtype, pin_memory=True)
    return Loaded(loaded[0].key, torch.cat(tensors, out=joined), *seconds)
