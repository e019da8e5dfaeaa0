"""ImageNet-W (Li et al., CVPR 2023): ImageNet's validation images with a watermark of six Chinese characters.

The authors draw the watermark on what their model sees, after resizing and cropping, in a size that goes by that of the
crop. A dataset does not know the model. Its images are resized and cropped to `side` here, as CLIP does, and drawn on:
for a model whose input is resized to `side` by bicubic interpolation and has that size, this is what the authors' code
gives, since its own resizing then changes nothing. For other sizes a definition with another `side` is needed.
"""

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from cosmos_core.errors import RequestError
from cosmos_eval.datasets.data import ClassificationData, Data
from cosmos_eval.datasets.dataset_checks import DatasetChecker
from cosmos_eval.datasets.image_sources import EditedImage, FileImage
from cosmos_eval.datasets.imagenet import read_imagenet

TEXT = "捷径捷径捷径"
FONT_SIZES = {224: 36, 384: 62, 512: 82, 518: 84}
"""Side of the crop -> size of the font; for others it is `side` / 6.22, rounded down."""
OPACITY, X, Y = 0.5, 0.01, 0.4
"""Of white text; its upper left corner as a share of the side."""
SIDE = 224


def read_imagenet_w(benchmark: Any, data_root: Path) -> Data:
    """Read ImageNet's validation set (see `read_imagenet`), each image cropped and with the watermark.

    Options: those of ImageNet, `font` (the authors' SourceHanSerifSC-ExtraLight.otf), `side` (pixels; 224).

    Raises:
        DataProblems: no font, and as `read_imagenet`.
        RequestError: the font cannot be read.
    """
    checker = DatasetChecker(benchmark, data_root)
    side = int(checker.options.get("side", SIDE))
    if side < 32:
        checker.refuse(f"has the side {side}; it must be at least 32 pixels")
    (font,) = checker.require(checker.find_path("font", "file"))
    load_font(font, side)
    digest = hashlib.sha256(font.read_bytes()).hexdigest()
    data = read_imagenet(benchmark, data_root)
    assert isinstance(data, ClassificationData)
    files = [image for image in data.images if isinstance(image, FileImage)]
    return data.replaced(images=[WatermarkedImage(file.key, file.path, font, digest, side) for file in files])


@functools.lru_cache(maxsize=8)
def load_font(path: Path, side: int) -> ImageFont.FreeTypeFont:
    """Return the font in the size for a crop of `side` pixels.

    Raises:
        RequestError: it cannot be read.
    """
    size = FONT_SIZES.get(side, int(side / 6.22))
    try:
        return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)
    except OSError as error:
        raise RequestError(f"cannot read the font {path}: {error}; copy it again from the authors' package") from error


def add_watermark(image: Image.Image, font: ImageFont.FreeTypeFont) -> Image.Image:
    """Draw the watermark on an RGB image."""
    layer = Image.new("RGBA", image.size, (255, 255, 255, 0))
    place = (X * image.width, Y * image.height)
    ImageDraw.Draw(layer).text(place, TEXT, fill=(255, 255, 255, round(OPACITY * 255)), font=font)
    return Image.alpha_composite(image.convert("RGBA"), layer).convert("RGB")


@dataclass(frozen=True)
class WatermarkedImage(EditedImage):
    """An image in a file, cropped and with the watermark."""

    font: Path
    font_digest: str
    side: int

    @property
    def recipe(self) -> bytes:
        return f"watermark {self.side} {self.font_digest}\n".encode()

    def edit(self, image: Image.Image) -> Image.Image:
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms.functional import center_crop, resize

        cropped = center_crop(resize(image, [self.side], InterpolationMode.BICUBIC), [self.side, self.side])
        return add_watermark(cropped, load_font(self.font, self.side))
