"""The lock of a run directory: only one process writes there at a time, and a killed process releases it.

The file `.lock` names its holder and is locked by the system (`flock`), which releases the lock when the holder ends.
If the file system has no such locks, the holder's process number and start time show whether it still runs.
"""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.file_locks import is_file_of, try_lock, unlock

LOCK = ".lock"
MAX_RECORD_BYTES = 10_000
"""Most bytes of a lock file that are read."""


class RunLock:
    """A lock that is held from its creation until `release`, which also removes the file.

    Args:
        folder: the folder to lock; created if absent.
        wait: seconds to wait for another holder to release it.
        advice: what the error tells the user to do.

    Raises:
        RequestError: another process holds it; names the process, its host and since when.
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: Path, *, wait: float = 0.0, advice: str = "wait for it, or give another --out") -> None:
        self.path = folder / LOCK
        self.was_killed = False
        """Whether the previous holder did not release the lock: it was killed, or its machine went down."""
        self.system_locks = True
        self.descriptor = -1
        folder.mkdir(parents=True, exist_ok=True)
        end = time.monotonic() + wait
        while not self._try_take():
            if time.monotonic() >= end:
                advice_if_dead = "" if self.system_locks else f"; if that process is gone, delete {self.path}"
                raise RequestError(
                    f"{folder} is in use by {describe_holder(read_record(self.path))}; {advice}{advice_if_dead}"
                )
            time.sleep(0.05)

    def _try_take(self) -> bool:
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            locked = try_lock(descriptor)
            record = read_record(self.path)
            if locked is None:
                self.system_locks = False
                locked = not record or not is_alive(record)
            if not (locked and is_file_of(self.path, descriptor)):  # its holder has just removed it
                unlock(descriptor)
                return False
            self.was_killed = bool(os.fstat(descriptor).st_size)
            # Written first, truncated second: a process killed in between must not leave an empty file, which would
            # hide that the holder before it was killed.
            os.ftruncate(descriptor, os.pwrite(descriptor, json.dumps(process_record()).encode() + b"\n", 0))
        except BaseException:
            with suppress(OSError):
                unlock(descriptor)
            raise
        self.descriptor = descriptor
        return True

    def release(self) -> None:
        """Release the lock. The file is removed first, so that a process that has opened it sees that it was
        removed."""
        if self.descriptor < 0:
            return
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
        unlock(self.descriptor)
        self.descriptor = -1


@contextmanager
def locked(folder: Path, *, wait: float = 0.0, advice: str = "wait for it, or give another --out") -> Iterator[RunLock]:
    """Hold a `RunLock` while the block runs."""
    lock = RunLock(folder, wait=wait, advice=advice)
    try:
        yield lock
    finally:
        lock.release()


@contextmanager
def one_writer(folder: Path, seconds: float = 60.0) -> Iterator[None]:
    """Let one process at a time run the block for a folder; for short blocks. It leaves no file.

    If the file system has no locks on folders, it has no effect.

    Raises:
        RequestError: another process has held it for `seconds`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        end = time.monotonic() + seconds
        while try_lock(descriptor) is False:
            if time.monotonic() >= end:
                raise RequestError(
                    f"another process has been writing to {folder} for {seconds:g} s; see whether it hangs"
                )
            time.sleep(0.02)
        yield
    finally:
        unlock(descriptor)


def process_record() -> dict[str, Any]:
    """The content of the lock file, which identifies this process."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "process_start": process_start(os.getpid()),
        "since": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }


def process_start(pid: int) -> str:
    """When a process of this machine started, in the kernel's ticks; empty if unknown."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return stat.rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def is_alive(record: dict[str, Any]) -> bool:
    """Whether the process of a record may still run; for another host that is unknown, so True."""
    if record.get("host") != socket.gethostname():
        return True
    pid = record.get("pid")
    if type(pid) is not int or not 0 < pid < 2**31:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it exists, of another user
    return record.get("process_start", "") in ("", process_start(pid))


def read_record(path: Path) -> dict[str, Any]:
    """The record of the holder in a lock file; empty if it cannot be read."""
    try:
        with path.open("rb") as file:
            record = json.loads(file.read(MAX_RECORD_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def describe_holder(record: dict[str, Any]) -> str:
    """The holder in words."""
    if not record:
        return "another process"
    pid, host, since = (" ".join(str(record.get(key, "?")).split())[:80] for key in ("pid", "host", "since"))
    return f"process {pid} on {host} since {since}"
