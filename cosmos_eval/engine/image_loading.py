"""Loading of images: content digests, and batches that worker processes decode and preprocess."""

import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from cosmos_core.errors import RequestError, dead_worker_error, dead_worker_reason, is_dead_worker_error
from cosmos_core.shared_memory import SharedMemory, shared_memory_for
from cosmos_core.worker_signals import hear_signals
from cosmos_core.worker_timeouts import SECONDS, worker_batches
from cosmos_eval.datasets.decoders import PILLOW, Decoder, use_decoder
from cosmos_eval.datasets.image_sources import ImageSource
from cosmos_eval.datasets.resized import ResizedImages
from cosmos_eval.engine.image_collation import (
    Loaded,
    LoadError,
    NoRoom,
    collate_images,
    divide_batches,
    join_parts,
    tensor_bytes,
)
from cosmos_eval.engine.worker_count import PREFETCHED, Probe, Workers
from cosmos_eval.profiling import current_profile
from cosmos_eval.progress import Reporter

ReadTarget = Callable[[int, tuple[int, int]], Tensor]
"""Position of an image, its height and width -> what belongs to it; picklable."""

_THREADS = min(8, os.cpu_count() or 1)
_PROBED = 4
"""Images that are loaded first to see how long it takes and how large they are."""


def compute_digests(images: Sequence[ImageSource], reporter: Reporter) -> list[str]:
    """Return the content digest of each image, in order.

    Raises:
        RequestError: an image cannot be read; the message names the first one in order.
    """
    known = [_known_digest(image) for image in images]
    if None not in known:  # the images were scored before, with other texts
        return [digest for digest in known if digest is not None]
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


def _known_digest(image: ImageSource) -> str | None:
    """Return the digest of an image that has computed it; None for others, also for those that keep it elsewhere."""
    digest: str | None = image.__dict__.get("_digest")
    return digest


class _ImageDataset(Dataset[Loaded | LoadError]):
    """Loads and preprocesses single images, in worker processes or in the main process.

    Only a RequestError becomes a `LoadError`. Any other exception is a bug in the preprocessing and is raised.
    """

    def __init__(
        self,
        images: Sequence[ImageSource],
        preprocess: Callable[[Image.Image], Any],
        decoder: Decoder = PILLOW,
        resized: ResizedImages | None = None,
        read_target: ReadTarget | None = None,
    ) -> None:
        self.images = images
        self.preprocess = preprocess
        self.decoder = decoder
        self.resized = resized
        self.read_target = read_target

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> Loaded | LoadError:
        source = self.images[i]
        start = time.perf_counter()
        try:
            if self.resized is not None and source.digest() in self.resized:
                pixels = torch.from_numpy(self.resized.pixels(source.digest()))
                return Loaded(source.key, pixels, time.perf_counter() - start, 0.0)
            with use_decoder(self.decoder):
                image = source.load()
            target = None if self.read_target is None else self.read_target(i, (image.height, image.width))
        except RequestError as error:
            return LoadError(str(error))
        decoded = time.perf_counter()
        try:
            value: Any = self.preprocess(image)
        except RequestError as error:
            return LoadError(f"image {source.key}: {error}")
        if target is not None:
            value = (value, target)
        return Loaded(source.key, value, decoded - start, time.perf_counter() - decoded)


@dataclass(frozen=True)
class _CheckedCollate:
    """The `collate_fn` of a DataLoader: collates, then checks that the result fits in shared memory.

    A worker runs it last, just before the result goes to the main process through /dev/shm.
    """

    memory: SharedMemory | None
    collate: Callable[[Any], Loaded | LoadError]
    is_auto: bool
    """Whether the user left the number of workers to us: then the main process goes on without them."""

    def __call__(self, items: Any) -> Loaded | LoadError:
        batch = self.collate(items)
        if self.memory is None or isinstance(batch, LoadError):
            return batch
        size, count = tensor_bytes(batch.pixels), len(items) if isinstance(items, list) else 1
        message = self.memory.shortage(size) if self.is_auto else self.memory.refusal(size, count)
        return NoRoom(message) if message else batch


def image_batches(
    images: Sequence[ImageSource],
    preprocess: Callable[[Image.Image], Tensor],
    batch_size: int,
    workers: int | Workers,
    pin_memory: bool = False,
    decoder: Decoder = PILLOW,
    resized: ResizedImages | None = None,
) -> Iterator[Tensor]:
    """Yield preprocessed images as batches (B, ...), in order.

    Batch i holds the images from i * `batch_size` on, for any number of workers.

    Args:
        preprocess: an image -> a tensor of fixed shape; picklable. With an attribute `lengths_differ` that is true, a
            tensor of one dimension and any length, which is padded with zeros to the longest of its batch.
        workers: processes that decode and preprocess; 0 does it in this process. `Workers` may choose the
            number; this process then goes on without them if they fail.
        pin_memory: return batches in page-locked memory, for asynchronous copies to a CUDA device.
        resized: images that `preprocess` resized before; an image that is in it is read from there.

    Raises:
        RequestError: an image cannot be decoded, `preprocess` refuses it, or the results of `preprocess` differ in
            shape. The message names the first such image in order; it is the same with and without workers.
    """
    chosen = Workers(workers) if isinstance(workers, int) else workers
    dataset = _ImageDataset(images, preprocess, decoder, resized)
    lengths_differ = getattr(preprocess, "lengths_differ", False)
    collate = partial(collate_images, lengths_differ=lengths_differ)
    yield from chosen.count_waiting(_load(dataset, batch_size, chosen, collate, pin_memory, lengths_differ))


def each_image(
    images: Sequence[ImageSource],
    preprocess: Callable[[Image.Image], Any],
    workers: int | Workers,
    decoder: Decoder = PILLOW,
    read_target: ReadTarget | None = None,
    pin_memory: bool = False,
) -> Iterator[Any]:
    """Yield what `preprocess` returns for each image, one at a time and in order; images may differ in shape.

    Args:
        workers: processes that decode and preprocess; 0 does it in this process. `Workers` may choose the
            number; this process then goes on without them if they fail.
        read_target: reads what belongs to an image, such as its mask; (result of `preprocess`, target) is yielded then.
        pin_memory: return tensors in page-locked memory, for asynchronous copies to a CUDA device.

    Raises:
        RequestError: as `image_batches`, or `read_target` raises it.
    """
    chosen = Workers(workers) if isinstance(workers, int) else workers
    dataset = _ImageDataset(images, preprocess, decoder, read_target=read_target)
    yield from chosen.count_waiting(_load(dataset, None, chosen, _unchanged, pin_memory))


def _load(
    dataset: _ImageDataset,
    batch_size: int | None,
    workers: Workers,
    collate: Callable[[Any], Loaded | LoadError],
    pin_memory: bool = False,
    has_rows_of_any_length: bool = False,
) -> Iterator[Any]:
    """Yield the pixels of each batch, or of each image if `batch_size` is None."""
    step = batch_size or 1
    part = step if has_rows_of_any_length else workers.part_size(len(dataset), step)
    number = workers.choose(len(dataset), part, lambda: _probe(dataset))
    is_divided = bool(number) and part < step
    parts = divide_batches(len(dataset), step, part) if is_divided else []

    def loader(images: Dataset[Any], number: int) -> Any:
        smaller = "--batch-size" if batch_size else ""
        memory = shared_memory_for(number, PREFETCHED, "--workers 0", smaller)
        sampling: dict[str, Any] = {"batch_size": batch_size, "shuffle": False}
        if number and is_divided:
            sampling = {"batch_sampler": [list(members) for batch in parts for members in batch]}
        return DataLoader(
            images,
            collate_fn=_CheckedCollate(memory, collate, workers.is_auto),
            pin_memory=pin_memory and not (number and is_divided),  # whole batches are, when they are joined
            **sampling,
            **_worker_options(number),
        )

    done = 0
    if number:
        try:
            batches = _read_workers(lambda: loader(dataset, number))
            if is_divided:
                batches = join_parts(batches, list(map(len, parts)), pin_memory)
            for loaded in batches:
                if workers.is_auto and isinstance(loaded, NoRoom):
                    raise _WorkersFailed(loaded.line)
                yield _unpack(loaded)
                done += 1
            return
        except _WorkersFailed as error:
            if not workers.is_auto:
                raise (error.error or error) from error.__cause__
            workers.give_up(error.reason)
    for loaded in worker_batches(loader(Subset(dataset, range(done * step, len(dataset))), 0)):
        yield _unpack(loaded)


def _probe(dataset: _ImageDataset) -> Probe | None:
    """Load the first images in this process; None if one cannot be loaded, which the loader then reports."""
    loaded = [dataset[i] for i in range(min(_PROBED, len(dataset)))]
    readable = [item for item in loaded if isinstance(item, Loaded)]
    if len(readable) < len(loaded):
        return None
    seconds = statistics.median_low(item.decode_seconds + item.preprocess_seconds for item in readable)
    return Probe(seconds, max(tensor_bytes(item.pixels) for item in readable))


def _unchanged(item: Any) -> Any:
    return item  # a function and not a lambda: workers receive it by pickle


class _WorkersFailed(Exception):
    """Workers could not be started, died, did nothing, or have no room for their batches. The images may be good."""

    def __init__(self, reason: str, error: Exception | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.error = error
        """What is raised where the user chose the number of workers."""


def _read_workers(make_loader: Callable[[], Any]) -> Iterator[Any]:
    """Yield the batches of a DataLoader with workers.

    Raises:
        _WorkersFailed: the workers cannot be used. Its error is a RequestError, so that a rank can report it to rank 0
            in one line.
    """
    try:
        yield from worker_batches(make_loader())
    except RequestError as error:  # no shared memory at all, or nothing was done for long
        raise _WorkersFailed(str(error), error) from error
    except (RuntimeError, OSError, EOFError) as error:
        # Either torch notices the dead worker (a RuntimeError), or the connection to it breaks before that. Another
        # OSError: the system allows no further process or open file, or a bug in the preprocessing.
        if isinstance(error, RuntimeError) and not is_dead_worker_error(error):
            raise
        is_dead = isinstance(error, RuntimeError | ConnectionError | EOFError)
        reason = dead_worker_reason(error) if is_dead else f"workers do not run here ({error})"
        raise _WorkersFailed(reason, dead_worker_error(error, "--workers") if is_dead else error) from error


def _worker_options(workers: int) -> dict[str, Any]:
    """Return the options of a DataLoader with workers, as `worker_batches` needs them."""
    if not workers:
        return {}
    return {
        "num_workers": workers,
        "prefetch_factor": PREFETCHED,
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
    hear_signals()


def _unpack(loaded: Loaded | LoadError) -> Any:
    """Return the pixels, and add the worker's seconds to the profile if there is one.

    Raises:
        RequestError: loading failed.
    """
    if isinstance(loaded, LoadError):
        raise RequestError(loaded.line)
    profile = current_profile()
    if profile is not None:
        profile.add_work("decode", loaded.decode_seconds)
        profile.add_work("preprocess", loaded.preprocess_seconds)
    return loaded.pixels
