"""Text files of a user: regular files alone, bounded in size, in UTF-8 with or without a byte order mark."""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

from cosmos_core.errors import RequestError

LARGEST_TEXT = 64 * 2**20
"""Bytes of a text file that is read whole, unless its reader says otherwise."""
_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
_HTML = (b"<!doctype html", b"<html", b"<head", b"<body")
_XML = (b"<?xml", b"<error>", b"<!--", b"<svg")
_NOT_FOUND = (b"404: not found", b"entry not found")
"""All that some servers answer, without a page around it; as GitHub and the Hugging Face Hub write it."""
_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


def open_regular(path: Path | str) -> BufferedReader:
    """A regular file, opened for reading; nothing is ever waited for.

    Raises:
        RequestError: a named pipe, a device or a socket, which could make the program wait for ever.
        OSError: it cannot be opened, or is a folder.
    """
    _refuse_irregular(path, os.stat(path).st_mode)  # noqa: PTH116 - a device may act when it is opened
    # should a pipe have taken the file's place meanwhile, opening it does not wait for a writer
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        _refuse_irregular(path, os.fstat(descriptor).st_mode)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def kind_of(path: Path | str) -> str:
    """What lies at a path in place of a file, in words: `a folder`, `a named pipe`, ...; empty for a regular file, and
    where nothing is."""
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
            content = file.read(largest + 1) if size <= largest else b""
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:  # a zero byte in a path that a file gave
        if isinstance(error, RequestError):
            raise
        raise RequestError(f"cannot read {str(path)!a}: {error}") from error
    if size > largest or len(content) > largest:
        raise RequestError(
            f"{path} has {max(size, len(content)):,} bytes, more than the {largest:,} that are read of such a file; "
            "give a smaller one"
        )
    return content


def impostor_of(start: bytes) -> str | None:
    """What stands in place of the file that was meant, by its first bytes (1,024 are enough), and how to get it.

    Every reader asks this one, of texts, images, tars, checkpoints and tables alike: none of them begins so.

    Returns:
        None, or words that follow "... is ": a pointer of Git LFS or git-annex, or the page or line that a server sent.
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
        RequestError: not UTF-8, or an impostor (see `impostor_of`); names `where`, which is what an error calls it.
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
        RequestError: unreadable, no regular file, larger than `largest` bytes, not UTF-8, or an impostor in its
            place (see `impostor_of`).
    """
    return decode_text(read_content(path, largest), path)


def read_lines(path: Path | str, largest: int = LARGEST_TEXT) -> list[str]:
    """The lines of a text file without their ends, which are "\\n" or "\\r\\n".

    No other character ends a line (`str.splitlines` knows eight more): U+2028 may stand inside a JSON string.

    Raises:
        RequestError: as `read_text`.
    """
    lines = [line.removesuffix("\r") for line in read_text(path, largest).split("\n")]
    return lines if lines[-1] else lines[:-1]


def whole_number(text: str, largest: int = 10**9) -> int | None:
    """A whole number from 0 to `largest` as a text file has it; None for anything else, such as 5,000 digits."""
    text = text.strip()
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(largest))):
        return None
    return int(text) if int(text) <= largest else None
