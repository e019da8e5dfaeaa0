"""Files that are either whole or absent, and members of tars."""

import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tarfile


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it into place when the block ends, remove it when the block fails.

    The file is flushed to the disk before the move, so that a power cut leaves the old file or the new one. A full disk
    raises OSError (ENOSPC) from the block and leaves what was there before.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        # mkstemp makes a private file; give it the permissions that an ordinary file would have here.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


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
