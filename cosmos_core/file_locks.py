"""Locks on open files (`flock`), which the system releases when their holder ends, even by SIGKILL."""

import errno
import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # not Unix: there are no locks
    fcntl = None  # type: ignore[assignment]

LOCKED_DESCRIPTORS: set[int] = set()
"""Descriptors of this process that hold locks. A forked process closes them: a data worker that lives a second
longer than a killed training must not keep its lock."""


def try_lock(descriptor: int) -> bool | None:
    """Lock an open file for this process alone, without waiting.

    Returns:
        True: locked until `unlock`, or until this process ends. False: another holds it. None: the file system has no
        locks.
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else None
    LOCKED_DESCRIPTORS.add(descriptor)
    return True


def unlock(descriptor: int) -> None:
    """Close an open file, and with it release its lock, if any."""
    LOCKED_DESCRIPTORS.discard(descriptor)
    os.close(descriptor)


def is_file_of(path: Path, descriptor: int) -> bool:
    """Whether `path` still names the open file: the previous holder of its lock may have removed it."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except OSError:
        return False


def close_in_child() -> None:
    for descriptor in LOCKED_DESCRIPTORS:
        os.close(descriptor)  # the lock stays with the parent, which has the same open file
    LOCKED_DESCRIPTORS.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=close_in_child)
