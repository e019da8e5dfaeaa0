"""The lock of a run directory: one process writes there at a time, and one that was killed keeps nobody out.

The file `.lock` names its holder and is locked by the system (`flock`), which lets go when the holder dies. Where the
file system has no such locks, the holder's process number and start tell whether it is still there.
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
LONGEST_RECORD = 10_000
"""Bytes of a lock file that are read."""


class RunLock:
    """Held from its making until `release`, which also removes the file.

    Args:
        folder: what is locked; it is made if absent.
        wait: seconds to wait for a holder to let go.
        advice: what the message of a refusal tells to do.

    Raises:
        RequestError: another process holds it; names the process, its host and since when.
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: Path, *, wait: float = 0.0, advice: str = "wait for it, or give another --out") -> None:
        self.path = folder / LOCK
        self.was_killed = False
        """Whether the holder before did not release the lock: it was killed, or its machine went down."""
        self.system_locks = True
        self.descriptor = -1
        folder.mkdir(parents=True, exist_ok=True)
        end = time.monotonic() + wait
        while not self._take():
            if time.monotonic() >= end:
                gone = "" if self.system_locks else f"; if that process is gone, delete {self.path}"
                raise RequestError(f"{folder} is in use by {holder(read_record(self.path))}; {advice}{gone}")
            time.sleep(0.05)

    def _take(self) -> bool:
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            locked = try_lock(descriptor)
            record = read_record(self.path)
            if locked is None:
                self.system_locks = False
                locked = not record or not is_alive(record)
            if not (locked and is_file_of(self.path, descriptor)):  # removed by its holder in this moment
                unlock(descriptor)
                return False
            self.was_killed = bool(os.fstat(descriptor).st_size)
            # written before it is cut: an empty file, left by a process killed here, would hide the one before
            os.ftruncate(descriptor, os.pwrite(descriptor, json.dumps(own_record()).encode() + b"\n", 0))
        except BaseException:
            with suppress(OSError):
                unlock(descriptor)
            raise
        self.descriptor = descriptor
        return True

    def release(self) -> None:
        """Let others in. The file goes first: whoever opened it meanwhile sees that it locked a removed one."""
        if self.descriptor < 0:
            return
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
        unlock(self.descriptor)
        self.descriptor = -1


@contextmanager
def locked(folder: Path, *, wait: float = 0.0, advice: str = "wait for it, or give another --out") -> Iterator[RunLock]:
    """A `RunLock` that is held while the block runs."""
    lock = RunLock(folder, wait=wait, advice=advice)
    try:
        yield lock
    finally:
        lock.release()


@contextmanager
def one_writer(folder: Path, seconds: float = 60.0) -> Iterator[None]:
    """Keep other processes that ask from writing into a folder while the block runs; made for short blocks, and it
    leaves no file. Where the file system has no locks on folders, nobody is kept out.

    Raises:
        RequestError: another process has held it for so long.
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


def own_record() -> dict[str, Any]:
    """What tells this process from all others, and a person where to find it."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "process_start": process_start(os.getpid()),
        "since": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }


def process_start(pid: int) -> str:
    """When a process of this machine started, in the kernel's ticks; empty where that cannot be known."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return stat.rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def is_alive(record: dict[str, Any]) -> bool:
    """Whether the process of a record may still run: one of another host may, as far as can be told from here."""
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
        pass  # somebody else's
    return record.get("process_start", "") in ("", process_start(pid))


def read_record(path: Path) -> dict[str, Any]:
    """What a lock file says of its holder; nothing where it says nothing."""
    try:
        with path.open("rb") as file:
            record = json.loads(file.read(LONGEST_RECORD))
    except (OSError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def holder(record: dict[str, Any]) -> str:
    """The holder in words."""
    if not record:
        return "another process"
    pid, host, since = (" ".join(str(record.get(key, "?")).split())[:80] for key in ("pid", "host", "since"))
    return f"process {pid} on {host} since {since}"
