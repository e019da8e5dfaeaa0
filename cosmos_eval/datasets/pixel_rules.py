"""What of a dataset's images is decoded otherwise than by Pillow alone: scaled values and EXIF orientation.

Such images have digests of their own, so that no feature, resized image or result of before is taken for theirs.
"""

from dataclasses import dataclass

from cosmos_core.image_files import look
from cosmos_eval.datasets.decoders import exif_is_applied

APPLY = "apply"
"""The one value of the option `exif`."""


@dataclass(frozen=True)
class ImageFacts:
    """What the header of an image file says of how it is decoded."""

    rule: str = ""
    """Goes into the digest; empty where Pillow's conversion alone makes the pixels."""
    orientation: int = 1
    """EXIF orientation, whether it is applied or not."""
    rescaled: bool = False
    """Whether its values are scaled to 8 bits."""


PLAIN = ImageFacts()


def facts_of(content: bytes) -> ImageFacts:
    """The facts of an image file; plain where it is none."""
    header = look(content) if content else None
    if header is None or (header.orientation == 1 and not header.rescaled):
        return PLAIN
    turned = exif_is_applied() and header.orientation != 1
    # at most 16 bytes: BLAKE2's `person`
    rule = ("scaled1" if header.rescaled else "") + ("turned1" if turned else "")
    return ImageFacts(rule, header.orientation, header.rescaled)
