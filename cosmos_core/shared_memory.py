"""Checks that /dev/shm has room for the batches that worker processes send through it.

Without room, torch's worker raises in a background thread, and the main process waits forever for the batch
(pytorch/pytorch#5040). So a worker checks the room before it sends a batch.
"""

import os
from dataclasses import dataclass

from cosmos_core.errors import RequestError
from cosmos_core.usable_resources import local_ranks

FOLDER = "/dev/shm"
MIN_FREE_BYTES = 2**18
"""Bytes that the locks and queues of a few workers need."""
MIB = 2**20


def free_and_size() -> tuple[int, int] | None:
    """Free and total bytes of /dev/shm; None if it does not exist (macOS, Windows) or its size is unknown."""
    try:
        stats = os.statvfs(FOLDER)
    except (OSError, AttributeError):
        return None
    size = stats.f_blocks * stats.f_frsize
    return (stats.f_bavail * stats.f_frsize, size) if size else None


@dataclass(frozen=True)
class SharedMemory:
    """Room in /dev/shm before the workers start; plain values that are sent to the workers.

    Args:
        free: free bytes for the workers of this process; ranks of one machine share it.
        size: total bytes.
        workers: number of workers.
        batches: most batches that may be in it at a time.
        no_workers: the option for no workers, for the message: `--workers 0`.
        smaller: the option for smaller batches: `--batch-size`; empty if there is none.
    """

    free: int
    size: int
    workers: int
    batches: int
    no_workers: str
    smaller: str = ""

    def shortage(self, size: int) -> str:
        """Why there is no room for batches of `size` bytes, in one line; empty if there is."""
        needed = size * self.batches
        now = free_and_size()
        if needed <= self.free and (now is None or size <= now[0]):
            return ""
        free = self.free if needed > self.free or now is None else now[0]
        return (
            f"{FOLDER} has {in_mib(self.size)} MiB, {in_mib(free)} MiB of them free, and batches from {self.workers} "
            f"worker{'s' * (self.workers != 1)} need {in_mib(needed)} MiB ({self.batches} of {in_mib(size)} MiB at a "
            "time)"
        )

    def refusal(self, size: int, items: int = 1) -> str:
        """The shortage for batches of `size` bytes and `items` items with what the user can do; empty if none."""
        shortage = self.shortage(size)
        if not shortage:
            return ""
        fitting = self.free * items // max(size * self.batches, 1)
        less = f"{self.smaller} {fitting} or less, " if self.smaller and 0 < fitting < items else ""
        return f"{shortage}: give {self.no_workers}, {less}or a larger {FOLDER} (docker run --shm-size)"


def shared_memory_for(workers: int, prefetched: int, no_workers: str, smaller: str = "") -> SharedMemory | None:
    """The room for `workers` that prepare `prefetched` batches each; None if no check is needed.

    Raises:
        RequestError: not even room for the queues between workers and the main process.
    """
    room = free_and_size()
    if not workers or room is None:
        return None
    if room[0] < MIN_FREE_BYTES:
        raise RequestError(
            f"{FOLDER} has {in_mib(room[1])} MiB, {in_mib(room[0])} MiB of them free, too little for any worker: "
            f"give {no_workers}, or a larger {FOLDER} (docker run --shm-size)"
        )
    # plus one: the batch that the main process is using
    return SharedMemory(room[0] // local_ranks(), room[1], workers, workers * prefetched + 1, no_workers, smaller)


def in_mib(size: int) -> str:
    return f"{size / MIB:,.1f}"
