"""Checks of images and masks by their headers: whether both can be read, and whether they fit together."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from PIL import Image

from cosmos_core.image_files import QUARTER_TURNS, Impostor, NotAnImage, open_image, orientation_of
from cosmos_core.printable import printable
from cosmos_core.short_repr import short_name
from cosmos_eval.datasets.consistency import MAX_NAMES, format_names
from cosmos_eval.datasets.mmseg.images_and_masks import MmsegImage

WIDE_MODES = ("I;16", "I;16L", "I;16B", "I", "F")
"""Modes with more than 8 bits per pixel, of which `LoadAnnotations` keeps the lowest 8."""
LOSSY_FORMATS = ("JPEG", "MPO")
"""Formats that change a label to a value near it, which may be the label of another class."""
TURNED_BY_OPENCV = ("JPEG", "MPO", "PNG", "WEBP")
"""Formats whose EXIF orientation OpenCV applies when it decodes in colour, as it does for mmsegmentation."""
COLOUR_ADVICE = "a palette PNG that was saved again as RGB has lost its labels: unpack the original files again"
WIDE_ADVICE = "mmsegmentation reads 8 bits: save the labels as an 8-bit PNG"
WORKERS = 8
CHUNK = 64
"""Pairs that a thread checks in one call: a call for each pair would cost more than reading its headers."""


class CheckedMask(Protocol):
    """What a mask says about itself, to be compared with its image."""

    @property
    def key(self) -> str: ...

    @property
    def path(self) -> Path:
        """Its file; that of the annotations if it is drawn."""

    @property
    def turned(self) -> bool:
        """Whether it is turned by its own EXIF orientation."""

    @property
    def modes(self) -> tuple[str, ...]:
        """Pillow's names of the modes that its class reads without loss."""

    @property
    def drawn_size(self) -> tuple[int, int] | None:
        """Width and height of a mask that is drawn from annotations; None for a mask in a file of its own."""


@dataclass
class HeaderProblems:
    """The images and masks that do not fit: their names, most with a detail in brackets behind them."""

    no_mask: list[str] = field(default_factory=list)
    """Keys of images without a mask."""
    unreadable: list[str] = field(default_factory=list)
    """Images and masks that cannot be read, with the reason."""
    other_size: list[str] = field(default_factory=list)
    """Masks whose size differs from that of their image."""
    in_colour: list[str] = field(default_factory=list)
    """Masks with several channels."""
    wide: list[str] = field(default_factory=list)
    """Masks with more than 8 bits per pixel."""
    lossy: list[str] = field(default_factory=list)
    """Masks in a lossy format."""
    turned: list[str] = field(default_factory=list)
    """Images that are turned by EXIF differently from their mask."""

    def messages(
        self, mask_folder: Path, colour_advice: str = COLOUR_ADVICE, wide_advice: str = WIDE_ADVICE
    ) -> list[str]:
        """Return one sentence for each kind of problem, without the benchmark's name.

        `no_mask` is left to the reader, which knows how the masks can be made.

        Args:
            mask_folder: where the masks are.
            colour_advice, wide_advice: what to do about masks with colours, and with values that are not read.
        """
        messages = []
        if self.unreadable:
            shown = ", ".join(self.unreadable[:MAX_NAMES])  # not `format_names()`, which would shorten the reasons
            more = f" and {len(self.unreadable) - MAX_NAMES:,} more" if len(self.unreadable) > MAX_NAMES else ""
            messages.append(f"has {_count(self.unreadable, 'unreadable file')}: {shown}{more}")
        if self.in_colour:
            messages.append(
                f"has {_count(self.in_colour, 'mask')} in {mask_folder} with colours instead of one label per pixel: "
                f"{format_names(self.in_colour)}; {colour_advice}"
            )
        if self.wide:
            messages.append(
                f"has {_count(self.wide, 'mask')} in {mask_folder} with more than 8 bits per pixel: "
                f"{format_names(self.wide)}; {wide_advice}"
            )
        if self.lossy:
            messages.append(
                f"has {_count(self.lossy, 'mask')} in {mask_folder} in a lossy format, which changes labels: "
                f"{format_names(self.lossy)}; unpack the original files again, or save the labels as PNG"
            )
        if self.turned:
            messages.append(
                f"has {_count(self.turned, 'image')} that EXIF turns differently from the mask in {mask_folder}: "
                f"{format_names(self.turned)}; save both upright and without the orientation tag"
            )
        if self.other_size:
            messages.append(
                f"has {_count(self.other_size, 'mask')} in {mask_folder} of another size than the image: "
                f"{format_names(self.other_size)}; masks are never resized: replace them by those of these images"
            )
        return messages


def check_headers(images: Sequence[MmsegImage], masks: Sequence[CheckedMask]) -> HeaderProblems:
    """Read the headers of every image and its mask, in threads: about 0.1 ms for each pair on a local disk.

    Pairs whose image does not exist are skipped; the reader reports them. See `_check_pair` for the rules.
    """
    problems = HeaderProblems()
    pairs = list(zip(images, masks, strict=True))
    chunks = [pairs[start : start + CHUNK] for start in range(0, len(pairs), CHUNK)]
    pool = ThreadPoolExecutor(WORKERS)
    try:
        for chunk_problems in pool.map(_check_pairs, chunks):
            for kind, text in chunk_problems:
                getattr(problems, kind).append(text)
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for the remaining files
    return problems


def _check_pairs(pairs: Sequence[tuple[MmsegImage, CheckedMask]]) -> list[tuple[str, str]]:
    return [problem for image, mask in pairs for problem in _check_pair(image, mask)]


def _check_pair(image: MmsegImage, mask: CheckedMask) -> list[tuple[str, str]]:
    """Return the problems of an image and its mask: (name of a field of `HeaderProblems`, text).

    mmsegmentation always turns an image by its EXIF orientation, but a mask only if its field `turned` is set (`exif:
    apply`). So either neither has an orientation, or both have the same one and the mask is turned as well. There is
    one exception: a mask without the tag fits if its labels were drawn on the turned image. If the image is turned by a
    quarter, the sizes prove that, since width and height are exchanged. If it is turned otherwise, or is square, they
    prove nothing, and the pair is refused.
    """
    if not os.path.exists(image.path):  # noqa: PTH110 - any name
        return []
    if not os.path.exists(mask.path):  # noqa: PTH110 - any name
        return [("no_mask", image.key)]
    problems = []
    if mask.drawn_size is not None:
        name, mask_size, mask_orientation = mask.key, mask.drawn_size, 1
    else:
        try:
            with open_image(mask.path) as opened:
                mode, mask_size, file_format = opened.mode, opened.size, opened.format
                mask_orientation = _read_orientation(opened)
        except Exception as error:  # Pillow raises anything for damaged files
            return [("unreadable", _describe_unreadable(mask.path, error))]
        name = mask.path.name
        if mode not in mask.modes:
            problems.append(("wide" if mode in WIDE_MODES else "in_colour", f"{name} ({mode})"))
        elif file_format in LOSSY_FORMATS:
            problems.append(("lossy", f"{name} ({file_format})"))
    try:
        with open_image(image.path) as opened:
            image_size = opened.size
            image_orientation = _read_orientation(opened) if opened.format in TURNED_BY_OPENCV else 1
    except Exception as error:
        return [*problems, ("unreadable", _describe_unreadable(image.path, error))]
    if image_orientation in QUARTER_TURNS:
        image_size = image_size[::-1]
    if mask.turned and mask_orientation in QUARTER_TURNS:
        mask_size = mask_size[::-1]
    if mask_size != image_size:
        sizes = f"{mask_size[0]} x {mask_size[1]} pixels, the image {image_size[0]} x {image_size[1]}"
        return [*problems, ("other_size", f"{name} ({sizes})")]
    turned_alike = image_orientation == mask_orientation and (mask.turned or mask_orientation == 1)
    fits_turned_image = image_orientation in QUARTER_TURNS and mask_orientation == 1 and mask_size[0] != mask_size[1]
    if not turned_alike and not fits_turned_image:
        problems.append(("turned", f"{image.path.name} (orientation {image_orientation}, mask {mask_orientation})"))
    return problems


def _read_orientation(opened: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8.

    A PNG may have its tags behind the pixels. These tags are ignored: all pixels would have to be decoded first.
    """
    if opened.format == "PNG" and not {"exif", "Raw profile type exif", "xmp"} & opened.info.keys():
        return 1
    return orientation_of(opened)


def _describe_unreadable(path: Path, error: Exception) -> str:
    """Return the name of the file and why it cannot be read, on one line."""
    if isinstance(error, NotAnImage) and not isinstance(error, Impostor):
        reason = "not an image"
    else:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        reason = reason.removeprefix(f"{path} is ")  # the name comes before it
    return f"{short_name(printable(path))} ({reason})"


def _count(names: Sequence[str], noun: str) -> str:
    return f"{len(names):,} {noun}" if len(names) == 1 else f"{len(names):,} {noun}s"
