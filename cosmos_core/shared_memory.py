"""Room for batches in /dev/shm, through which worker processes hand tensors over.

torch's worker that finds no room there raises in a thread that nobody watches, and the main process waits for a batch
that never comes (pytorch/pytorch#5040). So a worker asks here before it hands a batch over.
"""

import os
from dataclasses import dataclass

from cosmos_core.errors import RequestError
from cosmos_core.text_files import whole_number

FOLDER = "/dev/shm"
LEAST = 2**18
"""Bytes that the locks and queues of some workers take by themselves."""
MIB = 2**20


def free_and_size() -> tuple[int, int] | None:
    """Free bytes and all bytes of /dev/shm; None where there is none (macOS, Windows) or its size is unknown."""
    try:
        found = os.statvfs(FOLDER)
    except (OSError, AttributeError):
        return None
    size = found.f_blocks * found.f_frsize
    return (found.f_bavail * found.f_frsize, size) if size else None


@dataclass(frozen=True)
class SharedMemory:
    """What /dev/shm had when workers were about to start; plain values, which travel to them.

    Args:
        free: bytes, for the workers of this process: ranks of one machine share what there is.
        size: bytes of all of it.
        workers: how many there are.
        batches: how many may lie there at a time.
        no_workers: how a user does without workers: `--workers 0`.
        smaller: how a user asks for smaller batches: `--batch-size`; empty where nothing does.
    """

    free: int
    size: int
    workers: int
    batches: int
    no_workers: str
    smaller: str = ""

    def refusal(self, size: int, items: int = 1) -> str:
        """Why batches of `size` bytes and `items` items cannot go through it, in one line; empty where they can."""
        needed = size * self.batches
        now = free_and_size()
        if needed <= self.free and (now is None or size <= now[0]):
            return ""
        free = self.free if needed > self.free or now is None else now[0]
        fitting = self.free * items // max(needed, 1)
        less = f"{self.smaller} {fitting} or less, " if self.smaller and 0 < fitting < items else ""
        return (
            f"{FOLDER} has {in_mib(self.size)} MiB, {in_mib(free)} MiB of them free, and batches from {self.workers} "
            f"worker{'s' * (self.workers != 1)} need {in_mib(needed)} MiB ({self.batches} of {in_mib(size)} MiB at a "
            f"time): give {self.no_workers}, {less}or a larger {FOLDER} (docker run --shm-size)"
        )


def shared_memory_for(workers: int, prefetched: int, no_workers: str, smaller: str = "") -> SharedMemory | None:
    """What there is for `workers` that have `prefetched` batches ready each; None where nothing needs to be asked.

    Raises:
        RequestError: not even room for what workers and the main process talk through.
    """
    found = free_and_size()
    if not workers or found is None:
        return None
    if found[0] < LEAST:
        raise RequestError(
            f"{FOLDER} has {in_mib(found[1])} MiB, {in_mib(found[0])} MiB of them free, too little for any worker: "
            f"give {no_workers}, or a larger {FOLDER} (docker run --shm-size)"
        )
    ranks = whole_number(os.environ.get("LOCAL_WORLD_SIZE", "")) or 1
    # one more than lies ready: the batch that the main process is working on
    return SharedMemory(found[0] // ranks, found[1], workers, workers * prefetched + 1, no_workers, smaller)


def in_mib(size: int) -> str:
    return f"{size / MIB:,.1f}"
