"""Worker processes that read samples and make their views for one rank."""

import ctypes
import math
import signal
import sys
import warnings
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from cosmos_core.data.lanes import LanePlan, Slice, slices
from cosmos_core.errors import RequestError, dead_worker_error, is_dead_worker_error
from cosmos_core.shared_memory import SharedMemory, shared_memory_for
from cosmos_core.worker_signals import hear_signals, start_workers
from cosmos_core.worker_timeouts import SECONDS, end_workers, next_batch

PREFETCHED = 2
"""Slices that each worker prepares ahead."""
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class WorkerError:
    """A RequestError sent to the training process as a value: raised in a worker, it would arrive as a traceback."""

    message: str


@dataclass(frozen=True)
class PackedSlice:
    """A slice as it is sent to the training process: all views in one tensor, so in one block of shared memory."""

    pixels: Tensor
    shapes: list[tuple[int, ...]]
    texts: np.ndarray
    changes: np.ndarray
    without_tensors: Slice

    @classmethod
    def pack(cls, made_slice: Slice) -> "PackedSlice":
        pixels = torch.cat([view.flatten() for view in made_slice.images])
        shapes = [tuple(view.shape) for view in made_slice.images]
        rest = replace(made_slice, images=[], texts=torch.empty(0), changes=torch.empty(0))
        return cls(pixels, shapes, made_slice.texts.numpy(), made_slice.changes.numpy(), rest)

    def unpack(self) -> Slice:
        views = self.pixels.split([math.prod(shape) for shape in self.shapes])
        images = [view.view(shape) for view, shape in zip(views, self.shapes, strict=True)]
        texts, changes = torch.from_numpy(self.texts), torch.from_numpy(self.changes)
        return replace(self.without_tensors, images=images, texts=texts, changes=changes)


class WorkerSlices(IterableDataset[Any]):
    """The slices of one worker: worker w has lanes w, w + workers, ... of this rank."""

    def __init__(
        self, plan: LanePlan, lanes: list[int], rounds: int, start: dict[str, Any], memory: SharedMemory | None
    ) -> None:
        self.plan, self.lanes, self.rounds, self.start, self.memory = plan, lanes, rounds, start, memory
        self.batch_size = rounds * plan.lanes

    def __iter__(self) -> Iterator[PackedSlice | WorkerError]:
        worker = get_worker_info()
        assert worker is not None
        try:
            worker_lanes = self.lanes[worker.id :: worker.num_workers]
            for part in slices(self.plan, worker_lanes, self.rounds, self.start):
                packed = PackedSlice.pack(part)
                if self.memory is not None and (line := self.memory.refusal(packed.pixels.nbytes, self.batch_size)):
                    raise RequestError(line)
                yield packed
        except RequestError as error:
            yield WorkerError(str(error))


def start_worker(number: int) -> None:
    """Set up a worker. It ignores signals: the training process handles them, and workers end with it."""
    for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    hear_signals()
    die_with_parent()
    torch.set_num_threads(1)


def die_with_parent() -> None:
    """Have the kernel kill this worker when its parent dies: a worker blocked in a write to a full pipe would not
    notice."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class WorkerPool:
    """Workers that share the lanes of a rank; an iterable with one list for each batch, of one slice from each
    worker."""

    def __init__(self, plan: LanePlan, lanes: list[int], rounds: int, start: dict[str, Any], workers: int) -> None:
        self.workers = workers
        memory = shared_memory_for(workers, PREFETCHED, "workers=0", "batch_size")
        with warnings.catch_warnings():
            # it warns of more workers than cores: the user chose the number
            warnings.filterwarnings("ignore", "This DataLoader will create")
            self.loader: Any = DataLoader(
                WorkerSlices(plan, lanes, rounds, start, memory),
                batch_size=None,
                num_workers=workers,
                collate_fn=identity,
                worker_init_fn=start_worker,
                prefetch_factor=PREFETCHED,
                timeout=SECONDS,
                generator=torch.Generator(),  # its own, so that no number is drawn from torch's global generator
            )
            self.iterator = start_workers(self.loader)
        self.close = weakref.finalize(self, end_workers, self.iterator)

    def __iter__(self) -> Iterator[list[Slice]]:
        while True:
            yield [self._next_slice() for _ in range(self.workers)]

    def _next_slice(self) -> Slice:
        try:
            received = next_batch(self.iterator)
            if not isinstance(received, WorkerError):
                return received.unpack()
        except (RuntimeError, OSError, EOFError) as error:
            # torch reports a dead worker, wherever this process happens to be, or the connection to it breaks first
            if isinstance(error, RuntimeError) and not is_dead_worker_error(error):
                raise
            raise dead_worker_error(error, "workers") from error
        raise RequestError(received.message)


def identity(received: Any) -> Any:
    return received
