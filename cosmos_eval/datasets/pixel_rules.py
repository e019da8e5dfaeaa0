"""What of a dataset's images is decoded otherwise than by Pillow alone: scaled values and EXIF orientation.

Such images have digests of their own, so that no feature, resized image or result of before is taken for theirs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cosmos_core.image_files import header_if_relevant
from cosmos_eval.datasets.decoders import exif_is_applied

if TYPE_CHECKING:
    from cosmos_eval.datasets.base import ImageSource


@dataclass(frozen=True)
class ImageFacts:
    """What the header of an image file says of how it is decoded."""

    rule: str = ""
    """Goes into the digest; empty where Pillow's conversion alone makes the pixels."""
    orientation: int = 1
    """EXIF orientation, whether it is applied or not."""
    turned: bool = False
    """Whether the orientation is applied."""
    rescaled: bool = False
    """Whether its values are scaled to 8 bits."""


PLAIN = ImageFacts()


def facts_of(content: bytes) -> ImageFacts:
    """The facts of an image file; plain where it is none."""
    header = header_if_relevant(content) if content else None
    if header is None or (header.orientation == 1 and not header.rescaled):
        return PLAIN
    turned = exif_is_applied() and header.orientation != 1
    # at most 16 bytes: BLAKE2's `person`
    rule = ("scaled1" if header.rescaled else "") + ("turned1" if turned else "")
    return ImageFacts(rule, header.orientation, turned, header.rescaled)


def pixel_remarks(images: Sequence["ImageSource"]) -> tuple[str, ...]:
    """What the headers of image files say that a reader of the result must know; digests are known afterwards."""
    facts = [image.facts for image in images]
    remarks = []
    for turned in (False, True):
        count = sum(one.orientation != 1 and one.turned is turned for one in facts)
        if count:
            told = "that was applied (exif: apply)" if turned else "that is not applied (exif: apply would turn them)"
            remarks.append(f"{_of(count, len(facts))} an EXIF orientation {told}")
    count = sum(one.rescaled for one in facts)
    if count:
        remarks.append(f"{_of(count, len(facts))} more than 8 bits a value, which were scaled to 8")
    return tuple(remarks)


def _of(count: int, total: int) -> str:
    return f"{count:,} of {total:,} images {'has' if count == 1 else 'have'}"
