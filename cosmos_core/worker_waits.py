"""Waiting for batches of worker processes: never without an end, and no worker outlives the wait."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.shared_memory import FOLDER, free_and_size, in_mib

SECONDS = 5
"""Between two looks at the workers; the `timeout` of every DataLoader that is waited for here."""
PATIENCE = 50.0
"""Seconds in which workers that are at work do something: use the processor, or read."""
UNSEEN = 600.0
"""The same where the system does not tell what processes do."""
IDLE_TICKS = 3
"""Hundredths of a second of the processor's time that a worker takes just to look whether there is work."""


def next_batch(iterator: Any, heed: Callable[[], object] | None = None) -> Any:
    """The next batch of a DataLoader's iterator that has workers and `timeout=SECONDS`.

    A slow batch is waited for as long as any worker does something, which torch's own timeout cannot tell.

    Args:
        heed: called every `SECONDS` of waiting; what it raises ends the wait (a signal that was noted, say).

    Raises:
        StopIteration: there is none.
        RequestError: the workers have done nothing for `PATIENCE`; they are ended then.
        RuntimeError: torch's word of a dead worker (`cosmos_core.errors.of_dead_worker`).
    """
    since, before = time.monotonic(), activity(iterator)
    while True:
        # A worker that is stopped while it hands over a batch holds the main process where no timeout counts:
        # only its end does, which the connection tells.
        ended = threading.Event()
        watch = threading.Timer(SECONDS + PATIENCE, end_stuck, [iterator, ended])
        watch.daemon = True
        watch.start()
        try:
            return next(iterator)
        except (RuntimeError, OSError, EOFError) as error:
            if ended.is_set():
                raise idle_workers(SECONDS + PATIENCE) from error
            if "DataLoader timed out" not in str(error):
                raise
        finally:
            watch.cancel()
        if heed is not None:
            heed()
        now = activity(iterator)
        if before is not None and now is not None and has_worked(before, now):
            since, before = time.monotonic(), now
        waited = time.monotonic() - since
        if waited >= (PATIENCE if before is not None and now is not None else UNSEEN):
            raise idle_workers(waited)


def idle_workers(seconds: float) -> RequestError:
    found = free_and_size()
    room = f" ({FOLDER} has {in_mib(found[0])} MiB free of {in_mib(found[1])})" if found else ""
    return RequestError(
        f"the workers have given nothing and done nothing for {seconds:.0f} seconds: they are stopped, or wait for a "
        f"disk that does not answer, or for shared memory{room}; set fewer workers, or none"
    )


def activity(iterator: Any) -> dict[int, tuple[int, int]] | None:
    """Ticks of the processor and bytes read by each worker so far; None where the system does not tell."""
    found = {}
    try:
        for process in getattr(iterator, "_workers", []):
            # behind the name, which may hold anything, stand twelfth and thirteenth the user's and the system's time
            stat = Path(f"/proc/{process.pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
            found[process.pid] = (int(stat[11]) + int(stat[12]), bytes_read(process.pid))
    except (OSError, ValueError, IndexError):
        return None
    return found


def bytes_read(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/io").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def has_worked(before: dict[int, tuple[int, int]], now: dict[int, tuple[int, int]]) -> bool:
    """Whether any worker has done more than look for work."""
    return any(
        ticks - before.get(pid, (0, 0))[0] > IDLE_TICKS or read > before.get(pid, (0, 0))[1]
        for pid, (ticks, read) in now.items()
    )


def worker_batches(loader: Any, heed: Callable[[], object] | None = None) -> Iterator[Any]:
    """The batches of a DataLoader, which has `timeout=SECONDS` where it has workers; they end with this generator.

    Raises:
        RequestError, RuntimeError: as `next_batch`.
    """
    iterator = iter(loader)
    try:
        while True:
            try:
                batch = next_batch(iterator, heed) if loader.num_workers else next(iterator)
            except StopIteration:
                return
            yield batch
    finally:
        end_workers(iterator)


def end_workers(iterator: Any) -> None:
    """Stop the workers of a DataLoader's iterator; those that do not end by themselves are killed.

    One that is stopped, or deaf to SIGTERM, would be waited for without an end when Python exits.
    """
    if not hasattr(iterator, "_pin_memory_thread"):  # which would wait for the rest of what a killed worker was writing
        forget_workers(iterator)
        end_processes(iterator)
    with suppress(Exception):
        if hasattr(iterator, "_shutdown_workers"):
            iterator._shutdown_workers()
    end_processes(iterator)


def forget_workers(iterator: Any) -> None:
    """Have torch's handler of SIGCHLD take their deaths for what was meant."""
    with suppress(Exception):
        from torch.utils.data._utils import signal_handling

        if iterator._worker_pids_set:
            signal_handling._remove_worker_pids(id(iterator))
            iterator._worker_pids_set = False


def end_stuck(iterator: Any, ended: threading.Event) -> None:
    ended.set()
    end_processes(iterator)


def end_processes(iterator: Any) -> None:
    for process in list(getattr(iterator, "_workers", [])):
        with suppress(Exception):
            if process.is_alive():
                process.kill()
