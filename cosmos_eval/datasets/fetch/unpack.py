"""Unpacking an archive below the data root, so that a reader sees all of a folder or nothing.

Files are first written to a staging folder, each under a temporary name until it is whole, and moved to their places
when the archive has been read to its end without a fault. A killed process loses the file it was writing: the next one
keeps what is complete.
"""

import errno
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from cosmos_core.errors import RequestError
from cosmos_core.files import atomic_write_text
from cosmos_core.printable import printable
from cosmos_core.text_files import read_text
from cosmos_eval.datasets.fetch.archive_members import ArchiveMember, ArchiveReader
from cosmos_eval.datasets.fetch.errors import FetchError
from cosmos_eval.datasets.fetch.manifest import STATE_FOLDER
from cosmos_eval.datasets.fetch.moving import move_tree
from cosmos_eval.datasets.fetch.table import Unpack
from cosmos_eval.datasets.fetch.transfer import SPARE_BYTES
from cosmos_eval.progress import Reporter, Silent, report_if_slow

CHECK_EVERY = 256 * 10**6
"""Bytes between two looks at the free disk, where the archive does not say beforehand how much it holds."""
MAX_STATE_BYTES = 10_000
UNFINISHED = ".unfinished"
"""Name, in the staging folder, of the file that is being written."""


@dataclass(frozen=True)
class Unpacked:
    """What came out of an archive."""

    files: int
    size: int
    """Bytes of these files."""


def unpack_archive(
    archive: Path,
    unpack: Unpack,
    data_root: Path,
    staging: Path,
    sha256: str,
    *,
    before_move: Callable[[], None] = lambda: None,
    reporter: Reporter | None = None,
) -> Unpacked:
    """Unpack an archive to `data_root / unpack.into`.

    Args:
        unpack: the format and which members are wanted.
        staging: a folder of this archive's own for what is not complete, on the disk of the data root.
        sha256: of the archive, so that what an earlier call left of another archive is not used.
        before_move: called once the archive was read to its end without a fault, before a file is where readers look.

    Raises:
        FetchError: kind "archive": hostile, damaged, of another format, or without any wanted member; nothing of it is
            where a reader looks. Kind "disk": no room, or a file is in the way.
    """
    return complete_in_staging(
        staging,
        sha256,
        data_root / unpack.into,
        lambda files: _unpack_to(archive, unpack, files, reporter or Silent()),
        before_move,
    )


def complete_in_staging(
    staging: Path, sha256: str, target: Path, write: Callable[[Path], Unpacked], before_move: Callable[[], None]
) -> Unpacked:
    """Let `write` fill a staging folder, and move its files to `target` once they are complete.

    What an earlier call completed of the same content is not written again.

    Args:
        sha256: of the content that the files are made from.
        write: gets the folder for the files, which may hold some of an earlier call.
        before_move: called when all files are complete, before one is where readers look.

    Raises:
        FetchError: as `write` raises it; after kind "archive" the staging folder is gone. Kind "disk".
    """
    try:
        files = _prepare_staging(staging, sha256)
        written = _read_complete(staging)
        if written is None:
            written = write(files)
            _write_state(staging, sha256, written)
        before_move()
        if files.is_dir():  # not all was moved by an earlier call
            move_tree(files, target)
        shutil.rmtree(staging)
    except FetchError as error:
        if error.kind == "archive":
            shutil.rmtree(staging, ignore_errors=True)
        raise
    except OSError as error:
        raise disk_error(staging, error) from error
    return written


def _prepare_staging(staging: Path, sha256: str) -> Path:
    """The folder for the files, with what an earlier call completed of the same archive."""
    files = staging / "files"
    if _read_state(staging).get("archive") != sha256:
        if staging.exists():
            shutil.rmtree(staging)
        files.mkdir(parents=True)
        _write_state(staging, sha256, None)
    return files


def _unpack_to(archive: Path, unpack: Unpack, folder: Path, reporter: Reporter) -> Unpacked:
    """Write the wanted members below `folder`; those that are there whole are kept."""
    nested = unpack.format == "nested"
    reader = ArchiveReader(archive, unpack.format, unpack.only[0] if nested else "")
    patterns = () if nested else unpack.only
    written: dict[PurePosixPath, PurePosixPath] = {}  # path below `folder` -> path in the archive
    links: list[tuple[PurePosixPath, PurePosixPath]] = []
    size, until_check = 0, 0
    total = archive.stat().st_size
    if unpack.format == "zip":
        total = _require_room_for_zip(archive, patterns, folder) or 1
    with report_if_slow(reporter, f"unpacking {archive.name}", max(1, total // 10**6), "MB") as advance:
        shown = 0
        for member in reader.members():
            if patterns and not any(fnmatchcase(str(member.path), pattern) for pattern in patterns):
                continue
            path = PurePosixPath(member.path.name) if unpack.flatten else member.path
            if STATE_FOLDER in (part.casefold() for part in path.parts):
                raise reader.refuse(f"has {printable(str(path))}, in the folder that only fetching writes to")
            if path in written:
                raise reader.refuse(f"has two members for {printable(str(path))}")
            written[path] = member.path
            if member.target is not None:
                links.append((path, PurePosixPath(member.target.name) if unpack.flatten else member.target))
                continue
            if until_check <= 0:
                require_room(folder, max(member.size, 0))
                until_check = CHECK_EVERY
            count = _write_member(member, folder / path, folder / UNFINISHED, reader)
            size, until_check = size + count, until_check - count
            # how far a compressed tar was read is not known: what came out of it stands for it, up to its size
            done = (size if unpack.format == "zip" else min(reader.unpacked, total)) // 10**6
            if done > shown:
                advance(done - shown)
                shown = done
    for path, target in links:
        size += _copy_link(path, target, folder, reader)
    if not written:
        raise reader.refuse(f"has no member {' or '.join(patterns)}" if patterns else "is empty")
    return Unpacked(len(written), size)


def _write_member(member: ArchiveMember, path: Path, unfinished: Path, reader: ArchiveReader) -> int:
    """Write a file, unless it is there whole; its size."""
    try:
        if member.size >= 0 and path.is_file() and path.stat().st_size == member.size:
            return member.size
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as stream:
            for piece in member.content:
                stream.write(piece)
            size = stream.tell()
        if member.size >= 0 and size != member.size:
            raise reader.refuse(f"is damaged: {printable(path.name)} has {size:,} bytes, {member.size:,} announced")
        unfinished.replace(path)
    except (NotADirectoryError, IsADirectoryError, FileExistsError) as error:
        raise reader.refuse(f"has a file and a folder of one name ({printable(str(member.path))})") from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise reader.refuse(f"has a name that is too long: {printable(str(member.path))[:80]}...") from error
        raise
    return size


def _copy_link(path: PurePosixPath, target: PurePosixPath, folder: Path, reader: ArchiveReader) -> int:
    """A link becomes a copy of the file that it leads to, which must have been unpacked."""
    original = folder / target
    if not original.is_file():
        raise reader.refuse(f"has a link {printable(str(path))} to {printable(str(target))}, which it does not have")
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(original, folder / UNFINISHED)
    (folder / UNFINISHED).replace(folder / path)
    return original.stat().st_size


def _require_room_for_zip(archive: Path, patterns: tuple[str, ...], folder: Path) -> int:
    """Refuse a zip for which there is no room, before anything is written; bytes of the wanted members."""
    import zipfile

    try:
        with zipfile.ZipFile(archive) as opened:
            wanted = [
                info
                for info in opened.infolist()
                if not patterns or any(fnmatchcase(info.filename, pattern) for pattern in patterns)
            ]
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError):
        return 0  # the reader of members says what is wrong
    total = sum(info.file_size for info in wanted)
    honest = ArchiveReader(archive, "zip").limit
    if total <= honest:  # more is refused by the reader as a bomb, whatever room there is
        there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        require_room(folder, max(0, total - there))
    return total


def require_room(folder: Path, needed: int) -> None:
    """FetchError of kind "disk" where a folder's disk has not so many bytes free, and some to spare."""
    free = shutil.disk_usage(folder).free
    if needed + SPARE_BYTES > free:
        raise FetchError(
            "disk",
            f"{folder} has {free / 1e9:.1f} GB free, and {needed / 1e9:.1f} GB and {SPARE_BYTES / 1e9:.1f} GB to spare "
            "are needed to unpack; make room, or give another --data-root",
        )


def disk_error(folder: Path, error: OSError) -> FetchError:
    """The error for a disk that cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return FetchError("disk", f"no room is left for {folder}; make room and fetch again: what is complete is kept")
    where = error.filename or folder
    return FetchError("disk", f"cannot write {where}: {error.strerror or error}; give another --data-root")


def _read_state(staging: Path) -> dict[str, object]:
    try:
        state = json.loads(read_text(staging / "state.json", MAX_STATE_BYTES))
    except (OSError, RequestError, ValueError, RecursionError):
        return {}
    return state if isinstance(state, dict) else {}


def _read_complete(staging: Path) -> Unpacked | None:
    """What an earlier call unpacked to the end, if it did."""
    state = _read_state(staging)
    files, size = state.get("files"), state.get("size")
    return Unpacked(files, size) if isinstance(files, int) and isinstance(size, int) else None


def _write_state(staging: Path, sha256: str, unpacked: Unpacked | None) -> None:
    state: dict[str, object] = {"archive": sha256}
    if unpacked is not None:
        state |= {"files": unpacked.files, "size": unpacked.size}
    atomic_write_text(staging / "state.json", json.dumps(state) + "\n")
