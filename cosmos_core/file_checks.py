"""Binary files before their readers see them: there, ordinary, not empty, and not something else under the same name.

`git clone` without LFS leaves pointers, a server that refuses leaves a page of HTML or XML. Readers then say what they
always say of damage, which sends people to mend a file that they do not have.
"""

from pathlib import Path

from cosmos_core.errors import RequestError
from cosmos_core.printable import printable
from cosmos_core.text_files import impostor_of, open_regular

START = 1024
"""Bytes at the beginning of a file that tell what it is."""


def user_path(text: Path | str) -> Path:
    """A path as a user wrote it, with `~` and `~name` replaced by a home folder.

    Raises:
        RequestError: there is no such user.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise RequestError(f"{printable(text)}: {error}; write the path without ~") from error


def require_file(path: Path, what: str, give: str = "") -> bytes:
    """The first `START` bytes of a regular file that is not empty and no impostor.

    Args:
        what: the kind of file, as `checkpoint`, for the message.
        give: what the user should give instead of a path that is no file.

    Raises:
        RequestError: nothing there, a folder, a pipe, socket or device (which would wait for ever or never end), no
            permission, an empty file, a Git LFS pointer, an error page; one line.
    """
    hint = f"; {give}" if give else ""
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
