"""Members of a tar, read strictly: what is not a whole tar is a fault with its place, and never a shorter archive.

Python's tarfile takes a damaged header, or the end of a file that was cut, for the end of the archive, follows negative
sizes, and checks no gzip checksum in a stream. Here headers have to be sound (POSIX.1-1988 ustar, pax of POSIX.1-2001,
GNU and V7), two empty blocks end the archive as every writer makes them, and nothing but padding follows.
"""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Protocol

from cosmos_core.printable import printable
from cosmos_core.text_files import impostor_of

BLOCK = 512
EMPTY = bytes(BLOCK)
RECORD = 20 * BLOCK
NOT_A_TAR = "it does not begin as a tar does"
LONE_BLOCK = (
    "one empty block at the end where a tar has two, and may be cut short: compare the size with the original's"
)
MOST_PADDING = 2**20
"""Bytes of padding after the end; GNU tar's largest usual record. More is a file that was never filled."""
MOST_EXTENSION = 2**20
"""Bytes of a long name or of a pax header."""
MOST_CONTENT = 2**29
"""Bytes of a member that is read into memory."""
LINKS = {b"1": "a hard link", b"2": "a symbolic link"}
OTHERS = {b"3": "a device", b"4": "a device", b"5": "a folder", b"6": "a named pipe"}
FILES = (b"0", b"\0", b"7")
ADVICE = {
    "a hard link": "pack with --hard-dereference",
    "a symbolic link": "pack with --dereference",
    "sparse": "pack without --sparse",
}
COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}
_OCTAL = re.compile(rb"[0-7]*")
_DECIMAL = re.compile(rb"[0-9]{1,18}")


class TarFault(ValueError):
    """Why something is no whole tar, in a line that whoever read it begins with the name of the file."""


class AnotherFile(TarFault):
    """Something else in place of a tar, which says itself what to do."""


@dataclass(frozen=True, slots=True)
class Member:
    """What one header of a tar describes."""

    name: str
    offset: int
    """Where its content begins."""
    size: int
    kind: str = ""
    """What it is in place of a file that can be read: `a folder`, `a symbolic link`, `sparse`; empty for a file."""

    def refusal(self) -> str:
        """Why its content cannot be had, in words that follow its name; empty where it can."""
        if self.kind:
            advice = ADVICE.get(self.kind)
            return f"is {self.kind} in the tar" + (f": {advice}" if advice else "")
        return f"has {self.size:,} bytes, more than {MOST_CONTENT:,}" if self.size > MOST_CONTENT else ""


class Source(Protocol):
    """Bytes by their place."""

    def at(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on, fewer only where the bytes end."""

    def ends_before(self, offset: int) -> bool:
        """Whether it is known to have fewer bytes than `offset`."""


class LocalBytes:
    """A file on a disk, in which one may go anywhere."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.size = os.fstat(file.fileno()).st_size

    def at(self, offset: int, size: int) -> bytes:
        if offset >= self.size:
            return b""
        self.file.seek(offset)
        return self.file.read(size)

    def ends_before(self, offset: int) -> bool:
        return self.size < offset


class StreamBytes:
    """A stream, which is read once and forward: offsets must not fall behind what was read."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.position = 0
        self.ended = False

    def at(self, offset: int, size: int) -> bytes:
        while self.position < offset and self._read(min(offset - self.position, 2**16)):
            pass
        if self.position < offset:
            return b""
        parts = []
        while size and (part := self._read(min(size, 2**20))):
            parts.append(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def ends_before(self, offset: int) -> bool:
        return self.ended and self.position < offset

    def _read(self, size: int) -> bytes:
        part: bytes = self.stream.read(size)
        self.position += len(part)
        self.ended = not part
        return part


def is_silent(_: int) -> None:
    """Nobody asks for what is odd but whole."""


def members(source: Source, on_lone_block: Callable[[int], None] = is_silent) -> Iterator[Member]:
    """What each header of a tar describes, in order; only headers are read.

    Of a `StreamBytes`, a member's content (`source.at(member.offset, member.size)`) may be read before the next is
    asked for. Links, devices, folders and sparse files are told by their kind. After the last, all padding is read.

    Args:
        on_lone_block: called with the place of an end that has one empty block in place of two, or a part of one. Every
            member before it is whole, and GNU tar reads such archives too, with a warning ("A lone zero block at 12").

    Raises:
        TarFault: no tar, a header whose checksum is wrong or whose numbers make no sense, a member that goes on beyond
            the end, an end without the two empty blocks, or data after them; with its place in bytes.
        OSError, EOFError, zlib.error: what the source raises.
    """
    offset, given = 0, dict[str, Any]()
    while True:
        block = source.at(offset, BLOCK)
        if block == EMPTY and not given:
            if check_padding(source, offset + BLOCK) < BLOCK:
                on_lone_block(offset)
            return
        if len(block) < BLOCK:
            if block and offset and not given and not block.strip(b"\0"):
                on_lone_block(offset)
                return
            raise TarFault(cut_short(offset)) if offset else no_tar(block)
        kind, size = checked_header(block, offset)
        content = offset + BLOCK
        if kind in (b"x", b"X", b"g", b"L", b"K"):
            given |= extension(source, kind, content, size, offset)
            offset = content + padded(size)
            continue
        name = given.get("path") or header_name(block, kind)
        size = given.get("size", size)
        sparse = kind == b"S" or any(key.startswith("GNU.sparse.") for key in given)
        while kind == b"S" and block[482 if content == offset + BLOCK else 504]:
            block = source.at(content, BLOCK)
            content += BLOCK
            if len(block) < BLOCK:
                raise TarFault(cut_short(content))
        given = {}
        if ".." in name and ".." in PurePosixPath(name).parts:
            raise TarFault(f"the name {printable(name)!r} at byte {offset:,} leads out of the tar: pack it again")
        here = "sparse" if sparse else kind_of_member(kind, name)
        if kind in LINKS or kind in OTHERS:  # whatever their size says, nothing of them follows
            size = 0
        if source.ends_before(content + size):
            yield Member(name, content, size, "cut short")  # the sample before it is whole
            raise TarFault(f"it ends within {printable(name)} (at byte {content:,}, {size:,} bytes): it was cut short")
        yield Member(name, content, size, here)
        offset = content + padded(size)


def kind_of_member(kind: bytes, name: str) -> str:
    if kind == b"\0" and name.endswith("/"):
        return "a folder"
    return LINKS.get(kind) or OTHERS.get(kind) or ("" if kind in FILES else f"of type {kind!r}")


def checked_header(block: bytes, offset: int) -> tuple[bytes, int]:
    """Type and size of a member by its header; TarFault where it is damaged."""
    try:
        stated, size = number(block[148:156]), number(block[124:136])
    except ValueError as error:
        raise damaged(block, offset, str(error)) from error
    summed = sum(block) - sum(block[148:156]) + 8 * 32
    if stated != summed:
        rest = block[:148] + block[156:]
        if stated != summed - 256 * sum(byte > 127 for byte in rest):  # some writers have summed signed bytes
            raise damaged(block, offset, "its checksum is wrong")
    if size < 0:
        raise damaged(block, offset, f"its size is {size:,}")
    return block[156:157], size


def damaged(block: bytes, offset: int, reason: str) -> TarFault:
    if offset == 0:
        return no_tar(block)
    return TarFault(f"the header at byte {offset:,} is damaged ({reason}), or data that are no tar follow there")


def no_tar(start: bytes) -> TarFault:
    """What a file is, by its first bytes, that should be a tar."""
    if not start:
        return TarFault("it is empty")
    impostor = impostor_of(start)
    if impostor:
        return AnotherFile(f"it is {impostor}")
    packed = compression(start)
    return AnotherFile(f"it is compressed ({packed}): unpack it first") if packed else TarFault(NOT_A_TAR)


def compression(start: bytes) -> str:
    """How a file is compressed, by its first bytes; empty where it is not, or not known."""
    return next((name for mark, name in COMPRESSED.items() if start.startswith(mark)), "")


def cut_short(offset: int) -> str:
    return f"it breaks off at byte {offset:,}, without the two empty blocks that end a tar: it was cut short"


def check_padding(source: Source, offset: int) -> int:
    """Bytes of padding behind the first empty block of the end; TarFault where anything else follows it."""
    rest = source.at(offset, MOST_PADDING + 1)
    data = len(rest) - len(rest.lstrip(b"\0"))
    if data < len(rest):
        raise TarFault(
            f"data follow the end of the archive, from byte {offset + data:,} on: tars are not joined by cat; pack "
            "them as one (tar --concatenate), or keep them apart"
        )
    if len(rest) > MOST_PADDING:
        raise TarFault(
            f"nothing but zeros follows byte {offset:,}, for more than {MOST_PADDING:,} bytes: it was never written to "
            "the end"
        )
    return len(rest)


def padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def number(field: bytes) -> int:
    """A number of a header: octal digits, or base 256; ValueError for anything else."""
    if field[0] in (0x80, 0xFF):
        return int.from_bytes(field[1:], "big") - (256 ** (len(field) - 1) if field[0] == 0xFF else 0)
    digits = field.partition(b"\0")[0].strip()
    if not _OCTAL.fullmatch(digits):
        raise ValueError(f"{digits!r} is no number")
    return int(digits or b"0", 8)


def text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def header_name(block: bytes, kind: bytes) -> str:
    name, prefix = text(block[:100]), text(block[345:500])
    if prefix and kind != b"S" and block[257:265] != b"ustar  \0":  # where GNU tar's own format has times
        name = f"{prefix}/{name}"
    return name


def extension(source: Source, kind: bytes, content: int, size: int, offset: int) -> dict[str, Any]:
    """What a long name or a pax header says of the member behind it: `path`, `size`, and what there is of sparse files.

    Raises:
        TarFault: larger than any that is written, cut short, or not made as it should be.
    """
    if size > MOST_EXTENSION:
        raise TarFault(f"the header at byte {offset:,} is followed by {size:,} bytes of names, which no writer makes")
    found = source.at(content, size)
    if len(found) < size:
        raise TarFault(cut_short(content + len(found)))
    if kind == b"L":
        return {"path": text(found)}
    if kind == b"K":
        return {}
    said = pax_records(found, offset)
    if kind == b"g":
        if {"path", "size"} & said.keys():
            raise TarFault(f"the header at byte {offset:,} gives one name or size to all members")
        return {}
    if "GNU.sparse.name" in said:
        said["path"] = said["GNU.sparse.name"]
    if "size" in said:
        if not _DECIMAL.fullmatch(said["size"].encode("utf-8", "surrogateescape")):
            raise TarFault(f"the header at byte {offset:,} gives the size {printable(said['size'][:30])!r}")
        said["size"] = int(said["size"])
    if "path" in said:
        said["path"] = said["path"].rstrip("/")
    return said


def pax_records(found: bytes, offset: int) -> dict[str, Any]:
    """Keys and values of a pax header, each record of which is "LENGTH KEY=VALUE\\n"."""
    said: dict[str, Any] = {}
    place = 0
    while place < len(found) and found[place]:
        length, blank, _ = found[place : place + 20].partition(b" ")
        end = place + int(length) if blank and _DECIMAL.fullmatch(length) else 0
        record = found[place + len(length) + 1 : end - 1]
        key, equals, value = record.partition(b"=")
        if not equals or end > len(found) or found[end - 1 : end] != b"\n":
            raise TarFault(f"the pax header at byte {offset:,} is damaged")
        said[key.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
        place = end
    return said


def is_side_file(name: str) -> bool:
    """Whether a member is no data: what macOS adds (`__MACOSX/`, `._x`, `.DS_Store`), webdataset's own (`__x__/`)."""
    inside = PurePosixPath(name)
    top = inside.parts[0] if inside.parts else ""
    return top == "__MACOSX" or (top.startswith("__") and top.endswith("__")) or inside.name.startswith(".")
