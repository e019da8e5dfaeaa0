"""`--workers auto`: how many processes decode images, by cores, memory, and how much there is to decode.

The number decides no result: batches and their members are the same for any number of workers.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cosmos_core.shared_memory import MIN_FREE_BYTES, free_and_size
from cosmos_core.usable_resources import free_memory, local_ranks, usable_cores
from cosmos_eval.progress import Reporter, Silent

AUTO = "auto"
MOST = 32
"""Workers that `auto` starts at most: 32 decode about 6,000 images per second, and each takes memory and open files."""
SECONDS_FOR_A_WORKER = 1.0
"""Decoding, in seconds of one core, that there must be for each worker: about 180 photographs of 640 by 480. Starting
and ending a worker takes 0.05 to 0.1 seconds of CPU time (`benchmarks/images.py`), so it is repaid ten times."""
CPU_CORES_FOR_A_WORKER = 4
"""Cores for each worker where the tower computes on the CPU. There the work of both adds up (results/speed.md), and
workers only spread decoding over more cores. The tower takes most of the work (a ViT-B/32 78 ms of CPU time for an
image, decoding 6), so a quarter of the cores keeps up with it. On two cores, workers would save 5 % on an idle
machine; on one that others used, they lost: 256 images took 12 instead of 5 seconds with a small tower, 128 images 27
instead of 23 with a ViT-B/32."""
WORKER_BYTES = 2**26
"""Main memory of a worker without its batches: 21 MiB that it does not share with the main process (measured; images of
640 by 480), and 36 MiB for a decoded photograph of 12 megapixels."""
MEMORY_SHARE = 0.5
"""Share of the free main memory that workers and their batches may take."""
PARTS_FOR_A_WORKER = 4
"""Parts of the dataset that each worker should decode at least, so that all are busy until nearly the end."""
SMALLEST_PART = 16
"""Images that a worker sends at a time at least, unless a batch is smaller."""
PREFETCHED = 2
"""Batches that each worker prepares ahead."""


class Probe(NamedTuple):
    """The first images of a dataset, loaded in this process."""

    seconds: float
    """To decode and preprocess one image."""
    size: int
    """Bytes of one preprocessed image."""


@dataclass
class Workers:
    """The number of workers of an engine's loaders, and how long the engine waited for them.

    Args:
        fixed: the number that the user chose; None chooses one for each loader.
        most: the largest number that is useful here; it is chosen where there is enough to decode, and enough memory.
        reporter: for a note where workers had to be ended.
    """

    fixed: int | None
    most: int = 0
    reporter: Reporter = field(default_factory=Silent)
    used: int = 0
    """The largest number since `start_benchmark`."""
    used_in_run: int = 0
    """The largest number of all benchmarks."""
    is_short_of_shared_memory: bool = False
    """Whether more would have been chosen with a larger /dev/shm."""
    waited: float = 0.0
    """Seconds that the engine waited for images since `start_benchmark`."""
    elapsed: float = 0.0
    """Seconds from the first image to the last of each loader, with what the engine did with them."""

    @classmethod
    def for_this_process(cls, workers: int | str, reporter: Reporter, device: str) -> "Workers":
        """For the cores that this process may use; the other ranks of its machine have their own share.

        Args:
            workers: the number, or `auto`.
            device: type of the device of the tower: cpu, cuda, ...
        """
        cores = usable_cores() // local_ranks()
        useful = cores // CPU_CORES_FOR_A_WORKER if device == "cpu" else cores
        most = min(MOST, useful) if can_start_workers() else 0
        return cls(None if workers == AUTO else int(workers), most, reporter)

    @property
    def is_auto(self) -> bool:
        return self.fixed is None

    @property
    def recorded(self) -> int:
        """The number for the result: what the user chose, or the largest that was chosen since `start_benchmark`."""
        return self.used if self.fixed is None else self.fixed

    def start_benchmark(self) -> None:
        """Forget what was counted for the last benchmark."""
        self.used, self.is_short_of_shared_memory = 0, False
        self.waited = self.elapsed = 0.0

    def part_size(self, images: int, batch: int) -> int:
        """Return how many images a worker sends at a time: a batch, or an equal part of one.

        Large batches of a small dataset are divided: 5,000 images in batches of 512 would keep ten workers busy only,
        and the tower would wait until one of them has decoded 512 images. The batches stay the same.
        """
        workers = self.most if self.fixed is None else self.fixed
        if workers < 2:
            return batch
        part = max(SMALLEST_PART, -(-images // (PARTS_FOR_A_WORKER * workers)))
        parts_of_batch = -(-batch // min(part, batch))
        return -(-batch // parts_of_batch)

    def choose(self, images: int, batch: int, probe: Callable[[], Probe | None]) -> int:
        """The number of workers for a loader.

        Args:
            images: number of images.
            batch: images that a worker sends at a time.
            probe: loads the first images; None if they cannot be loaded.
        """
        batches = -(-images // batch)
        number = min(self.fixed, batches) if self.fixed is not None else self._choose(images, batch, probe)
        self.used = max(self.used, number)
        self.used_in_run = max(self.used_in_run, number)
        return number

    def _choose(self, images: int, batch: int, probe: Callable[[], Probe | None]) -> int:
        batches = -(-images // batch)
        # One batch: the tower would wait for a worker as long as for this process.
        wanted = min(self.most, batches) if batches > 1 else 0
        probed = probe() if wanted else None
        if probed is None:
            return 0
        wanted = min(wanted, int(images * probed.seconds / SECONDS_FOR_A_WORKER))
        size = batch * probed.size
        in_memory = workers_in(free_memory(), WORKER_BYTES + PREFETCHED * size, size, MEMORY_SHARE)
        shared = free_and_size()
        in_shared_memory = workers_in(shared[0] if shared else None, PREFETCHED * size, size)
        if shared and shared[0] < MIN_FREE_BYTES:
            in_shared_memory = 0
        self.is_short_of_shared_memory |= in_shared_memory < min(wanted, in_memory)
        return min(wanted, in_memory, in_shared_memory)

    def give_up(self, reason: str) -> None:
        """Start no more workers, since those of a loader had to be ended; this process decodes what is left."""
        self.most = 0
        self.reporter.note(f"{reason}; images are decoded without workers from here on")

    def count_waiting(self, items: Iterator[Any]) -> Iterator[Any]:
        """Yield what a loader yields, and count the seconds."""
        while True:
            asked = time.perf_counter()
            try:
                item = next(items)
            except StopIteration:
                return
            given = time.perf_counter()
            self.waited += given - asked
            try:
                yield item
            finally:
                self.elapsed += time.perf_counter() - asked


def workers_in(room: int | None, each: int, once: int, share: float = 1.0) -> int:
    """How many workers fit into memory.

    Args:
        room: free bytes for all ranks of this machine; None if that is not known.
        each: bytes of a worker.
        once: bytes beside them.
        share: of `room` that may be taken.
    """
    if room is None:
        return MOST
    return max(0, int((room // local_ranks() * share - once) // max(1, each)))


def can_start_workers() -> bool:
    """Whether a loader can start workers without conditions on the program that calls it.

    Not where processes are spawned (macOS, Windows): each would import the caller's script again, which must then be
    protected by `if __name__ == "__main__"`, and needs everything pickled. Not in a daemonic process (a worker of a
    pool), which may have no children.
    """
    method = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
    return method == "fork" and not multiprocessing.current_process().daemon
