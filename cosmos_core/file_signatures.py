"""What a file is that was taken for another one, told by its first bytes: a Git LFS pointer, an error page, an archive.

Downloads leave such files under the right name: `git clone` without LFS leaves pointers, a server that refuses leaves a
page of HTML or XML. Their readers then say what they always say of damage, which sends people to mend a file that they
do not have.
"""

import stat
from pathlib import Path

from cosmos_core.errors import RequestError

START = 512
"""Bytes at the beginning of a file that tell what it is."""
POINTERS = (b"version https://git-lfs.github.com/spec/", b"version https://hawser.github.com/spec/")
PAGES = (b"<!doctype html", b"<html", b"<head", b"<body")
MARKS = (b"\xef\xbb\xbf",)
"""What may stand before the text of a page."""


def wrong_file(start: bytes) -> str:
    """What a file is and how to get the right one, where its first bytes show a stand-in; empty where they do not.

    Args:
        start: at least `START` bytes of the file, or all of it where it is shorter.
    """
    text = start.lstrip()
    for mark in MARKS:
        text = text.removeprefix(mark).lstrip()
    text = text.lower()
    if text.startswith(POINTERS):
        return "is a Git LFS pointer, not the file itself; run `git lfs pull` in its repository"
    if b"/annex/objects/" in text and text.startswith((b"/annex/", b"../", b".git/")):
        return "is a git-annex pointer, not the file itself; run `git annex get` in its repository"
    if text.startswith(PAGES) or (text.startswith(b"<!--") and b"<html" in text):
        return "is an HTML page, not the file itself (an error or a login page of its server); download it again"
    if text.startswith((b"<?xml", b"<error>")) and not text.startswith(b"<?xml-model"):
        if b"<html" in text or b"doctype html" in text:
            return "is an HTML page, not the file itself (an error or a login page of its server); download it again"
        return "is an XML page, not the file itself (an error of its server); download it again"
    return ""


def require_file(path: Path, what: str, give: str = "") -> bytes:
    """The first `START` bytes of a regular file that is not empty and no stand-in.

    Args:
        what: the kind of file, as `checkpoint`, for the message.
        give: what the user should give instead of a path that is no file.

    Raises:
        RequestError: nothing there, a folder, a FIFO, socket or device (which would wait for ever or never end), no
            permission, an empty file, a Git LFS pointer, an error page; one line.
    """
    hint = f"; {give}" if give else ""
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            with path.open("rb") as file:
                start = file.read(START)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RequestError(f"{what} {path} does not exist{hint}") from error
    except (OSError, ValueError) as error:  # no permission, a name that is too long, a null character in it
        reason = getattr(error, "strerror", None) or error
        raise RequestError(f"{what} {path} cannot be read: {reason}{hint}") from error
    if stat.S_ISDIR(mode):
        raise RequestError(f"{what} {path} is a folder, not a {what} file{hint}")
    if not stat.S_ISREG(mode):
        raise RequestError(f"{what} {path} is not an ordinary file but a pipe, socket or device{hint}")
    if not start:
        raise RequestError(f"{path} is empty; copy or download it again")
    wrong = wrong_file(start)
    if wrong:
        raise RequestError(f"{path} {wrong}")
    return start
