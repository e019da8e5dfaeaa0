"""Files that are either whole or absent, what killed processes left of such files, and members of tars."""

import hashlib
import io
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_core.file_locks import is_file_of, try_lock, unlock

if TYPE_CHECKING:
    import tarfile

LONGEST_NAME = 200
"""Characters of a file's name that its temporary file's name holds: file systems allow 255."""
TEMPORARY = re.compile(r"\..+\.([0-9a-f]{6})-[a-z0-9_]{8}\.tmp")
"""Names of temporary files and folders: what they become, a mark of the host, and random letters."""
UNTOUCHED_SECONDS = 86_400.0
"""After which a temporary file is taken for a leftover where locks cannot tell: of another host, or without locks."""
CLEARED: set[Path] = set()
"""Folders that this process has freed from leftovers."""


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it into place when the block ends, remove it when the block fails.

    The file is flushed to the disk before the move, so that a power cut leaves the old file or the new one. A full disk
    raises OSError (ENOSPC) from the block and leaves what was there before. What killed processes left in the folder is
    removed when a process first writes there.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    clear_once(path.parent)
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
    """Yield an empty folder beside `path`, to be moved there or left; gone when the block ends, and removed by the next
    process that makes one for `path` where this one is killed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    clear_once(path.parent)
    folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=temporary_prefix(path), suffix=".tmp"))
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try_lock(descriptor)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        unlock(descriptor)


def lock_new_file(path: Path) -> tuple[Path, int]:
    """A new temporary file beside `path`, and the descriptor that holds its lock for as long as it is written."""
    while True:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=temporary_prefix(path), suffix=".tmp")
        temporary = Path(name)
        # one that clears the folder may have taken it for a leftover in the moment before it was locked
        if try_lock(descriptor) is not False and is_file_of(temporary, descriptor):
            return temporary, descriptor
        unlock(descriptor)
        temporary.unlink(missing_ok=True)


def temporary_prefix(path: Path) -> str:
    host = hashlib.blake2b(socket.gethostname().encode(), digest_size=3).hexdigest()
    name = path.name
    while len(name.encode()) > LONGEST_NAME:
        name = name[:-1]
    return f".{name}.{host}-"


def current_umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def clear_once(folder: Path) -> None:
    """Remove what killed processes left in a folder, the first time that this process writes there."""
    folder = folder.absolute()
    if folder not in CLEARED:
        CLEARED.add(folder)
        remove_leftovers(folder)


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove temporary files and folders of processes that are gone; those still being written are locked, and stay.

    Returns:
        What was removed.
    """
    removed = []
    with suppress(OSError):  # what cannot be listed or removed does no harm
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
        # some network file systems lock within one host only, and some not at all
        if not (locked and path.name.startswith(temporary_prefix(owner_of(path)))):
            locked = locked is not False and time.time() - path.lstat().st_mtime > UNTOUCHED_SECONDS
        if locked and is_file_of(path, descriptor):
            shutil.rmtree(path) if is_folder else path.unlink()
    finally:
        unlock(descriptor)


def owner_of(temporary: Path) -> Path:
    """The path that a temporary file or folder was to become."""
    return temporary.with_name(temporary.name[1:].rsplit(".", 2)[0])


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut, where the file system can."""
    with suppress(OSError):  # some network file systems refuse it, and the file itself is whole either way
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def atomic_write_text(path: Path | str, text: str) -> None:
    """Write `text` (UTF-8) to `path` whole or not at all.

    Bytes of a file name that are no UTF-8 become escapes (`\\udcff`), which JSON reads back as they were.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def add_member(tar: "tarfile.TarFile", name: str, content: bytes) -> None:
    """A file into a tar, without owner or time, so that equal content makes equal tars."""
    member = tar.tarinfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
