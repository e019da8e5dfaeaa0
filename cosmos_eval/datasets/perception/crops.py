"""A box cut out of an image, as in ARO."""

from dataclasses import dataclass

from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_core.image_files import ImageHeader, open_image, orientation_of, upright_size
from cosmos_eval.datasets.decoders import is_exif_applied
from cosmos_eval.datasets.image_sources import EditedImage

Box = tuple[int, int, int, int]
"""x and y of the upper left corner, width and height, in pixels."""


def is_outside(box: Box, size: tuple[int, int]) -> bool:
    """Whether the box has no pixel of an image of this size (width, height)."""
    x, y, width, height = box
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + width, size[0]), min(y + height, size[1])
    return left >= right or top >= bottom


@dataclass(frozen=True)
class CroppedImage(EditedImage):
    """A box of an image, cut out before any preprocessing.

    Its key is that of the image with the box in brackets. The part of the box outside the image is black, as in the
    authors' code (`Image.crop`).
    """

    box: Box

    @property
    def parent_key(self) -> str:
        return self.key.rpartition("[")[0] or self.key

    @property
    def recipe(self) -> bytes:
        return repr(tuple(self.box)).encode()

    def content(self) -> bytes:
        content = super().content()
        try:
            with open_image(self.encoded(content)) as image:
                header = ImageHeader(image.size, image.mode, orientation_of(image) if is_exif_applied() else 1)
        except RequestError as error:  # says what to do
            raise RequestError(f"cannot decode the image {self.path}: {error}") from error
        except Exception as error:  # decoders raise anything for damaged files
            reason = " ".join(str(error).split())
            raise RequestError(f"cannot decode the image {self.path}: {reason}; replace the file") from error
        self._require_overlap(upright_size(header))
        return content

    def edit(self, image: Image.Image) -> Image.Image:
        self._require_overlap(image.size)
        x, y, width, height = self.box
        return image.crop((x, y, x + width, y + height))

    def _require_overlap(self, size: tuple[int, int]) -> None:
        """Raise RequestError if the box has no pixel of the image."""
        if is_outside(self.box, size):
            raise RequestError(
                f"the box {self.box} (x, y, width, height) is outside {self.path}, which has "
                f"{size[0]} x {size[1]} pixels; check that it is the image of the annotations and has its original size"
            )
