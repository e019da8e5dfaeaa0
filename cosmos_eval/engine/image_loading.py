"""Loading of images: content digests, and batches that worker processes decode and preprocess."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cosmos_core.errors import RequestError, dead_worker_error, is_dead_worker_error
from cosmos_core.shared_memory import SharedMemory, shared_memory_for
from cosmos_core.worker_timeouts import SECONDS, worker_batches
from cosmos_eval.datasets.decoders import PILLOW, Decoder, use_decoder
from cosmos_eval.datasets.image_sources import ImageSource
from cosmos_eval.datasets.resized import ResizedImages
from cosmos_eval.profiling import current_profile
from cosmos_eval.progress import Reporter

_THREADS = min(8, os.cpu_count() or 1)
_PREFETCHED = 2
"""Batches that each worker prepares ahead."""


def compute_digests(images: Sequence[ImageSource], reporter: Reporter) -> list[str]:
    """Return the content digest of each image, in order.

    Raises:
        RequestError: an image cannot be read; the message names the first one in order.
    """
    digests: list[str] = []
    # Threads are enough: reading waits for the disk, and hashing releases the interpreter lock.
    with ThreadPoolExecutor(_THREADS) as pool, reporter.task("reading images", len(images), "images") as advance:
        try:
            for digest in pool.map(lambda image: image.digest(), images, chunksize=1):
                digests.append(digest)
                advance(1)
        except BaseException:
            pool.shutdown(cancel_futures=True)  # or the `with` would wait until all other images are read
            raise
    return digests


@dataclass(frozen=True)
class _LoadError:
    """The message of a RequestError in a worker process.

    A worker returns it as a value. If the worker raised the error, the DataLoader would put the worker's traceback into
    its message; this way, the message is one line and the same with and without workers.
    """

    line: str


class _Loaded(NamedTuple):
    """A preprocessed image, or a batch of them, and the seconds that a worker spent on it."""

    key: str
    """The key of the image, or of the first image of the batch."""
    pixels: Any
    decode_seconds: float
    preprocess_seconds: float


class _ImageDataset(Dataset[_Loaded | _LoadError]):
    """Loads and preprocesses single images, in worker processes or in the main process.

    Only a RequestError becomes a `_LoadError`. Any other exception is a bug in the preprocessing and is raised.
    """

    def __init__(
        self,
        images: Sequence[ImageSource],
        preprocess: Callable[[Image.Image], Any],
        decoder: Decoder = PILLOW,
        resized: ResizedImages | None = None,
    ) -> None:
        self.images = images
        self.preprocess = preprocess
        self.decoder = decoder
        self.resized = resized

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> _Loaded | _LoadError:
        source = self.images[i]
        start = time.perf_counter()
        try:
            if self.resized is not None and source.digest() in self.resized:
                pixels = torch.from_numpy(self.resized.pixels(source.digest()))
                return _Loaded(source.key, pixels, time.perf_counter() - start, 0.0)
            with use_decoder(self.decoder):
                image = source.load()
        except RequestError as error:
            return _LoadError(str(error))
        decoded = time.perf_counter()
        try:
            pixels = self.preprocess(image)
        except RequestError as error:
            return _LoadError(f"image {source.key}: {error}")
        return _Loaded(source.key, pixels, decoded - start, time.perf_counter() - decoded)


def _collate(items: list[_Loaded | _LoadError]) -> _Loaded | _LoadError:
    """Stack the images of a batch; the first error among them, if any, is the result instead."""
    loaded: list[_Loaded] = []
    for item in items:
        if isinstance(item, _LoadError):
            return item
        loaded.append(item)
    first_key, first_pixels = loaded[0].key, loaded[0].pixels
    for item in loaded:
        if item.pixels.shape != first_pixels.shape or item.pixels.dtype != first_pixels.dtype:
            return _LoadError(
                f"image {item.key}: the model's preprocess returned {_shape_and_type(item.pixels)} for it and "
                f"{_shape_and_type(first_pixels)} for image {first_key}; return one shape and type for all images"
            )
    return _Loaded(
        first_key,
        torch.stack([item.pixels for item in loaded]),
        sum(item.decode_seconds for item in loaded),
        sum(item.preprocess_seconds for item in loaded),
    )


@dataclass(frozen=True)
class _CheckedCollate:
    """The `collate_fn` of a DataLoader: collates, then checks that the result fits in shared memory.

    A worker runs it last, just before the result goes to the main process through /dev/shm.
    """

    memory: SharedMemory | None
    collate: Callable[[Any], _Loaded | _LoadError]

    def __call__(self, items: Any) -> _Loaded | _LoadError:
        batch = self.collate(items)
        if self.memory is None or isinstance(batch, _LoadError):
            return batch
        message = self.memory.refusal(_tensor_bytes(batch.pixels), len(items) if isinstance(items, list) else 1)
        return _LoadError(message) if message else batch


def _tensor_bytes(value: Any) -> int:
    """Return the bytes of a tensor, or of the tensors in a tuple or list."""
    entries = value if isinstance(value, tuple | list) else [value]
    return sum(entry.nbytes for entry in entries if isinstance(entry, Tensor))


def _shape_and_type(x: Tensor) -> str:
    return f"{'x'.join(map(str, x.shape))} {str(x.dtype).removeprefix('torch.')}"


def image_batches(
    images: Sequence[ImageSource],
    preprocess: Callable[[Image.Image], Tensor],
    batch_size: int,
    workers: int,
    pin_memory: bool = False,
    decoder: Decoder = PILLOW,
    resized: ResizedImages | None = None,
) -> Iterator[Tensor]:
    """Yield preprocessed images as batches (B, ...), in order.

    Batch i holds the images from i * `batch_size` on, for any number of workers.

    Args:
        preprocess: an image -> a tensor of fixed shape; picklable.
        workers: processes that decode and preprocess; 0 does it in this process.
        pin_memory: return batches in page-locked memory, for asynchronous copies to a CUDA device.
        resized: images that `preprocess` resized before; an image that is in it is read from there.

    Raises:
        RequestError: an image cannot be decoded, `preprocess` refuses it, or the results of `preprocess` differ in
            shape. The message names the first such image in order; it is the same with and without workers.
    """
    workers = min(workers, -(-len(images) // batch_size))  # no more workers than batches
    memory = shared_memory_for(workers, _PREFETCHED, "--workers 0", "--batch-size")
    loader = DataLoader(
        _ImageDataset(images, preprocess, decoder, resized),
        batch_size=batch_size,
        shuffle=False,
        collate_fn=_CheckedCollate(memory, _collate),
        pin_memory=pin_memory,
        **_worker_options(workers),
    )
    for batch in _read_loader(loader):
        yield _unpack(batch)


def each_image(
    images: Sequence[ImageSource],
    preprocess: Callable[[Image.Image], Any],
    workers: int,
    decoder: Decoder = PILLOW,
) -> Iterator[Any]:
    """Yield what `preprocess` returns for each image, one at a time and in order; images may differ in shape.

    Args:
        workers: processes that decode and preprocess; 0 does it in this process.

    Raises:
        RequestError: as `image_batches`.
    """
    workers = min(workers, len(images))
    memory = shared_memory_for(workers, _PREFETCHED, "--workers 0")
    loader = DataLoader(
        _ImageDataset(images, preprocess, decoder),
        batch_size=None,
        shuffle=False,
        collate_fn=_CheckedCollate(memory, _unchanged),
        **_worker_options(workers),
    )
    for item in _read_loader(loader):
        yield _unpack(item)


def _unchanged(item: Any) -> Any:
    return item  # a function and not a lambda: workers receive it by pickle


def _read_loader(loader: Any) -> Iterator[Any]:
    """Yield the batches of a DataLoader.

    Raises:
        RequestError: a worker has died. As a RequestError, a rank can report it to rank 0 in one line.
    """
    try:
        yield from worker_batches(loader)
    except (RuntimeError, ConnectionError, EOFError) as error:
        # Either torch notices the dead worker (a RuntimeError), or the connection to it breaks before that.
        if not loader.num_workers or (isinstance(error, RuntimeError) and not is_dead_worker_error(error)):
            raise
        raise dead_worker_error(error, "--workers") from error


def _worker_options(workers: int) -> dict[str, Any]:
    """Return the options of a DataLoader with workers, as `worker_batches` needs them."""
    if not workers:
        return {}
    return {
        "num_workers": workers,
        "prefetch_factor": _PREFETCHED,
        "timeout": SECONDS,
        "worker_init_fn": _exit_silently_on_signals,
    }


def _exit_silently_on_signals(number: int) -> None:
    """In a worker: exit without output on SIGINT and SIGTERM.

    Terminals and batch systems send these signals to all processes, and only the main process should print a message.
    torch's own SIGTERM handler prints one. Ignoring the signals does not work: torch sends SIGTERM to end its workers,
    and would wait for them.
    """
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, lambda *_: os._exit(0))


def _unpack(loaded: _Loaded | _LoadError) -> Any:
    """Return the pixels, and add the worker's seconds to the profile if there is one.

    Raises:
        RequestError: loading failed.
    """
    if isinstance(loaded, _LoadError):
        raise RequestError(loaded.line)
    profile = current_profile()
    if profile is not None:
        profile.add_work("decode", loaded.decode_seconds)
        profile.add_work("preprocess", loaded.preprocess_seconds)
    return loaded.pixels
