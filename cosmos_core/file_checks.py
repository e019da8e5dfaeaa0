"""Checks of binary files before they are read: existing, regular, not empty, and not something else in their place.

`git clone` without LFS leaves pointer files, and a failed download leaves an HTML or XML page. Their readers would
report a damaged file, although the user does not have the file at all.
"""

import os
from pathlib import Path

from cosmos_core.errors import RequestError
from cosmos_core.printable import printable
from cosmos_core.text_files import impostor_of, open_regular

START = 1024
"""Number of first bytes by which a file is recognised."""


def user_path(text: Path | str) -> Path:
    """A path as a user wrote it, with `~` and `~name` replaced by a home folder.

    Raises:
        RequestError: there is no such user.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise RequestError(f"{printable(text)}: {error}; write the path without ~") from error


def is_file(path: Path) -> bool:
    """As `Path.is_file`, which raises for a name that no file system can hold; nothing has such a name."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: Path) -> bool:
    """As `Path.is_dir`, which raises for a name that no file system can hold; nothing has such a name."""
    return os.path.isdir(path)  # noqa: PTH112


def require_file(path: Path, what: str, advice: str = "") -> bytes:
    """The first `START` bytes of a regular file that is not empty and no impostor.

    Args:
        what: the kind of file for the message, such as `checkpoint`.
        advice: what the user should do if the path is not a file.

    Raises:
        RequestError: it does not exist, is a folder, or a pipe, socket or device (which may block or never end), no
            permission, an empty file, a Git LFS pointer, an error page.
    """
    hint = f"; {advice}" if advice else ""
    name = printable(path)
    try:
        if path.is_dir():
            raise RequestError(f"{what} {name} is a folder, not a {what} file{hint}")
        with open_regular(path) as file:
            start = file.read(START)
    except RequestError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RequestError(f"{what} {name} does not exist{hint}") from error
    except (OSError, ValueError) as error:  # no permission, a name that is too long, a null character in it
        reason = getattr(error, "strerror", None) or error
        raise RequestError(f"{what} {name} cannot be read: {reason}{hint}") from error
    if not start:
        raise RequestError(f"{name} is empty; copy or download it again")
    impostor = impostor_of(start)
    if impostor:
        raise RequestError(f"{name} is {impostor}")
    return start
