"""Images as workers made them -> their embeddings: what is copied, in which form, and the tower itself."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_eval.datasets.decoders import PIL, Decoder
from cosmos_eval.models.base import one_line, out_of_memory
from cosmos_eval.profiling import current, phase

REPEATS = 5
SECONDS = 2.0
"""The tower alone is timed so often, or as often as fits; once at least."""
FEW = 8
"""Images that tell how many a CPU encodes in that time."""


class ImageTower:
    """The image tower of a model on its device.

    Where the model's preprocessing comes in two halves (`ImagePreprocess`), workers do the first, which ends in uint8,
    and a batch is made of floats on the device: a quarter of the bytes to pass on and to copy, and the same numbers.

    Args:
        model: an adapter.
        compiled: whether torch.compile makes the tower.
        whole: how many images a compiled tower is given now, whatever a batch holds; each size would be compiled by
            itself.
    """

    def __init__(self, model: Any, compiled: bool = False, whole: Callable[[], int] = lambda: 0) -> None:
        self.device = torch.device(model.device)
        preprocess = model.preprocess
        self.in_halves = hasattr(preprocess, "pixels") and hasattr(preprocess, "normalised")
        self.of_worker: Callable[[Image.Image], Tensor] = preprocess.pixels if self.in_halves else preprocess
        """What becomes of an image before it is part of a batch; picklable."""
        self._normalised = preprocess.normalised if self.in_halves else None
        # a model that scores pairs may have none: its images are prepared here, and encoded by itself
        self._encode: Any = _compiled(model) if compiled else getattr(model, "encode_image", None)
        self._pads = compiled
        self._whole = whole

    def __call__(self, batch: Tensor) -> Tensor:
        """(B, ...) as `of_worker` makes them -> (B, D) or (B, L, D) as the model gives it."""
        profile = current()
        if profile is not None and (profile.ready is None or len(batch) > len(profile.ready)):
            profile.ready = batch
        with phase("copy"):
            x = self.input(batch)
        return self.encode(x)

    def input(self, batch: Tensor) -> Tensor:
        """What the model's `encode_image` takes, on its device."""
        x = batch.to(self.device, non_blocking=True)
        if self._normalised is not None:
            return self._normalised(x)
        return x if self.device.type == "cpu" else x.contiguous(memory_format=torch.channels_last)

    def encode(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) on the device -> (B, D) or (B, L, D)."""
        if not self._pads:
            return self._encode(x)
        return self._encode(_filled(x, self._whole()))[: len(x)]

    def rate(self, batch: Tensor) -> float:
        """Images a second on a batch that is ready on the device; on a CPU on as much of it as takes a moment."""
        x = self.input(batch)
        if self.device.type == "cpu" and not self._pads:
            few = x[:FEW]
            x = x[: max(FEW, int(SECONDS / self._seconds(few) * len(few)))]
        else:
            self._seconds(x)
        seconds: list[float] = []
        while len(seconds) < REPEATS and sum(seconds) < SECONDS:
            seconds.append(self._seconds(x))
        return len(x) / statistics.median(seconds)

    def _seconds(self, x: Tensor) -> float:
        _wait(self.device)
        start = time.perf_counter()
        self.encode(x)
        _wait(self.device)
        return time.perf_counter() - start


def decoder_for(name: str, preprocess: Any) -> Decoder:
    """The decoder of that name for images that `preprocess` is going to resize."""
    size = getattr(preprocess, "size", None)
    if isinstance(size, int):
        size = (size, size)
    return Decoder(name, size if name != PIL and isinstance(size, tuple) else None)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _filled(x: Tensor, size: int) -> Tensor:
    """With zeros behind it, and in the same order in memory: a compiled tower is made for one size and one order."""
    if len(x) >= size:
        return x
    rest = x.new_zeros(size - len(x), *x.shape[1:])
    if x.ndim == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
        rest = rest.contiguous(memory_format=torch.channels_last)
    return torch.cat([x, rest])


def _compiled(model: Any) -> Callable[[Tensor], Tensor]:
    compiled = torch.compile(model.encode_image, dynamic=False)

    def encode(x: Tensor) -> Tensor:
        try:
            return compiled(x)
        except Exception as error:
            if out_of_memory(error) or not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise
            raise RequestError(
                f"{model.spec} cannot be compiled here: {one_line(error)}; leave --compile out"
            ) from error

    return encode
