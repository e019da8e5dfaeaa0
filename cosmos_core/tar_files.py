"""Members of a tar, read strictly: anything but a whole tar is an error with its position, never a shorter archive.

Python's tarfile takes a damaged header, or the end of a file that was cut, for the end of the archive, follows negative
sizes, and checks no gzip checksum in a stream. Here headers have to be valid (POSIX.1-1988 ustar, pax of POSIX.1-2001,
GNU and V7), two empty blocks have to end the archive, and only padding may follow.
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
"""Most bytes of padding after the end; GNU tar's largest usual record. More means that the file was never filled."""
MOST_EXTENSION = 2**20
"""Most bytes of a long name or of a pax header."""
MOST_CONTENT = 2**29
"""Most bytes of a member that is read into memory."""
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


class TarError(ValueError):
    """Why a file is not a whole tar, without its name: the reader puts the name before it."""


class OtherFileKind(TarError):
    """The file is of another kind; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a tar, as its header describes it."""

    name: str
    offset: int
    """Position of its content in the tar, in bytes."""
    size: int
    kind: str = ""
    """Empty for a regular file, else what it is: `a folder`, `a symbolic link`, `sparse`, ..."""
    target: str = ""
    """Of a link: where it leads, as the tar says it."""

    def refusal(self) -> str:
        """Why its content cannot be read, as words after its name; empty if it can."""
        if self.kind:
            advice = ADVICE.get(self.kind)
            return f"is {self.kind} in the tar" + (f": {advice}" if advice else "")
        return f"has {self.size:,} bytes, more than {MOST_CONTENT:,}" if self.size > MOST_CONTENT else ""


class ByteSource(Protocol):
    """Random or forward access to the bytes of a tar."""

    def at(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on; fewer only at the end."""

    def ends_before(self, offset: int) -> bool:
        """Whether it is known to be shorter than `offset` bytes."""


class LocalBytes:
    """A file on a disk, with random access."""

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
    """A stream, which is read once and forward: offsets must not decrease."""

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


def ignore_lone_block(_: int) -> None:
    """The default of `on_lone_block`: does nothing."""


def members(source: ByteSource, on_lone_block: Callable[[int], None] = ignore_lone_block) -> Iterator[Member]:
    """The members of a tar in order; only headers are read.

    A member's content is `source.at(member.offset, member.size)`; of a `StreamBytes` it must be read before the next
    member is asked for. Links, devices, folders and sparse files have a `kind`. After the last one, all padding is
    read.

    Args:
        on_lone_block: called with the position of the end if it has one empty block (or a part of one) and not two. All
            members before it are whole; GNU tar reads such archives too, with a warning ("A lone zero block at 12").

    Raises:
        TarError: not a tar, a header with a wrong checksum or impossible numbers, a member that is longer than the
            file, an end without the two empty blocks, or data after them; with the position in bytes.
        OSError, EOFError, zlib.error: raised by the source.
    """
    offset, extension_fields = 0, dict[str, Any]()
    while True:
        block = source.at(offset, BLOCK)
        if block == EMPTY and not extension_fields:
            if check_padding(source, offset + BLOCK) < BLOCK:
                on_lone_block(offset)
            return
        if len(block) < BLOCK:
            if block and offset and not extension_fields and not block.strip(b"\0"):
                on_lone_block(offset)
                return
            raise TarError(cut_short_message(offset)) if offset else not_a_tar(block)
        kind, size = parse_header(block, offset)
        content = offset + BLOCK
        if kind in (b"x", b"X", b"g", b"L", b"K"):
            extension_fields |= read_extension(source, kind, content, size, offset)
            offset = content + round_up_to_block(size)
            continue
        name = extension_fields.get("path") or header_name(block, kind)
        size = extension_fields.get("size", size)
        target = (extension_fields.get("linkpath") or decode_name(block[157:257])) if kind in LINKS else ""
        sparse = kind == b"S" or any(key.startswith("GNU.sparse.") for key in extension_fields)
        while kind == b"S" and block[482 if content == offset + BLOCK else 504]:
            block = source.at(content, BLOCK)
            content += BLOCK
            if len(block) < BLOCK:
                raise TarError(cut_short_message(content))
        extension_fields = {}
        if ".." in name and ".." in PurePosixPath(name).parts:
            raise TarError(f"the name {printable(name)!r} at byte {offset:,} leads out of the tar: pack it again")
        member_kind = "sparse" if sparse else kind_of_member(kind, name)
        if kind in LINKS or kind in OTHERS:  # they have no content, whatever their size field says
            size = 0
        if source.ends_before(content + size):
            yield Member(
                name, content, size, "cut short"
            )  # given out, so that the sample before it is known to be complete
            raise TarError(f"it ends within {printable(name)} (at byte {content:,}, {size:,} bytes): it was cut short")
        yield Member(name, content, size, member_kind, target)
        offset = content + round_up_to_block(size)


def kind_of_member(kind: bytes, name: str) -> str:
    if kind == b"\0" and name.endswith("/"):
        return "a folder"
    return LINKS.get(kind) or OTHERS.get(kind) or ("" if kind in FILES else f"of type {kind!r}")


def parse_header(block: bytes, offset: int) -> tuple[bytes, int]:
    """Type and size of a member by its header; TarError if it is damaged."""
    try:
        stored_sum, size = parse_number(block[148:156]), parse_number(block[124:136])
    except ValueError as error:
        raise damaged_header(block, offset, str(error)) from error
    computed_sum = sum(block) - sum(block[148:156]) + 8 * 32
    if stored_sum != computed_sum:
        other_bytes = block[:148] + block[156:]
        if stored_sum != computed_sum - 256 * sum(
            byte > 127 for byte in other_bytes
        ):  # some old writers summed signed bytes
            raise damaged_header(block, offset, "its checksum is wrong")
    if size < 0:
        raise damaged_header(block, offset, f"its size is {size:,}")
    return block[156:157], size


def damaged_header(block: bytes, offset: int, reason: str) -> TarError:
    if offset == 0:
        return not_a_tar(block)
    return TarError(f"the header at byte {offset:,} is damaged ({reason}), or data that are not a tar follow there")


def not_a_tar(start: bytes) -> TarError:
    """The error for a file that is not a tar, by its first bytes."""
    if not start:
        return TarError("it is empty")
    impostor = impostor_of(start)
    if impostor:
        return OtherFileKind(f"it is {impostor}")
    compressed_by = compression(start)
    return (
        OtherFileKind(f"it is compressed ({compressed_by}): unpack it first") if compressed_by else TarError(NOT_A_TAR)
    )


def compression(start: bytes) -> str:
    """How a file is compressed, by its first bytes; empty if it is not, or in an unknown way."""
    return next((name for mark, name in COMPRESSED.items() if start.startswith(mark)), "")


def cut_short_message(offset: int) -> str:
    return f"it breaks off at byte {offset:,}, without the two empty blocks that end a tar: it was cut short"


def check_padding(source: ByteSource, offset: int) -> int:
    """Bytes of padding after the first empty block of the end; TarError if anything else follows."""
    trailing = source.at(offset, MOST_PADDING + 1)
    data = len(trailing) - len(trailing.lstrip(b"\0"))
    if data < len(trailing):
        raise TarError(
            f"data follow the end of the archive, from byte {offset + data:,} on: tars are not joined by cat; pack "
            "them as one (tar --concatenate), or keep them apart"
        )
    if len(trailing) > MOST_PADDING:
        raise TarError(
            f"nothing but zeros follows byte {offset:,}, for more than {MOST_PADDING:,} bytes: it was never written to "
            "the end"
        )
    return len(trailing)


def round_up_to_block(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def parse_number(field: bytes) -> int:
    """A number of a header: octal digits, or base 256; ValueError for anything else."""
    if field[0] in (0x80, 0xFF):
        return int.from_bytes(field[1:], "big") - (256 ** (len(field) - 1) if field[0] == 0xFF else 0)
    digits = field.partition(b"\0")[0].strip()
    if not _OCTAL.fullmatch(digits):
        raise ValueError(f"{digits!r} is not a number")
    return int(digits or b"0", 8)


def decode_name(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def header_name(block: bytes, kind: bytes) -> str:
    name, prefix = decode_name(block[:100]), decode_name(block[345:500])
    if prefix and kind != b"S" and block[257:265] != b"ustar  \0":  # GNU tar's own format has times there, not a prefix
        name = f"{prefix}/{name}"
    return name


def read_extension(source: ByteSource, kind: bytes, content: int, size: int, offset: int) -> dict[str, Any]:
    """The fields that a long name or a pax header sets for the next member: `path`, `linkpath`, `size`, and those of
    sparse files.

    Raises:
        TarError: larger than any writer makes, cut short, or malformed.
    """
    if size > MOST_EXTENSION:
        raise TarError(f"the header at byte {offset:,} is followed by {size:,} bytes of names, which no writer makes")
    content_bytes = source.at(content, size)
    if len(content_bytes) < size:
        raise TarError(cut_short_message(content + len(content_bytes)))
    if kind == b"L":
        return {"path": decode_name(content_bytes)}
    if kind == b"K":
        return {"linkpath": decode_name(content_bytes)}
    fields = pax_records(content_bytes, offset)
    if kind == b"g":
        if {"path", "size"} & fields.keys():
            raise TarError(f"the header at byte {offset:,} gives one name or size to all members")
        return {}
    if "GNU.sparse.name" in fields:
        fields["path"] = fields["GNU.sparse.name"]
    if "size" in fields:
        if not _DECIMAL.fullmatch(fields["size"].encode("utf-8", "surrogateescape")):
            raise TarError(f"the header at byte {offset:,} gives the size {printable(fields['size'][:30])!r}")
        fields["size"] = int(fields["size"])
    if "path" in fields:
        fields["path"] = fields["path"].rstrip("/")
    return fields


def pax_records(content: bytes, offset: int) -> dict[str, Any]:
    """Keys and values of a pax header. Each of its records is "LENGTH KEY=VALUE\\n"."""
    records: dict[str, Any] = {}
    position = 0
    while position < len(content) and content[position]:
        length, space, _ = content[position : position + 20].partition(b" ")
        end = position + int(length) if space and _DECIMAL.fullmatch(length) else 0
        record = content[position + len(length) + 1 : end - 1]
        key, equals, value = record.partition(b"=")
        if not equals or end > len(content) or content[end - 1 : end] != b"\n":
            raise TarError(f"the pax header at byte {offset:,} is damaged")
        records[key.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
        position = end
    return records


def is_side_file(name: str) -> bool:
    """Whether a member is metadata of macOS (`__MACOSX/`, `._x`, `.DS_Store`) or of webdataset (`__x__/`)."""
    path = PurePosixPath(name)
    top = path.parts[0] if path.parts else ""
    return top == "__MACOSX" or (top.startswith("__") and top.endswith("__")) or path.name.startswith(".")
