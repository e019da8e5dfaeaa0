"""The image tower of a model: from preprocessed images to embeddings on the device."""

import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from cosmos_core.compilation import is_compiler_error
from cosmos_core.errors import RequestError
from cosmos_eval.datasets.decoders import PIL, Decoder
from cosmos_eval.engine.device_copies import copy_to_device
from cosmos_eval.models.returned_values import format_error
from cosmos_eval.profiling import current_profile, phase

MAX_REPEATS = 5
MAX_SECONDS = 2.0
"""The rate of a tower is measured over at most this many passes and about this many seconds, and over one pass at
least."""
TRIAL_IMAGES = 8
"""On a CPU, a first pass of this many images tells how many fit in `MAX_SECONDS`."""


class ImageTower:
    """The image tower of a model on its device.

    If the model's preprocessing has two halves (`cosmos_eval.models.preprocess.ImagePreprocess`), workers do the first
    one only, which ends with 8-bit pixels; the second one makes normalised floats of a whole batch on the device. A
    quarter of the bytes then goes from the workers to this process and on to the device, and the numbers are the same.

    Args:
        model: an adapter.
        compiled: compile the tower by torch.compile.
        compiled_size: returns the number of images that a compiled tower is given at a time. Smaller batches are padded
            to it, since torch.compile would compile every batch size separately.
    """

    def __init__(self, model: Any, compiled: bool = False, compiled_size: Callable[[], int] = lambda: 0) -> None:
        self.device = torch.device(model.device)
        preprocess = model.preprocess
        self.has_split_preprocess = hasattr(preprocess, "pixels") and hasattr(preprocess, "normalised")
        self.worker_preprocess: Callable[[Image.Image], Tensor] = (
            preprocess.pixels if self.has_split_preprocess else preprocess
        )
        """What a worker does with a decoded image; picklable."""
        self._normalise = preprocess.normalised if self.has_split_preprocess else None
        # A model that scores pairs may have no encode_image: this class then only prepares its input.
        self._encode: Any = _compile_encoder(model) if compiled else getattr(model, "encode_image", None)
        self._is_compiled = compiled
        self._compiled_size = compiled_size

    def __call__(self, batch: Tensor) -> Tensor:
        """Encode a batch (B, ...) from `worker_preprocess` to (B, D) or (B, L, D), as the model returns it."""
        profile = current_profile()
        if profile is not None and (profile.largest_batch is None or len(batch) > len(profile.largest_batch)):
            profile.largest_batch = batch  # the largest batch, for `rate`
        with phase("copy"):
            x = self.input(batch)
        return self.encode(x)

    def input(self, batch: Tensor) -> Tensor:
        """Return the input of the model's `encode_image` on its device, for a batch (B, ...) from workers."""
        x = copy_to_device(batch, self.device)
        if self._normalise is not None:
            return self._normalise(x)
        # Convolutions on GPUs are faster with the channels last. On a CPU the layout selects other kernels, with other
        # last bits, so it stays as it is.
        if self.device.type == "cpu" or x.ndim != 4:  # patches of images of any shape are (B, N, C)
            return x
        return x.contiguous(memory_format=torch.channels_last)

    def encode(self, x: Tensor) -> Tensor:
        """Encode (B, 3, H, W) on the device to (B, D) or (B, L, D)."""
        if not self._is_compiled:
            return self._encode(x)
        return self._encode(_pad_batch(x, self._compiled_size()))[: len(x)]

    def rate(self, batch: Tensor) -> float:
        """Measure the images per second of the tower alone.

        Args:
            batch: (B, ...) from workers. On a CPU only as many of its images are used as fit in `MAX_SECONDS`.
        """
        x = self.input(batch)
        if self.device.type == "cpu" and not self._is_compiled:
            trial = x[:TRIAL_IMAGES]
            x = x[: max(TRIAL_IMAGES, int(MAX_SECONDS / self._time_pass(trial) * len(trial)))]
        else:
            self._time_pass(x)  # the first pass of a size is slower: it selects kernels, or compiles
        seconds: list[float] = []
        while len(seconds) < MAX_REPEATS and sum(seconds) < MAX_SECONDS:
            seconds.append(self._time_pass(x))
        return len(x) / statistics.median(seconds)

    def _time_pass(self, x: Tensor) -> float:
        """Return the seconds of one forward pass."""
        _synchronize(self.device)
        start = time.perf_counter()
        self.encode(x)
        _synchronize(self.device)
        return time.perf_counter() - start


def decoder_for(name: str, preprocess: Any) -> Decoder:
    """Return the decoder of this name for images that `preprocess` resizes afterwards.

    A decoder other than Pillow may decode to a smaller size, but not below the size that the tower sees; `preprocess`
    has that size in `size`, if it is known.
    """
    size = getattr(preprocess, "size", None)
    if isinstance(size, int):
        size = (size, size)
    return Decoder(name, size if name != PIL and isinstance(size, tuple) else None)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _pad_batch(x: Tensor, size: int) -> Tensor:
    """Append zeros up to `size` images, in the same memory format: a tower is compiled for one size and one format."""
    if len(x) >= size:
        return x
    padding = x.new_zeros(size - len(x), *x.shape[1:])
    if x.ndim == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
        padding = padding.contiguous(memory_format=torch.channels_last)
    return torch.cat([x, padding])


def _refuse_recompile_limit() -> AbstractContextManager[object]:
    """Within it, reaching torch's limit of compilations raises; by default torch goes on without compiling."""
    import torch._dynamo

    config: Any = torch._dynamo.config
    for name in ("fail_on_recompile_limit_hit", "fail_on_cache_limit_hit"):  # the second in older torch
        if hasattr(config, name):
            patched: AbstractContextManager[object] = config.patch(**{name: True})
            return patched
    return nullcontext()


def _compile_encoder(model: Any) -> Callable[[Tensor], Tensor]:
    """Return the compiled `encode_image` of a model.

    torch counts compilations of one function over all models of a class, and from the ninth on it would silently not
    compile. So the count begins anew with each model, and reaching the limit is an error: results say `+compile`.
    """
    torch.compiler.reset()
    compiled = torch.compile(model.encode_image, dynamic=False)

    def encode(x: Tensor) -> Tensor:
        # torch.compile compiles on the first call, so its errors come from there.
        try:
            with _refuse_recompile_limit():
                return compiled(x)
        except Exception as error:
            if not is_compiler_error(error):
                raise
            raise RequestError(
                f"{model.spec} cannot be compiled here: {format_error(error)}; leave --compile out"
            ) from error

    return encode
