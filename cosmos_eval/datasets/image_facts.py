"""Images that are not decoded by Pillow's conversion alone: values scaled to 8 bits, EXIF orientation applied.

Such images have digests of their own, so that features, resized images and results of the other decoding are not
reused for them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cosmos_core.image_files import header_if_relevant
from cosmos_eval.datasets.decoders import is_exif_applied

if TYPE_CHECKING:
    from cosmos_eval.datasets.image_sources import ImageSource


@dataclass(frozen=True)
class ImageFacts:
    """What the header of an image file says about decoding."""

    rule: str = ""
    """Part of the digest; empty if Pillow's conversion alone makes the pixels."""
    orientation: int = 1
    """EXIF orientation, whether it is applied or not."""
    turned: bool = False
    """Whether the orientation is applied."""
    rescaled: bool = False
    """Whether values are scaled to 8 bits."""


PLAIN = ImageFacts()


def read_facts(content: bytes) -> ImageFacts:
    """Return the facts of an image file; `PLAIN` for other content."""
    header = header_if_relevant(content) if content else None
    if header is None or (header.orientation == 1 and not header.rescaled):
        return PLAIN
    turned = is_exif_applied() and header.orientation != 1
    # at most 16 bytes: the length of BLAKE2's `person`
    rule = ("scaled1" if header.rescaled else "") + ("turned1" if turned else "")
    return ImageFacts(rule, header.orientation, turned, header.rescaled)


def decoding_remarks(images: Sequence["ImageSource"]) -> tuple[str, ...]:
    """Return remarks about EXIF orientation and scaled values for the result. Computes digests that are not known."""
    all_facts = [image.facts for image in images]
    remarks = []
    for turned in (False, True):
        count = sum(facts.orientation != 1 and facts.turned is turned for facts in all_facts)
        if count:
            use = "that was applied (exif: apply)" if turned else "that is not applied (exif: apply would turn them)"
            remarks.append(f"{_images_have(count, len(all_facts))} an EXIF orientation {use}")
    count = sum(facts.rescaled for facts in all_facts)
    if count:
        remarks.append(f"{_images_have(count, len(all_facts))} more than 8 bits a value, which were scaled to 8")
    return tuple(remarks)


def _images_have(count: int, total: int) -> str:
    """Return the beginning of a sentence, such as `2 of 3 images have`."""
    return f"{count:,} of {total:,} images {'has' if count == 1 else 'have'}"
