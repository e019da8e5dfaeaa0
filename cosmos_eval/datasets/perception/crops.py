"""A part of an image in a file, as ARO shows it."""

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_core.image_files import ImageHeader, open_image, orientation_of, upright_size
from cosmos_eval.datasets.base import FileImage, ImageSource, decode
from cosmos_eval.datasets.decoders import at_full_size, exif_is_applied

Box = tuple[int, int, int, int]
"""x and y of the upper left corner, width and height, in pixels."""


def shows_nothing(box: Box, size: tuple[int, int]) -> bool:
    """Whether not one pixel of an image of this size (width, height) lies in the box."""
    x, y, width, height = box
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + width, size[0]), min(y + height, size[1])
    return left >= right or top >= bottom


@dataclass(frozen=True)
class CroppedImage(ImageSource):
    """The box of an image, cut out before any preprocessing. Its identity is the file's content and the box; its key
    is the image's with the box in brackets behind it.

    What of the box lies outside the image is black, as the authors' `Image.crop` makes it.
    """

    key: str
    path: Path
    box: Box

    @property
    def whole(self) -> str:
        return self.key.rpartition("[")[0] or self.key

    def content(self) -> bytes:
        content = self._file()
        try:
            with open_image(content) as image:
                header = ImageHeader(image.size, image.mode, orientation_of(image) if exif_is_applied() else 1)
        except RequestError as error:  # which says itself what to do
            raise RequestError(f"cannot decode the image {self.path}: {error}") from error
        except Exception as error:  # decoders raise whatever a broken file makes them stumble over
            said = " ".join(str(error).split())
            raise RequestError(f"cannot decode the image {self.path}: {said}; replace the file") from error
        self._check(upright_size(header))
        return repr(tuple(self.box)).encode() + content

    def encoded(self, content: bytes) -> bytes:
        return content[len(repr(tuple(self.box))) :]

    def load(self) -> Image.Image:
        with at_full_size():
            image = decode(self.encoded(self.hashed_content()), self.path)
        self._check(image.size)
        x, y, width, height = self.box
        return image.crop((x, y, x + width, y + height))

    def _file(self) -> bytes:
        return FileImage(self.key, self.path).content()

    def _check(self, size: tuple[int, int]) -> None:
        if shows_nothing(self.box, size):
            raise RequestError(
                f"the box {self.box} (x, y, width, height) shows nothing of {self.path}, "
                f"which is {size[0]} x {size[1]}; is it the image that the annotations mean?"
            )
