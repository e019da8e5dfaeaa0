"""Images on their way to a tower: content digests, decoding and preprocessing in worker processes, fixed batches."""

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
from cosmos_eval.datasets.base import ImageSource
from cosmos_eval.datasets.decoders import PILLOW, Decoder, decoding_by
from cosmos_eval.datasets.resized import Resized
from cosmos_eval.profiling import current
from cosmos_eval.progress import Reporter

_THREADS = min(8, os.cpu_count() or 1)
_PREFETCHED = 2
"""Batches that each worker has ready."""


def digests(images: Sequence[ImageSource], reporter: Reporter) -> list[str]:
    """The content digest of each image, in order; RequestError for the first that cannot be read."""
    found: list[str] = []
    # Threads suffice: reading waits for the disk and hashing releases the interpreter.
    with ThreadPoolExecutor(_THREADS) as pool, reporter.task("reading images", len(images), "images") as advance:
        try:
            for digest in pool.map(lambda image: image.digest(), images, chunksize=1):
                found.append(digest)
                advance(1)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return found


@dataclass(frozen=True)
class _Refusal:
    """What went wrong with an image, carried out of a worker process as a value: raised there, it would come back
    wrapped in that process's traceback."""

    line: str


class _Loaded(NamedTuple):
    """What became of an image, or of a batch of them, and the seconds that it took."""

    key: str
    pixels: Any
    decode: float
    preprocess: float


class _Preprocessed(Dataset[_Loaded | _Refusal]):
    """The pixels of each image. A fault in our own preprocessing stays one: only refusals become lines."""

    def __init__(
        self,
        images: Sequence[ImageSource],
        preprocess: Callable[[Image.Image], Any],
        decoder: Decoder = PILLOW,
        resized: Resized | None = None,
    ) -> None:
        self.images = images
        self.preprocess = preprocess
        self.decoder = decoder
        self.resized = resized

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> _Loaded | _Refusal:
        source = self.images[i]
        start = time.perf_counter()
        try:
            if self.resized is not None and source.digest() in self.resized:
                pixels = torch.from_numpy(self.resized.pixels(source.digest()))
                return _Loaded(source.key, pixels, time.perf_counter() - start, 0.0)
            with decoding_by(self.decoder):
                image = source.load()
        except RequestError as error:
            return _Refusal(str(error))
        decoded = time.perf_counter()
        try:
            pixels = self.preprocess(image)
        except RequestError as error:
            return _Refusal(f"image {source.key}: {error}")
        return _Loaded(source.key, pixels, decoded - start, time.perf_counter() - decoded)


def _collate(items: list[_Loaded | _Refusal]) -> _Loaded | _Refusal:
    loaded: list[_Loaded] = []
    for item in items:
        if isinstance(item, _Refusal):
            return item
        loaded.append(item)
    key, first = loaded[0][:2]
    for other, x, *_ in loaded:
        if x.shape != first.shape or x.dtype != first.dtype:
            return _Refusal(
                f"image {other}: the model's preprocess made {_form(x)} of it and {_form(first)} of image "
                f"{key}; make all of one size"
            )
    pixels = torch.stack([one.pixels for one in loaded])
    return _Loaded(key, pixels, sum(one.decode for one in loaded), sum(one.preprocess for one in loaded))


@dataclass(frozen=True)
class _HandedOver:
    """What a worker does last with an image or a batch: see that shared memory has room for it."""

    memory: SharedMemory | None
    collate: Callable[[Any], _Loaded | _Refusal]

    def __call__(self, made: Any) -> _Loaded | _Refusal:
        batch = self.collate(made)
        if self.memory is None or isinstance(batch, _Refusal):
            return batch
        line = self.memory.refusal(_bytes_of(batch.pixels), len(made) if isinstance(made, list) else 1)
        return _Refusal(line) if line else batch


def _bytes_of(made: Any) -> int:
    parts = made if isinstance(made, tuple | list) else [made]
    return sum(part.nbytes for part in parts if isinstance(part, Tensor))


def _form(x: Tensor) -> str:
    return f"{'x'.join(map(str, x.shape))} {str(x.dtype).removeprefix('torch.')}"


def image_batches(
    images: Sequence[ImageSource],
    preprocess: Callable[[Image.Image], Tensor],
    batch_size: int,
    workers: int,
    pin_memory: bool = False,
    decoder: Decoder = PILLOW,
    resized: Resized | None = None,
) -> Iterator[Tensor]:
    """What `preprocess` makes of images, (B, ...) in order; batch i holds images i * batch_size and on, whatever
    `workers` is. Images in `resized` are read from there, as `preprocess` made them before.

    Raises:
        RequestError: an image that cannot be decoded, that `preprocess` refuses or that it makes of another size; the
            first in order, the same line with and without workers.
    """
    workers = min(workers, -(-len(images) // batch_size))
    memory = shared_memory_for(workers, _PREFETCHED, "--workers 0", "--batch-size")
    loader = DataLoader(
        _Preprocessed(images, preprocess, decoder, resized),
        batch_size=batch_size,
        shuffle=False,
        collate_fn=_HandedOver(memory, _collate),
        pin_memory=pin_memory,
        **_by_workers(workers),
    )
    for batch in _made_by_workers(loader):
        yield _pixels(batch)


def _made_by_workers(loader: Any) -> Iterator[Any]:
    """What the workers of a loader give; one that died is a refusal, which a rank can tell rank 0."""
    try:
        yield from worker_batches(loader)
    except (RuntimeError, ConnectionError, EOFError) as error:
        # torch tells of a dead worker, or the connection to it breaks first
        if not loader.num_workers or (isinstance(error, RuntimeError) and not is_dead_worker_error(error)):
            raise
        raise dead_worker_error(error, "--workers") from error


def _by_workers(workers: int) -> dict[str, Any]:
    """Options of a DataLoader that `worker_batches` can wait for."""
    if not workers:
        return {}
    return {
        "num_workers": workers,
        "prefetch_factor": _PREFETCHED,
        "timeout": SECONDS,
        "worker_init_fn": _leave_without_a_word,
    }


def _leave_without_a_word(number: int) -> None:
    """In a worker: end on signals, which terminals and batch systems send to all processes, while the main one speaks.

    torch's own handler of SIGTERM prints a complaint. Ignoring it would not do: torch waits for those it sends it to.
    """
    for sent in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sent, lambda *_: os._exit(0))


def _pixels(loaded: _Loaded | _Refusal) -> Any:
    """RequestError of a refusal; what it took goes to the profile, if any."""
    if isinstance(loaded, _Refusal):
        raise RequestError(loaded.line)
    profile = current()
    if profile is not None:
        profile.did("decode", loaded.decode)
        profile.did("preprocess", loaded.preprocess)
    return loaded.pixels


def each_image(
    images: Sequence[ImageSource],
    preprocess: Callable[[Image.Image], Any],
    workers: int,
    decoder: Decoder = PILLOW,
) -> Iterator[Any]:
    """What `preprocess` makes of each image, of any shape, one at a time and in order; `workers` processes decode.

    Raises:
        RequestError: as `image_batches`.
    """
    workers = min(workers, len(images))
    loader = DataLoader(
        _Preprocessed(images, preprocess, decoder),
        batch_size=None,
        shuffle=False,
        collate_fn=_HandedOver(shared_memory_for(workers, _PREFETCHED, "--workers 0"), _as_it_is),
        **_by_workers(workers),
    )
    for item in _made_by_workers(loader):
        yield _pixels(item)


def _as_it_is(item: Any) -> Any:
    return item
