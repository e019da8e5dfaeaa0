"""Moving what is complete to where readers look for it: whole folders at once, so that no half of one is ever seen."""

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path

from cosmos_eval.datasets.fetch.errors import FetchError
from cosmos_eval.datasets.fetch.manifest import STATE_FOLDER


def move_tree(source: Path, target: Path) -> None:
    """Move a file or folder to `target`; where a folder is there already, what it lacks is moved into it.

    Each move is one rename. After a kill, what was moved is complete, and the next call moves the rest.

    Raises:
        FetchError: kind "disk": a file is where a folder belongs or the other way round.
        OSError: the disk.
    """
    if source.is_dir() and (target.is_symlink() or target.is_dir()):
        if not target.is_symlink() and _rename_onto_empty(source, target):
            return
        if not target.is_dir():
            raise FetchError("disk", f"{target} is a link to nothing; remove it, or make the folder it leads to")
        for child in sorted(source.iterdir()):
            move_tree(child, target / child.name)
        source.rmdir()
        return
    if source.is_dir() and os.path.lexists(target):
        raise FetchError("disk", f"{target} is in the way: a folder belongs there; move it away and fetch again")
    if source.is_file() and target.is_dir():
        raise FetchError(
            "disk", f"the folder {target} is in the way: a file belongs there; move it away and fetch again"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _move_to_other_disk(source, target)


def _rename_onto_empty(source: Path, target: Path) -> bool:
    """Whether `target` was an empty folder of the same disk, which `source` then replaces at once."""
    try:
        source.replace(target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.EXDEV, errno.EBUSY):
            return False
        raise
    return True


def _move_to_other_disk(source: Path, target: Path) -> None:
    """A part of the data root is a link to, or is mounted from, another disk: copy beside the target first."""
    beside = target.with_name(f".{target.name}.fetched")
    if beside.is_dir():
        shutil.rmtree(beside)  # of a killed process
    if source.is_dir():
        shutil.copytree(source, beside)
    else:
        shutil.copyfile(source, beside)
    beside.replace(target)
    shutil.rmtree(source) if source.is_dir() else source.unlink()


def remove_empty_folders(folder: Path) -> None:
    """Remove the empty folders below a folder of the state folder, it, and those above it, as far as they are empty."""
    with suppress(OSError):
        for path in sorted(folder.rglob("*"), reverse=True) if folder.is_dir() else ():
            if path.is_dir():
                path.rmdir()
    with suppress(OSError):
        while folder.name != STATE_FOLDER and STATE_FOLDER in folder.parts:
            if folder.exists():
                folder.rmdir()
            folder = folder.parent
