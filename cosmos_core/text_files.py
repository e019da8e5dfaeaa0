"""Reading text files of users: only regular files of limited size, in UTF-8 with or without a byte order mark."""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

from cosmos_core.errors import RequestError

LARGEST_TEXT = 64 * 2**20
"""Most bytes of a text file, by default."""
_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
_HTML = (b"<!doctype html", b"<html", b"<head", b"<body")
_XML = (b"<?xml", b"<error>", b"<!--", b"<svg")
_NOT_FOUND = (b"404: not found", b"entry not found")
"""Plain-text answers of some servers (GitHub, Hugging Face Hub) that were saved in place of the file."""
_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


def open_regular(path: Path | str) -> BufferedReader:
    """Open a regular file for reading; never blocks.

    Raises:
        RequestError: a named pipe, a device or a socket, which could block forever.
        OSError: it cannot be opened, or is a folder.
    """
    _refuse_irregular(path, os.stat(path).st_mode)  # noqa: PTH116 - a device may act when it is opened
    # O_NONBLOCK: if a pipe has replaced the file meanwhile, opening it does not block
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        _refuse_irregular(path, os.fstat(descriptor).st_mode)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def kind_of(path: Path | str) -> str:
    """The kind of a path that is not a regular file, in words: `a folder`, `a named pipe`, ...; empty for a regular
    file and for nothing."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - any name
    except FileNotFoundError:
        return "a link to nothing" if os.path.islink(path) else ""  # noqa: PTH114 - any name
    except (OSError, ValueError):
        return ""
    if stat.S_ISDIR(mode):
        return "a folder"
    return "" if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "no regular file")


def _refuse_irregular(path: Path | str, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "no regular file")
        raise RequestError(f"{path} is {kind}, not a regular file; give the path of a file")


def read_content(path: Path | str, largest: int = LARGEST_TEXT) -> bytes:
    """The bytes of a regular file of at most `largest` bytes.

    Raises:
        RequestError: unreadable, no regular file, or larger; names the file.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            content = _read_at_most(file, size, largest) if size <= largest else b""
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:  # a zero byte in a path
        if isinstance(error, RequestError):
            raise
        raise RequestError(f"cannot read {str(path)!a}: {error}") from error
    if size > largest or len(content) > largest:
        raise RequestError(
            f"{path} has {max(size, len(content)):,} bytes, more than the {largest:,} that are read of such a file; "
            "give a smaller one"
        )
    return content


def _read_at_most(file: BufferedReader, size: int, largest: int) -> bytes:
    """The content of a file of about `size` bytes; at most one byte more than `largest`.

    A read reserves as much memory as it is asked for: `largest` is gigabytes, which a process with limited memory does
    not get for a file of a few bytes.
    """
    content = file.read(size + 1)
    if len(content) <= size:
        return content
    pieces, length = [content], len(content)  # the file grows, or does not say its size, as those of /proc
    while length <= largest and (piece := file.read(min(2**20, largest + 1 - length))):
        pieces.append(piece)
        length += len(piece)
    return b"".join(pieces)


def impostor_of(start: bytes) -> str | None:
    """What was saved in place of the wanted file, by its first bytes (1,024 are enough), and how to get the file.

    All readers use this function, for texts, images, tars, checkpoints and tables: none of these begins like that.

    Returns:
        None, or words to follow "... is ": a pointer of Git LFS or git-annex, or the page or text that a server sent.
    """
    start = start[:1024].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith(b"version https://git-lfs.github.com/spec/"):
        return "a Git LFS pointer, not the file itself; fetch the file with `git lfs pull`"
    if start.startswith((b"/annex/objects/", b"../", b".git/annex/")) and b"annex/objects/" in start:
        return "a git-annex pointer, not the file itself; fetch the file with `git annex get`"
    if start.startswith(_HTML) or (start.startswith(_XML) and b"<html" in start):
        return "an HTML page, not the file that was meant; download it again (a server answers so to a bad address)"
    if start.startswith(_XML):
        if b"<svg" in start:
            return "a drawing (SVG), not an image of pixels; save it as PNG"
        return "an XML page, not the file that was meant; download it again (a server answers so to a bad address)"
    if start.strip() in _NOT_FOUND:
        return f"the answer {start.strip().decode()!r} of a server, not the file that was meant; download it again"
    return None


def impostor_at(path: Path | str) -> str | None:
    """`impostor_of` a regular file.

    Raises:
        RequestError, OSError: as `open_regular`.
    """
    with open_regular(path) as file:
        return impostor_of(file.read(1024))


def decode_text(content: bytes, where: object) -> str:
    """The text of a file's bytes: UTF-8 without its byte order mark, line ends as they are.

    Raises:
        RequestError: not UTF-8, or another file in its place (see `impostor_of`). The message names `where`.
    """
    impostor = impostor_of(content)
    if impostor:
        raise RequestError(f"{where} is {impostor}")
    if content[:2] in _MARKS:
        raise RequestError(f"{where} is not a text file in UTF-8 but in {_MARKS[content[:2]]}; save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(f"{where} is not a text file in UTF-8; save it as UTF-8") from error
    if "\0" in text:
        raise RequestError(f"{where} is not a text file in UTF-8: it holds zero bytes; save it as UTF-8")
    return text


def read_text(path: Path | str, largest: int = LARGEST_TEXT) -> str:
    """The text of a regular file in UTF-8, with or without a byte order mark.

    Raises:
        RequestError: unreadable, no regular file, larger than `largest` bytes, not UTF-8, or another file in
            its place (see `impostor_of`).
    """
    return decode_text(read_content(path, largest), path)


def read_lines(path: Path | str, largest: int = LARGEST_TEXT) -> list[str]:
    """The lines of a text file without their ends, which are "\\n" or "\\r\\n".

    No other character ends a line, unlike in `str.splitlines`: U+2028, for example, may be part of a JSON string.

    Raises:
        RequestError: as `read_text`.
    """
    lines = [line.removesuffix("\r") for line in read_text(path, largest).split("\n")]
    return lines if lines[-1] else lines[:-1]


def parse_integer(text: str, largest: int = 10**9) -> int | None:
    """An integer from 0 to `largest` parsed from text; None for anything else, such as 5,000 digits."""
    text = text.strip()
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(largest))):
        return None
    return int(text) if int(text) <= largest else None
