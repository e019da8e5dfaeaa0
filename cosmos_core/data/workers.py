"""Processes that read samples and make views for one rank."""

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

from cosmos_core.data.lanes import Plan, Slice, slices
from cosmos_core.errors import RequestError, dead_worker, of_dead_worker
from cosmos_core.shared_memory import SharedMemory, shared_memory_for
from cosmos_core.worker_waits import SECONDS, end_workers, next_batch

PREFETCHED = 2
"""Slices that each worker has ready."""
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Refusal:
    """A RequestError on its way to the training process: raised in a worker, it would arrive as a traceback."""

    message: str


@dataclass(frozen=True)
class Packed:
    """A slice on its way to the training process: one block of shared memory, however many views there are."""

    pixels: Tensor
    shapes: list[tuple[int, ...]]
    texts: np.ndarray
    rest: Slice

    @classmethod
    def of(cls, part: Slice) -> "Packed":
        pixels = torch.cat([view.flatten() for view in part.images])
        shapes = [tuple(view.shape) for view in part.images]
        return cls(pixels, shapes, part.texts.numpy(), replace(part, images=[], texts=torch.empty(0)))

    def slice(self) -> Slice:
        views = self.pixels.split([math.prod(shape) for shape in self.shapes])
        images = [view.view(shape) for view, shape in zip(views, self.shapes, strict=True)]
        return replace(self.rest, images=images, texts=torch.from_numpy(self.texts))


class WorkerSlices(IterableDataset[Any]):
    """Worker w's slices: those of the lanes w, w + workers, ... of this rank."""

    def __init__(
        self, plan: Plan, lanes: list[int], rounds: int, start: dict[str, Any], memory: SharedMemory | None
    ) -> None:
        self.plan, self.lanes, self.rounds, self.start, self.memory = plan, lanes, rounds, start, memory
        self.batch_size = rounds * plan.lanes

    def __iter__(self) -> Iterator[Packed | Refusal]:
        worker = get_worker_info()
        assert worker is not None
        try:
            own = self.lanes[worker.id :: worker.num_workers]
            for part in slices(self.plan, own, self.rounds, self.start):
                packed = Packed.of(part)
                if self.memory is not None and (line := self.memory.refusal(packed.pixels.nbytes, self.batch_size)):
                    raise RequestError(line)
                yield packed
        except RequestError as error:
            yield Refusal(str(error))


def start_worker(number: int) -> None:
    """Signals are the trainer's: it saves and ends, and its workers end with it."""
    for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    end_with_the_trainer()
    torch.set_num_threads(1)


def end_with_the_trainer() -> None:
    """Have the kernel kill this worker when its parent dies: one that waits to write into a full pipe sees nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class WorkerPool:
    """Workers that share the lanes of a rank; iterated, it gives for each batch one slice of each worker."""

    def __init__(self, plan: Plan, lanes: list[int], rounds: int, start: dict[str, Any], workers: int) -> None:
        self.workers = workers
        memory = shared_memory_for(workers, PREFETCHED, "workers=0", "batch_size")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This DataLoader will create")  # more than cores: the user said how many
            self.loader: Any = DataLoader(
                WorkerSlices(plan, lanes, rounds, start, memory),
                batch_size=None,
                num_workers=workers,
                collate_fn=as_it_is,
                worker_init_fn=start_worker,
                prefetch_factor=PREFETCHED,
                timeout=SECONDS,
                generator=torch.Generator(),  # its own: torch's global generator belongs to the training
            )
            self.iterator = iter(self.loader)
        self.close = weakref.finalize(self, end_workers, self.iterator)

    def __iter__(self) -> Iterator[list[Slice]]:
        while True:
            yield [self._one() for _ in range(self.workers)]

    def _one(self) -> Slice:
        try:
            found = next_batch(self.iterator)
        except (RuntimeError, OSError, EOFError) as error:
            # torch tells of a dead worker, or the connection to it breaks first
            if isinstance(error, RuntimeError) and not of_dead_worker(error):
                raise
            raise dead_worker(error, "workers") from error
        if isinstance(found, Refusal):
            raise RequestError(found.message)
        return found.slice()


def as_it_is(found: Any) -> Any:
    return found
