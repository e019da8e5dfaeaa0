"""Images of shards that come and go: one that is no longer on disk, and one whose bytes are held in memory."""

from dataclasses import dataclass
from typing import NoReturn

from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_core.printable import printable
from cosmos_eval.datasets.image_facts import ImageFacts
from cosmos_eval.datasets.image_sources import ImageSource, UprightImage, decode


@dataclass(frozen=True)
class StreamedImage(ImageSource):
    """An image that was streamed: its digest is known, and its bytes are gone."""

    key: str
    shard: str
    """Address of its shard, for messages."""

    @classmethod
    def known(cls, key: str, shard: str, digest: str, facts: ImageFacts) -> "StreamedImage":
        """Return an image whose digest and facts were computed when it was on disk."""
        image = cls(key, shard)
        image.__dict__.update(_digest=digest, _facts=facts)
        return image

    def content(self) -> bytes:
        self._refuse()

    def load(self) -> Image.Image:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise RequestError(
            f"the image {printable(self.key)} was streamed from {self.shard} and is not on disk; fetch the dataset to "
            "read its images again (run --fetch in place of --stream)"
        )


@dataclass(frozen=True)
class HeldImage(ImageSource):
    """An image whose bytes are in memory: its shard is deleted, or this process has no shard."""

    key: str
    held: bytes
    place: str
    """What messages call it."""

    def content(self) -> bytes:
        return self.held

    def encoded(self, content: bytes) -> bytes:
        return content

    def load(self) -> Image.Image:
        return decode(self.verified_content(), self.place)


def hold_image(image: ImageSource) -> ImageSource:
    """Return the same image with its bytes in memory. Its digest must be known: the bytes are compared with it.

    Raises:
        RequestError: the file was changed since its digest was computed.
    """
    if isinstance(image, UprightImage):
        return UprightImage(hold_image(image.image))
    if isinstance(image, HeldImage):
        return image
    held = HeldImage(image.key, image.content(), f"{image.key} of a streamed shard")
    held.__dict__.update(_digest=image.__dict__["_digest"], _facts=image.__dict__["_facts"])
    held.require_unchanged(held.held)
    return held
