"""Images below a folder as data of a page: made smaller, without metadata, within a budget."""

import base64
import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from cosmos_core.image_files import formats, to_rgb
from cosmos_core.printable import plural

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
SIDES = (1600, 1100, 750)
"""Pixels of the longer side at most; the next one where the image is still too large."""
MOST = 120
"""Images in one page, at most."""
LARGEST = 450_000
"""Bytes of one image in the page, at most."""
PIXELS = 60_000_000
"""Larger images are not opened."""
DRAWN = ("curve.png", "curve.csv")
"""A plot of what evaluations.jsonl holds, and its numbers."""
MASKS = "masks"
"""Folder of predicted label maps, which `show segmentation --masks` writes: class indices, not images to look at."""


@dataclass(frozen=True)
class Embedded:
    """An image in the page; `path` is relative to the folder, `source` a data URI."""

    path: str
    width: int
    height: int
    source: str


def embed(folder: Path, budget: int, *, with_curves: bool = True) -> tuple[list[Embedded], list[str]]:
    """Embed images below a folder until `budget` characters are used; also returns a line for each group left out.

    Folders take turns, so that a gallery of hundreds leaves room for the images of others.

    Args:
        with_curves: whether plots of curves are embedded; False where the page draws the curves itself.
    """
    embedded: list[Embedded] = []
    full: dict[str, int] = {}
    broken: list[str] = []
    remaining_budget = budget
    for path in in_turns(images_below(folder, with_curves)):
        name = path.relative_to(folder).as_posix()
        group = path.parent.relative_to(folder).as_posix()
        if group in full:
            full[group] += 1
            continue
        shrunk = shrink(path)
        if isinstance(shrunk, str):
            broken.append(f"{name}: {shrunk}")
            continue
        source, width, height = shrunk
        if len(source) > remaining_budget or len(embedded) == MOST:
            full[group] = 1
            continue
        remaining_budget -= len(source)
        embedded.append(Embedded(name, width, height, source))
    embedded.sort(key=lambda image: image.path.rpartition("/"))
    return embedded, [*(no_room(group, count) for group, count in sorted(full.items())), *broken]


def no_room(folder: str, count: int) -> str:
    """A line about images of one folder that were left out."""
    name = "the folder itself" if folder == "." else folder
    return f"{name}: {plural(count, 'more image')}, no room"


def images_below(folder: Path, with_curves: bool) -> Iterator[Path]:
    """Files with an image's ending, sorted; hidden files, links and label maps are left out."""
    for current, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != MASKS)
        drawn = DRAWN[0] if not with_curves and set(DRAWN) <= set(names) else ""
        for name in sorted(names):
            path = Path(current) / name
            if (
                name.lower().endswith(ENDINGS)
                and name[0] != "."
                and name != drawn
                and path.is_file()
                and not path.is_symlink()
            ):
                yield path


def in_turns(paths: Iterable[Path]) -> Iterator[Path]:
    """The first path of each folder, then the second of each, and so on."""
    folders: dict[Path, list[Path]] = {}
    for path in paths:
        folders.setdefault(path.parent, []).append(path)
    for turn in range(max(map(len, folders.values()), default=0)):
        yield from (members[turn] for members in folders.values() if turn < len(members))


def shrink(path: Path) -> tuple[str, int, int] | str:
    """A smaller WebP as data URI, with its width and height; or the reason why there is none, in words."""
    try:
        with Image.open(path, formats=formats()) as opened:
            if opened.width * opened.height > PIXELS:
                return f"{opened.width:,} × {opened.height:,} pixels are too many"
            # Not rotated by its EXIF orientation: the model got it unrotated, too (image_files.py).
            image = opened.convert("RGBA") if opened.mode in ("RGBA", "LA", "P", "PA") else to_rgb(opened)
    except Exception as error:  # Pillow raises errors of many kinds for damaged files
        return f"not a readable image ({type(error).__name__})"
    for side in SIDES:
        smaller = image.copy()
        smaller.thumbnail((side, side), Image.Resampling.LANCZOS)
        content = io.BytesIO()
        smaller.save(content, format="WEBP", quality=82, method=4)  # a new file: no EXIF, no GPS position
        if content.tell() <= LARGEST:
            source = "data:image/webp;base64," + base64.b64encode(content.getvalue()).decode()
            return source, smaller.width, smaller.height
    return "too large even when made smaller"
