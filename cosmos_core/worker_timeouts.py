"""Waiting for batches of worker processes with a timeout, and ending workers that do not end by themselves."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.shared_memory import FOLDER, free_and_size, in_mib
from cosmos_core.worker_signals import start_workers

SECONDS = 5
"""Seconds between two checks of the workers; the `timeout` of every DataLoader that is used here."""
STUCK_SECONDS = 40.0
"""Seconds without activity (CPU time, bytes read) after which workers count as stuck."""
STUCK_SECONDS_WITHOUT_ACTIVITY = 600.0
"""The same if the system does not report what processes do."""
IDLE_TICKS = 3
"""CPU time, in hundredths of a second, that an idle worker uses between two checks."""


def next_batch(iterator: Any, check_stop: Callable[[], object] | None = None) -> Any:
    """The next batch of a DataLoader's iterator that has workers and `timeout=SECONDS`.

    It waits for a slow batch as long as any worker is active; torch's own timeout does not know that.

    Args:
        check_stop: called every `SECONDS` of waiting; an exception of it ends the wait (for example after a signal).

    Raises:
        StopIteration: there is no further batch.
        RequestError: the workers were inactive for `STUCK_SECONDS`; they are ended then.
        RuntimeError: torch's error for a dead worker (see `cosmos_core.errors.is_dead_worker_error`).
    """
    active_at, last_activity = time.monotonic(), activity(iterator)
    while True:
        # If a worker is stopped (SIGSTOP) while it sends a batch, the main process blocks where torch's timeout has no
        # effect. Killing the worker closes the connection, which ends the wait.
        were_ended = threading.Event()
        watch = threading.Timer(SECONDS + STUCK_SECONDS, end_stuck_workers, [iterator, were_ended])
        watch.daemon = True
        watch.start()
        try:
            return next(iterator)
        except (RuntimeError, OSError, EOFError) as error:
            if were_ended.is_set():
                raise idle_workers_error(SECONDS + STUCK_SECONDS) from error
            if "DataLoader timed out" not in str(error):
                raise
        finally:
            watch.cancel()
        if check_stop is not None:
            check_stop()
        current_activity = activity(iterator)
        if last_activity is not None and current_activity is not None and has_worked(last_activity, current_activity):
            active_at, last_activity = time.monotonic(), current_activity
        waited = time.monotonic() - active_at
        if waited >= (
            STUCK_SECONDS
            if last_activity is not None and current_activity is not None
            else STUCK_SECONDS_WITHOUT_ACTIVITY
        ):
            raise idle_workers_error(waited)


def idle_workers_error(seconds: float) -> RequestError:
    shared_memory = free_and_size()
    room = f" ({FOLDER} has {in_mib(shared_memory[0])} MiB free of {in_mib(shared_memory[1])})" if shared_memory else ""
    return RequestError(
        f"the workers have given nothing and done nothing for {seconds:.0f} seconds: they are stopped, or wait for a "
        f"disk that does not answer, or for shared memory{room}; set fewer workers, or none, or enlarge "
        "/dev/shm (in a container: --shm-size)"
    )


def activity(iterator: Any) -> dict[int, tuple[int, int]] | None:
    """CPU ticks and bytes read by each worker so far; None if the system does not report them."""
    by_worker = {}
    try:
        for process in getattr(iterator, "_workers", []):
            # after the process name, which may contain anything, fields 12 and 13 are the user and system time
            stat = Path(f"/proc/{process.pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
            by_worker[process.pid] = (int(stat[11]) + int(stat[12]), bytes_read(process.pid))
    except (OSError, ValueError, IndexError):
        return None
    return by_worker


def bytes_read(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/io").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def has_worked(before: dict[int, tuple[int, int]], now: dict[int, tuple[int, int]]) -> bool:
    """Whether any worker has done more than wait for work."""
    return any(
        ticks - before.get(pid, (0, 0))[0] > IDLE_TICKS or read > before.get(pid, (0, 0))[1]
        for pid, (ticks, read) in now.items()
    )


def worker_batches(loader: Any, check_stop: Callable[[], object] | None = None) -> Iterator[Any]:
    """The batches of a DataLoader (with `timeout=SECONDS` if it has workers); its workers end with this generator.

    Raises:
        RequestError, RuntimeError: as `next_batch`.
    """
    iterator = start_workers(loader)
    try:
        while True:
            try:
                batch = next_batch(iterator, check_stop) if loader.num_workers else next(iterator)
            except StopIteration:
                return
            yield batch
    finally:
        end_workers(iterator)


def end_workers(iterator: Any) -> None:
    """End the workers of a DataLoader's iterator; kill those that do not end by themselves.

    Otherwise Python would wait forever at exit for one that is stopped or ignores SIGTERM.
    """
    if not hasattr(iterator, "_pin_memory_thread"):  # that thread would wait for the rest of a killed worker's message
        unregister_workers(iterator)
        end_processes(iterator)
        # A worker may have been killed while it held the lock of this event, for which torch's `_shutdown_workers`
        # would wait forever. No process is left to read it.
        if hasattr(iterator, "_workers_done_event"):
            iterator._workers_done_event = threading.Event()
    with suppress(Exception):
        if hasattr(iterator, "_shutdown_workers"):
            iterator._shutdown_workers()
    end_processes(iterator)


def unregister_workers(iterator: Any) -> None:
    """Tell torch's handler of SIGCHLD that the end of these workers is intended."""
    with suppress(Exception):
        from torch.utils.data._utils import signal_handling

        if iterator._worker_pids_set:
            signal_handling._remove_worker_pids(id(iterator))
            iterator._worker_pids_set = False


def end_stuck_workers(iterator: Any, were_ended: threading.Event) -> None:
    were_ended.set()
    end_processes(iterator)


def end_processes(iterator: Any) -> None:
    for process in list(getattr(iterator, "_workers", [])):
        with suppress(Exception):
            if process.is_alive():
                process.kill()
