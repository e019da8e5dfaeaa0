"""Pictures below a folder as data of a page: made smaller, stripped of what else their files tell, within a budget."""

import base64
import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from cosmos_core.image_files import formats, to_rgb

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
SIDES = (1600, 1100, 750)
"""Pixels of the longer side at most; the next where the picture is still too large."""
MOST = 120
"""Pictures in one page."""
LARGEST = 450_000
"""Bytes of one picture in the page, at most."""
PIXELS = 60_000_000
"""Pictures beyond that are not opened."""
DRAWN = ("curve.png", "curve.csv")
"""A plot of what evaluations.jsonl holds, and its numbers."""
MASKS = "masks"
"""Folder of predicted label maps, which `show segmentation --masks` writes: numbers, not pictures to look at."""


@dataclass(frozen=True)
class Embedded:
    """A picture in the page; `path` is relative to the folder, `source` a data URI."""

    path: str
    width: int
    height: int
    source: str


def embed(folder: Path, budget: int, *, with_curves: bool = True) -> tuple[list[Embedded], list[str]]:
    """Pictures below a folder until `budget` characters are used, and a line for each group that was left out.

    Folders take turns, so that a gallery of hundreds leaves room for the pictures of others.

    Args:
        with_curves: whether plots of curves are pictures to show; not where the page draws them itself.
    """
    kept: list[Embedded] = []
    full: dict[str, int] = {}
    broken: list[str] = []
    left = budget
    for path in in_turns(pictures_below(folder, with_curves)):
        name = path.relative_to(folder).as_posix()
        group = path.parent.relative_to(folder).as_posix()
        if group in full:
            full[group] += 1
            continue
        found = shrink(path)
        if isinstance(found, str):
            broken.append(f"{name}: {found}")
            continue
        source, width, height = found
        if len(source) > left or len(kept) == MOST:
            full[group] = 1
            continue
        left -= len(source)
        kept.append(Embedded(name, width, height, source))
    kept.sort(key=lambda one: one.path.rpartition("/"))
    return kept, [*(no_room(group, count) for group, count in sorted(full.items())), *broken]


def no_room(folder: str, count: int) -> str:
    """A line about pictures of one folder that were left out."""
    where = "the folder itself" if folder == "." else folder
    return f"{where}: {count:,} more picture{'s' if count > 1 else ''}, no room"


def pictures_below(folder: Path, with_curves: bool) -> Iterator[Path]:
    """Files with a picture's ending, sorted; none that is hidden, a link or a label map."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != MASKS)
        drawn = DRAWN[0] if not with_curves and set(DRAWN) <= set(names) else ""
        for name in sorted(names):
            path = Path(place) / name
            if (
                name.lower().endswith(ENDINGS)
                and name[0] != "."
                and name != drawn
                and path.is_file()
                and not path.is_symlink()
            ):
                yield path


def in_turns(paths: Iterable[Path]) -> Iterator[Path]:
    """The first of each folder, then the second of each, and so on."""
    folders: dict[Path, list[Path]] = {}
    for path in paths:
        folders.setdefault(path.parent, []).append(path)
    for turn in range(max(map(len, folders.values()), default=0)):
        yield from (some[turn] for some in folders.values() if turn < len(some))


def shrink(path: Path) -> tuple[str, int, int] | str:
    """A data URI with its width and height; or in words why there is none."""
    try:
        with Image.open(path, formats=formats()) as opened:
            if opened.width * opened.height > PIXELS:
                return f"{opened.width:,} × {opened.height:,} pixels are too many"
            # Not turned by its EXIF orientation: a model did not see it so (image_files.py).
            picture = opened.convert("RGBA") if opened.mode in ("RGBA", "LA", "P", "PA") else to_rgb(opened)
    except Exception as error:  # readers of broken files raise whatever they stumble over
        return f"no readable picture ({type(error).__name__})"
    for side in SIDES:
        smaller = picture.copy()
        smaller.thumbnail((side, side), Image.Resampling.LANCZOS)
        content = io.BytesIO()
        smaller.save(content, format="WEBP", quality=82, method=4)  # a new file: no EXIF, no place where it was taken
        if content.tell() <= LARGEST:
            source = "data:image/webp;base64," + base64.b64encode(content.getvalue()).decode()
            return source, smaller.width, smaller.height
    return "too large even when made smaller"
