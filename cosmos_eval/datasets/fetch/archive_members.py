"""The members of the archives that datasets are published in, one after the other, each checked before it is written.

An archive from the internet is input: a path that leaves its folder, a link that does, a device or an encrypted member
is refused, and so is more content than an archive of that size can honestly have. Links within an archive are given
out as what they are; `unpack` copies the file that they lead to.
"""

import bz2
import errno
import gzip
import lzma
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO

from cosmos_core import tar_files
from cosmos_core.printable import printable
from cosmos_eval.datasets.dataset_checks import is_outside_folder
from cosmos_eval.datasets.fetch.errors import FetchError

LARGEST_RATIO = 100
"""Most bytes that one byte of an archive may become: text shrinks to a tenth; only empty pages shrink to less."""
ALLOWANCE = 100 * 10**6
"""Bytes that any archive may become, however small it is."""
MOST_MEMBERS = 5_000_000
PIECE = 1 << 20
DEVICES = ("a device", "a named pipe")


@dataclass(frozen=True)
class ArchiveMember:
    """A file of an archive, or a link to one."""

    path: PurePosixPath
    """As the archive has it, without `.`; it does not leave its folder."""
    size: int
    content: Iterator[bytes] = field(compare=False)
    """Pieces of the content, to be read before the next member is asked for, or not at all."""
    target: PurePosixPath | None = None
    """Of a link: the path in the archive that it leads to."""


class ArchiveReader:
    """One pass over an archive.

    Args:
        path: the archive.
        kind: `zip`, `tar`, `gz` or `nested` (see `cosmos_eval.datasets.fetch.table.Unpack`).
        inner: of `nested`: a pattern of the one member that is a tar.
    """

    def __init__(self, path: Path, kind: str, inner: str = "") -> None:
        self.path, self.kind, self.inner = path, kind, inner
        self.limit = LARGEST_RATIO * path.stat().st_size + ALLOWANCE
        self.unpacked = 0

    def members(self) -> Iterator[ArchiveMember]:
        """All files and links, in order; folders and the metadata of macOS are left out.

        Raises:
            FetchError: kind "archive": hostile, damaged or of another format; names the archive.
        """
        with self._errors_in_one_line():
            for count, member in enumerate(self._members()):
                if count >= MOST_MEMBERS:
                    raise self.refuse(f"has more than {MOST_MEMBERS:,} members")
                if not is_of_macos(member.path):
                    yield replace(member, content=self._guarded(member.content))

    def refuse(self, problem: str) -> FetchError:
        return FetchError(
            "archive", f"{self.path.name} {problem}; nothing of it was used, fetch it from another source"
        )

    def _guarded(self, content: Iterator[bytes]) -> Iterator[bytes]:
        with self._errors_in_one_line():
            yield from content

    @contextmanager
    def _errors_in_one_line(self) -> Iterator[None]:
        try:
            yield
        except FetchError:
            raise
        except (tar_files.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError) as error:
            raise self.refuse(f"is damaged: {printable(str(error) or 'it ends too early')}") from error
        except OSError as error:
            # of the disk; but gzip and bz2 say without a number that data are damaged, and an offset that a damaged zip
            # names is an invalid argument of the system
            if error.errno not in (None, errno.EINVAL, errno.EOVERFLOW):
                raise
            raise self.refuse(f"is damaged: {printable(str(error))}") from error
        except (
            NotImplementedError,
            RuntimeError,
            ValueError,
        ) as error:  # a method of compression, an impossible offset
            raise self.refuse(f"cannot be read: {printable(str(error))}") from error

    def _members(self) -> Iterator[ArchiveMember]:
        if self.kind == "gz":
            with gzip.open(self.path) as stream:
                name = self._checked_path(self.path.name.removesuffix(".gz") or "content")
                yield ArchiveMember(name, -1, self._counted(stream))
        elif self.kind == "tar":
            with self.path.open("rb") as file:
                yield from self._tar_members(file)
        else:
            with zipfile.ZipFile(self.path) as archive:
                if self.kind == "nested":
                    with archive.open(self._inner_member(archive)) as inner:
                        yield from self._tar_members(inner)
                        for _ in self._counted(inner):  # to its end, where its checksum is compared
                            pass
                else:
                    yield from self._zip_members(archive)

    def _inner_member(self, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
        from fnmatch import fnmatchcase

        files = (info for info in self._zip_infos(archive) if not info.is_dir())
        fitting = [info for info in files if fnmatchcase(info.filename, self.inner)]
        if len(fitting) != 1:
            raise self.refuse(f"has {len(fitting)} members {self.inner}, expected one")
        return fitting[0]

    def _zip_infos(self, archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
        """The entries of a zip, all of which must have a name: `is_dir` raises an IndexError for one without."""
        infos = archive.infolist()
        if not all(info.filename for info in infos):
            raise self.refuse("is damaged: it has a member without a name")
        return infos

    def _zip_members(self, archive: zipfile.ZipFile) -> Iterator[ArchiveMember]:
        for info in self._zip_infos(archive):
            if info.is_dir():
                continue
            path = self._checked_path(info.filename)
            if info.flag_bits & 1:
                raise self.refuse(f"is encrypted ({printable(info.filename)})")
            mode = info.external_attr >> 16
            kind = stat.S_IFMT(mode)
            if kind == stat.S_IFLNK:
                if info.file_size > 4096:
                    raise self.refuse(f"has a link {printable(info.filename)} that is not a path")
                target = archive.read(info).decode("utf-8", "surrogateescape")
                yield ArchiveMember(path, 0, iter(()), self._checked_target(path, target, is_hard=False))
            elif kind not in (0, stat.S_IFREG):
                raise self.refuse(f"has {printable(info.filename)}, which is not a file")
            else:
                self._require_honest(info.file_size)
                yield ArchiveMember(path, info.file_size, self._zip_content(archive, info))

    def _zip_content(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
        with archive.open(info) as stream:
            yield from self._counted(stream)

    def _tar_members(self, file: IO[bytes]) -> Iterator[ArchiveMember]:
        with decompressed(file) as stream:
            source = tar_files.StreamBytes(_Counted(self, stream))
            for member in tar_files.members(source):
                if member.kind == "a folder":
                    continue
                path = self._checked_path(member.name)
                if member.kind in tar_files.LINKS.values():
                    target = self._checked_target(path, member.target, is_hard=member.kind == "a hard link")
                    yield ArchiveMember(path, 0, iter(()), target)
                elif member.kind:
                    raise self.refuse(f"has {printable(member.name)}, which is {member.kind}")
                else:
                    yield ArchiveMember(path, member.size, tar_content(source, member))

    def _checked_path(self, name: str) -> PurePosixPath:
        """A path that stays below the folder it is unpacked to."""
        if is_outside_folder(name):
            raise self.refuse(f"has a member {printable(name)[:200]!r} that leads out of its folder; it is refused")
        path = PurePosixPath(name.replace("\\", "/"))  # zips of Windows have both
        if not path.parts:
            raise self.refuse("has a member without a name")
        return path

    def _checked_target(self, path: PurePosixPath, target: str, is_hard: bool) -> PurePosixPath:
        """Where in the archive a link leads; a symbolic one counts from its own folder."""
        parts: list[str] = [] if is_hard else list(path.parent.parts)
        outside = not target or "\0" in target or PurePosixPath(target).is_absolute()
        for part in PurePosixPath(target).parts:
            if part == ".." and not parts:
                outside = True
            elif part == "..":
                parts.pop()
            else:
                parts.append(part)
        if outside or not parts:
            raise self.refuse(f"has a link {printable(str(path))[:100]!r} that leads out of its folder; it is refused")
        return PurePosixPath(*parts)

    def _counted(self, stream: Any) -> Iterator[bytes]:
        while piece := stream.read(PIECE):
            self.count(len(piece))
            yield piece

    def count(self, size: int) -> None:
        """Add to what was unpacked; more than is honest ends it."""
        self.unpacked += size
        self._require_honest(0)

    def _require_honest(self, more: int) -> None:
        if self.unpacked + more > self.limit:
            raise self.refuse(f"becomes more than {self.limit:,} bytes, over {LARGEST_RATIO} times its size")


class _Counted:
    """A stream whose bytes count, whether they are used or skipped."""

    def __init__(self, reader: ArchiveReader, stream: Any) -> None:
        self.reader, self.stream = reader, stream

    def read(self, size: int) -> bytes:
        piece: bytes = self.stream.read(size)
        self.reader.count(len(piece))
        return piece


def tar_content(source: tar_files.StreamBytes, member: tar_files.Member) -> Iterator[bytes]:
    """The content of a member of a stream, in pieces."""
    offset, left = member.offset, member.size
    while left:
        piece = source.at(offset, min(left, PIECE))
        if not piece:
            raise tar_files.TarError(f"it ends within {printable(member.name)}: it was cut short")
        yield piece
        offset, left = offset + len(piece), left - len(piece)


@contextmanager
def decompressed(file: IO[bytes]) -> Iterator[BinaryIO]:
    """The stream of a tar, whatever it is compressed with (gzip, bzip2, xz), by its first bytes."""
    method = tar_files.compression(file.read(8))
    file.seek(0)
    openers: dict[str, Callable[..., Any]] = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}
    if method not in openers:
        yield file  # type: ignore[misc]
        return
    with openers[method](file) as opened:
        yield opened


def is_of_macos(path: PurePosixPath) -> bool:
    """Whether a member is metadata of macOS: readers would take `._0001.jpg` for an image."""
    return "__MACOSX" in path.parts or path.name.startswith("._") or path.name == ".DS_Store"
