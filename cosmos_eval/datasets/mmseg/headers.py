"""What the first bytes of an image and its mask say: whether both can be read, and whether they fit together."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from cosmos_core.image_files import QUARTER_TURNS, Impostor, NotAnImage, open_image, orientation_of
from cosmos_core.printable import printable
from cosmos_core.short_repr import short_name
from cosmos_eval.datasets.consistency import FIRST, first
from cosmos_eval.datasets.mmseg.items import MmsegImage, MmsegMask

LABEL_MODES = ("P", "L", "1")
"""Pillow's names for one byte, or bit, a pixel: what `LoadAnnotations` reads without loss."""
WIDE_MODES = ("I;16", "I;16L", "I;16B", "I", "F")
"""More than one byte a pixel, of which `LoadAnnotations` keeps the lowest."""
LOSSY = ("JPEG", "MPO")
"""Formats that change a label to its neighbours, which often are classes, too."""
TURNED_BY_OPENCV = ("JPEG", "MPO", "PNG", "WEBP")
"""Formats whose EXIF orientation OpenCV applies when it decodes colours, as mmsegmentation does."""
WORKERS = 8
CHUNK = 64


@dataclass
class Headers:
    """What does not fit, each told with the mask's (or image's) name."""

    no_mask: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    other_size: list[str] = field(default_factory=list)
    in_colour: list[str] = field(default_factory=list)
    wide: list[str] = field(default_factory=list)
    lossy: list[str] = field(default_factory=list)
    turned: list[str] = field(default_factory=list)

    def problems(self, masks: Path) -> list[str]:
        """One sentence for each kind, without the benchmark's name. Images without masks are left to the reader."""
        said = []
        if self.unreadable:
            shown = ", ".join(self.unreadable[:FIRST])  # each with its reason, which must not be cut
            more = f" and {len(self.unreadable) - FIRST:,} more" if len(self.unreadable) > FIRST else ""
            said.append(f"has {_count(self.unreadable, 'file')} without a readable image: {shown}{more}")
        if self.in_colour:
            said.append(
                f"has {_count(self.in_colour, 'mask')} in {masks} with colours where one label a pixel is wanted: "
                f"{first(self.in_colour)}; a palette PNG that was saved again as RGB has lost its labels: unpack the "
                "originals again"
            )
        if self.wide:
            said.append(
                f"has {_count(self.wide, 'mask')} in {masks} of more than 8 bits a pixel: {first(self.wide)}; "
                "mmsegmentation reads 8: save the labels as a PNG of 8 bits"
            )
        if self.lossy:
            said.append(
                f"has {_count(self.lossy, 'mask')} in {masks} in a lossy format, which changes labels: "
                f"{first(self.lossy)}; unpack the originals again, or save the labels as PNG"
            )
        if self.turned:
            said.append(
                f"has {_count(self.turned, 'image')} that EXIF turns otherwise than the mask in {masks}: "
                f"{first(self.turned)}; save both with their pixels upright and without the tag"
            )
        if self.other_size:
            said.append(
                f"has {_count(self.other_size, 'mask')} in {masks} of another size than the image: "
                f"{first(self.other_size)}; masks are never resized"
            )
        return said


def look(images: Sequence[MmsegImage], masks: Sequence[MmsegMask]) -> Headers:
    """Read the headers of every pair, in threads: some 0.1 ms each on a local disk. Images that are not there are
    passed over.

    An image is turned as its EXIF orientation says, a mask only where it is marked `turned`. A quarter turn with no
    tag on the mask is right where the sizes fit, which only the turned image can have; of other turns they say nothing.
    """
    found = Headers()
    pairs = list(zip(images, masks, strict=True))
    pool = ThreadPoolExecutor(WORKERS)
    try:
        for some in pool.map(_look_at, [pairs[at : at + CHUNK] for at in range(0, len(pairs), CHUNK)]):
            for kind, text in some:
                getattr(found, kind).append(text)
    finally:
        pool.shutdown(cancel_futures=True)
    return found


def _look_at(pairs: Sequence[tuple[MmsegImage, MmsegMask]]) -> list[tuple[str, str]]:
    found = []
    for image, mask in pairs:
        if not os.path.exists(image.path):  # noqa: PTH110 - any name
            continue
        name = mask.path.name
        if not os.path.exists(mask.path):  # noqa: PTH110 - any name
            found.append(("no_mask", image.key))
            continue
        try:
            with open_image(mask.path) as opened:
                mode, size, of_mask, form = opened.mode, opened.size, _orientation(opened), opened.format
        except Exception as error:  # whatever a broken file makes Pillow stumble over
            found.append(("unreadable", f"{short_name(printable(mask.path))} ({_reason(error, mask.path)})"))
            continue
        if mode in WIDE_MODES:
            found.append(("wide", f"{name} ({mode})"))
        elif mode not in LABEL_MODES:
            found.append(("in_colour", f"{name} ({mode})"))
        elif form in LOSSY:
            found.append(("lossy", f"{name} ({form})"))
        try:
            with open_image(image.path) as opened:
                expected = opened.size
                of_image = _orientation(opened) if opened.format in TURNED_BY_OPENCV else 1
        except Exception as error:
            found.append(("unreadable", f"{short_name(printable(image.path))} ({_reason(error, image.path)})"))
            continue
        expected = expected[::-1] if of_image in QUARTER_TURNS else expected
        if mask.turned:
            size = size[::-1] if of_mask in QUARTER_TURNS else size
        if size != expected:
            shown = f"{size[0]} x {size[1]} pixels, the image {expected[0]} x {expected[1]}"
            found.append(("other_size", f"{name} ({shown})"))
            continue
        agree = of_image == of_mask and (mask.turned or of_mask == 1)
        proven = of_image in QUARTER_TURNS and of_mask == 1 and size[0] != size[1]
        if not agree and not proven:
            found.append(("turned", f"{image.path.name} (orientation {of_image}, mask {of_mask})"))
    return found


def _orientation(opened: Image.Image) -> int:
    """EXIF orientation, 1 to 8. Where a PNG has its tags behind the pixels, they are not looked for: masks would have
    to be decoded for it."""
    if opened.format == "PNG" and not {"exif", "Raw profile type exif", "xmp"} & opened.info.keys():
        return 1
    return orientation_of(opened)


def _reason(error: Exception, path: Path) -> str:
    generic = isinstance(error, NotAnImage) and not isinstance(error, Impostor)
    if generic:
        return "no image format"
    said = " ".join(str(getattr(error, "strerror", None) or error).split())
    return said.removeprefix(f"{path} is ")  # the path stands before it


def _count(names: Sequence[str], noun: str) -> str:
    return f"{len(names):,} {noun}" if len(names) == 1 else f"{len(names):,} {noun}s"
