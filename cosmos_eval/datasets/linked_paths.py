"""Links in a folder of images: a path that data name must not lead out of the folder through a link."""

import os
from collections.abc import Sequence
from pathlib import Path


def find_link_outside(folder: Path, names: Sequence[str]) -> str | None:
    """Return the first file that a link leads out of the folder; None if there is none.

    The folder itself may be a link: the user named it. Each folder below it is resolved and listed once, so that a
    million files take a million look-ups and no more calls of the system than there are folders and links.

    Args:
        names: paths relative to the folder, which are not absolute and hold no `..`.
    """
    root = os.path.realpath(folder)
    links_of_parent: dict[str, frozenset[str] | None] = {}
    for name in names:
        parent, _, file_name = name.rpartition("/")
        if parent not in links_of_parent:
            path = os.path.join(root, parent)  # noqa: PTH118 - any name
            links_of_parent[parent] = _list_links(path) if _is_inside(path, root) else None
        links = links_of_parent[parent]
        if links is None or (file_name in links and not _is_inside(os.path.join(root, name), root)):  # noqa: PTH118
            return name
    return None


def _is_inside(path: str, root: str) -> bool:
    real_path = os.path.realpath(path)
    return real_path == root or real_path.startswith(root.rstrip(os.sep) + os.sep)


def _list_links(folder: str) -> frozenset[str]:
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries if entry.is_symlink())
    except OSError:
        return frozenset()
