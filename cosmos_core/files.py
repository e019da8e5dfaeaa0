"""Atomic writing of files and folders, removal of temporary files of killed processes, and members of tars."""

import hashlib
import io
import os
import re
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_core.file_locks import is_file_of, try_lock, unlock

if TYPE_CHECKING:
    import tarfile

MAX_NAME_BYTES = 200
"""Most bytes of a file's name that are used in its temporary file's name: file systems allow 255."""
TEMPORARY = re.compile(r"\..+\.([0-9a-f]{6})-[a-z0-9_]{8}\.tmp")
"""Names of temporary files and folders: the final name, a digest of the host's name, and random letters."""
UNTOUCHED_SECONDS = 86_400.0
"""Age at which a temporary file is removed if locks cannot show whether it is in use (another host, no locks)."""
_UMASK_LOCK = threading.Lock()
CLEARED_FOLDERS: set[Path] = set()
"""Folders in which this process has removed leftovers."""


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends, remove it when the block fails.

    The file is flushed to the disk before it is renamed, so that a power cut leaves the old file or the new one. A full
    disk raises OSError (ENOSPC) from the block and the old file stays. Temporary files of killed processes are removed
    when a process first writes to the folder.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    clear_folder_once(path.parent)
    temporary, descriptor = lock_new_file(path)
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        # mkstemp makes a private file; give it the permissions that an ordinary file would have here.
        temporary.chmod(0o666 & ~current_umask())
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)
        unlock(descriptor)


@contextmanager
def temporary_folder(path: Path | str) -> Iterator[Path]:
    """Yield an empty folder beside `path`, which may be renamed to it; it is removed when the block ends.

    If this process is killed, the next one that writes beside `path` removes it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    clear_folder_once(path.parent)
    folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=temporary_prefix(path), suffix=".tmp"))
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try_lock(descriptor)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        unlock(descriptor)


def lock_new_file(path: Path) -> tuple[Path, int]:
    """A new temporary file beside `path`, and the descriptor that holds its lock while it is written."""
    while True:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=temporary_prefix(path), suffix=".tmp")
        temporary = Path(name)
        # another process may have removed it as a leftover before it was locked
        if try_lock(descriptor) is not False and is_file_of(temporary, descriptor):
            return temporary, descriptor
        unlock(descriptor)
        temporary.unlink(missing_ok=True)


def temporary_prefix(path: Path) -> str:
    host = hashlib.blake2b(socket.gethostname().encode(), digest_size=3).hexdigest()
    name = path.name
    while len(name.encode()) > MAX_NAME_BYTES:
        name = name[:-1]
    return f".{name}.{host}-"


def current_umask() -> int:
    """The permissions that new files of this process do not get; threads may ask at the same time."""
    with suppress(OSError, ValueError, StopIteration):  # Linux tells it without changing it
        lines = Path("/proc/thread-self/status").read_bytes().splitlines()
        return int(next(line for line in lines if line.startswith(b"Umask:")).split()[1], 8)
    with _UMASK_LOCK:  # else two threads could leave what the one has set for the other's question
        umask = os.umask(0)
        os.umask(umask)
        return umask


def clear_folder_once(folder: Path) -> None:
    """Remove leftovers of killed processes in a folder, the first time that this process writes there."""
    folder = folder.absolute()
    if folder not in CLEARED_FOLDERS:
        CLEARED_FOLDERS.add(folder)
        remove_leftovers(folder)


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove temporary files and folders of ended processes; those still being written are locked, and stay.

    Returns:
        The removed paths.
    """
    removed = []
    with suppress(OSError):  # a leftover that cannot be listed or removed does no harm
        names = [entry.name for entry in os.scandir(folder) if TEMPORARY.fullmatch(entry.name)]
        for name in sorted(names):
            with suppress(OSError):
                remove_leftover(folder / name)
                if not (folder / name).exists():
                    removed.append(folder / name)
    return removed


def remove_leftover(path: Path) -> None:
    is_folder = path.is_dir()
    access = os.O_RDONLY if is_folder else os.O_RDWR | os.O_NONBLOCK
    descriptor = os.open(path, access | getattr(os, "O_NOFOLLOW", 0))
    try:
        locked = try_lock(descriptor)
        # some network file systems have locks within one host only, and some have none
        if not (locked and path.name.startswith(temporary_prefix(final_path(path)))):
            locked = locked is not False and time.time() - path.lstat().st_mtime > UNTOUCHED_SECONDS
        if locked and is_file_of(path, descriptor):
            shutil.rmtree(path) if is_folder else path.unlink()
    finally:
        unlock(descriptor)


def final_path(temporary: Path) -> Path:
    """The final path of a temporary file or folder."""
    return temporary.with_name(temporary.name[1:].rsplit(".", 2)[0])


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk, if the file system can."""
    with suppress(OSError):  # some network file systems cannot; the file itself is complete either way
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def atomic_write_text(path: Path | str, text: str) -> None:
    """Write `text` (UTF-8) to `path` atomically.

    Bytes of a file name that are not UTF-8 become escapes (`\\udcff`), which JSON reads back as they were.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def add_member(tar: "tarfile.TarFile", name: str, content: bytes) -> None:
    """Add a file to a tar, without owner or time, so that equal content makes equal tars."""
    member = tar.tarinfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
