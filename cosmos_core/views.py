"""Views of a sample: image multi-crop (after DINO, arXiv 2104.14294, section 3.1) and text-crop.

The strengths that are the defaults here are the published COSMOS ones. Every draw comes from the generator that the
caller gives; nothing reads torch's, NumPy's or Python's global randomness.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from PIL import Image, ImageFilter, ImageOps
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import functional as tvf

from cosmos_core.errors import RequestError
from cosmos_core.image_files import to_rgb
from cosmos_core.seeds import Generator, as_random
from cosmos_core.short_repr import short_repr
from cosmos_core.text_crop import TextCrop, candidate_sentences, sample_sentences, split_caption
from cosmos_core.view_draws import CHANGES, DrawnView, changes_table, flip_coin, random_box

__all__ = ["MultiCrop", "TextCrop", "candidate_sentences", "flip_coin", "random_box"]
__all__ += ["sample_sentences", "split_caption"]

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
MOST_CROPS = 1024
LARGEST_CROP = 2**13
"""Pixels on a side."""

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class MultiCrop:
    """Global and local crops of an image, each with its own random colour and blur.

    Called with an image (PIL, or (H, W, 3) uint8) and a generator (`random.Random` or `torch.Generator`), it returns a
    list of normalised float32 tensors (3, size, size): first the global crops, then the local ones, the order that the
    model relies on. A triple holds a probability for the first global crop, the other global crops and the local crops.

    Raises:
        RequestError: a setting out of range, or an array of another shape or type.
    """

    global_crops: int = 2
    """Large crops of an image; the teacher sees the first two."""
    local_crops: int = 6
    """Small crops; the student alone sees them."""
    global_size: int = 224
    """Pixels on a side of a global crop."""
    local_size: int = 96
    """Pixels on a side of a local crop; 96 is the original's value whatever the global size."""
    crop_scale: float = 0.4
    """Global crops cover this share of the image's area or more; local ones at most this share."""
    max_scale: float = 1.0
    """Largest share that a global crop covers."""
    min_scale: float = 0.05
    """Smallest share that a local crop covers."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Range of a crop's width over its height."""
    flip: float = 0.5
    """Probability of a horizontal flip; 0 where captions mention left and right."""
    jitter: float = 0.8
    """Probability of colour jitter."""
    brightness: float = 0.4
    """Largest relative change of the brightness; 0 leaves it alone."""
    contrast: float = 0.4
    """Largest relative change of the contrast."""
    saturation: float = 0.2
    """Largest relative change of the saturation."""
    hue: float = 0.1
    """Largest change of the hue, as a share of the colour circle, at most 0.5."""
    gray: float = 0.2
    """Probability of grayscale; 0 where captions name colours."""
    blur: Triple = (1.0, 0.1, 0.5)
    """Probability of blur for the first global crop, the other global crops and the local ones."""
    blur_radius: tuple[float, float] = (0.1, 2.0)
    """Standard deviation of the blur, in pixels of the view."""
    solarise: Triple = (0.0, 0.2, 0.0)
    """Probability that bright pixels are inverted, for the same three."""
    mean: ClassVar[Triple] = CLIP_MEAN
    std: ClassVar[Triple] = CLIP_STD
    """Constants, not settings: evaluation normalises with these two as well."""

    def __post_init__(self) -> None:
        if self.global_crops < 1 or self.local_crops < 0:
            raise RequestError(f"at least 1 global and 0 local crops, not {self.global_crops} and {self.local_crops}")
        if self.global_crops + self.local_crops > MOST_CROPS:
            raise RequestError(
                f"at most {MOST_CROPS} crops of an image, not "
                f"{short_repr(self.global_crops)} and {short_repr(self.local_crops)}"
            )
        if not 0 < self.min_scale <= self.crop_scale <= self.max_scale <= 1:
            raise RequestError(
                "crop shares must satisfy 0 < min_scale <= crop_scale <= max_scale <= 1, got "
                f"{self.min_scale}, {self.crop_scale}, {self.max_scale}"
            )
        probabilities = [self.flip, self.jitter, self.gray, *self.blur, *self.solarise]
        if not all(0 <= probability <= 1 for probability in probabilities) or not 0 <= self.hue <= 0.5:
            raise RequestError("probabilities of the image views lie in 0..1 and hue in 0..0.5")
        for name, size in (("global_size", self.global_size), ("local_size", self.local_size)):
            if size < 1:
                raise RequestError(f"{name} of the image views is at least 1 pixel, got {short_repr(size)}")
            if size > LARGEST_CROP:
                raise RequestError(
                    f"{name} of the image views is at most {LARGEST_CROP:,} pixels, got {short_repr(size)}"
                )
        if not 0 < self.ratio[0] <= self.ratio[1] < math.inf:
            raise RequestError(f"ratio of the image views is two numbers above 0, the smaller first, got {self.ratio}")
        if not 0 <= self.blur_radius[0] <= self.blur_radius[1] < math.inf:
            raise RequestError(f"blur_radius is two numbers from 0, the smaller first, got {self.blur_radius}")
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) < math.inf:
                raise RequestError(f"{name} of the image views is a number from 0, got {getattr(self, name)}")

    def __call__(self, image: Image.Image | np.ndarray, generator: Generator) -> list[Tensor]:
        return [normalize_pixels(view, self.mean, self.std) for view in self.pixels(image, generator)]

    def draw(self, size: tuple[int, int], generator: Generator) -> list[DrawnView]:
        """The random numbers of all views of an image of `size` (width, height); they do not depend on its pixels."""
        draw = as_random(generator)
        drawn = []
        for index in range(self.global_crops + self.local_crops):
            is_local = index >= self.global_crops
            kind = 2 if is_local else min(index, 1)
            shares = (self.min_scale, self.crop_scale) if is_local else (self.crop_scale, self.max_scale)
            drawn.append(
                DrawnView(  # Python evaluates the arguments in this order, which is that of the draws
                    size=self.local_size if is_local else self.global_size,
                    box=random_box(size, shares, self.ratio, draw),
                    flip=flip_coin(self.flip, draw),
                    jitter=self._draw_jitter(draw) if flip_coin(self.jitter, draw) else (),
                    gray=flip_coin(self.gray, draw),
                    blur=draw.uniform(*self.blur_radius) if flip_coin(self.blur[kind], draw) else None,
                    solarise=flip_coin(self.solarise[kind], draw),
                )
            )
        return drawn

    def pixels(self, image: Image.Image | np.ndarray, generator: Generator) -> list[np.ndarray]:
        """The same views before normalisation, (size, size, 3) uint8: a loader normalises a whole batch at once."""
        rgb = as_rgb(image)
        return [
            np.asarray(change_view(crop(rgb, view.size, view.box), view)) for view in self.draw(rgb.size, generator)
        ]

    def crops(
        self, image: Image.Image | np.ndarray, drawn: Sequence[DrawnView], scale: int = 1
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """The crops of drawn views alone, mirrored, (size, size, 3) uint8, and the table of the changes that are left.

        The resize is torch's, which differs from Pillow's by at most one level (in about 0.3 % of the values) and takes
        a sixth of the time.

        Args:
            scale: the image is smaller than the one that was drawn for, by this divisor.
        """
        array = image if isinstance(image, np.ndarray) and image.flags.writeable else np.array(as_rgb(image))
        pixels = torch.from_numpy(array).permute(2, 0, 1)[None]
        return [resized_crop(pixels, view, scale) for view in drawn], changes_table(drawn)

    def largest_scale(self, drawn: Sequence[DrawnView]) -> int:
        """The largest of 8, 4, 2 and 1 by which an image can be divided and still has a pixel for each of every
        view."""
        least = min(
            min(right - left, bottom - top) / view.size for view in drawn for left, top, right, bottom in [view.box]
        )
        return next((scale for scale in (8, 4, 2) if least >= scale), 1)

    def _draw_jitter(self, draw: random.Random) -> tuple[tuple[str, float], ...]:
        most = {"brightness": self.brightness, "contrast": self.contrast, "saturation": self.saturation}
        steps = [(name, draw.uniform(max(0.0, 1 - most[name]), 1 + most[name])) for name in CHANGES[:3] if most[name]]
        if self.hue:
            steps.append(("hue", draw.uniform(-self.hue, self.hue)))
        draw.shuffle(steps)  # as torchvision's ColorJitter: the changes do not commute
        return tuple(steps)


JITTER = {
    "brightness": tvf.adjust_brightness,
    "contrast": tvf.adjust_contrast,
    "saturation": tvf.adjust_saturation,
    "hue": tvf.adjust_hue,
}


def change_view(view: Image.Image, drawn: DrawnView) -> Image.Image:
    """An RGB crop with the drawn changes applied."""
    if drawn.flip:
        view = ImageOps.mirror(view)
    for name, strength in drawn.jitter:
        view = JITTER[name](view, strength)
    if drawn.gray:
        view = view.convert("L").convert("RGB")
    if drawn.blur is not None:
        view = view.filter(ImageFilter.GaussianBlur(drawn.blur))
    if drawn.solarise:
        view = ImageOps.solarize(view, threshold=128)
    return view


def as_rgb(image: Image.Image | np.ndarray) -> Image.Image:
    """The image as RGB; before any resize, since Pillow resizes palette images by nearest neighbour."""
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise RequestError(f"an image is (H, W, 3) uint8, got {image.shape} {image.dtype}")
        return Image.fromarray(image)
    return image if image.mode == "RGB" else to_rgb(image)


def crop(image: Image.Image, size: int, box: tuple[int, int, int, int]) -> Image.Image:
    return image.crop(box).resize((size, size), Image.Resampling.BICUBIC)


def resized_crop(pixels: Tensor, view: DrawnView, scale: int = 1) -> np.ndarray:
    """The crop of one view, mirrored or not, from pixels (1, 3, H, W) uint8 of an image divided by `scale`."""
    height, width = pixels.shape[2:]
    left, right = (min(round(x / scale), width) for x in view.box[::2])
    top, bottom = (min(round(y / scale), height) for y in view.box[1::2])
    # in this layout torch's kernel needs no copies of its own, and its result is in the layout of the views
    cut = pixels[:, :, top:bottom, left:right].contiguous(memory_format=torch.channels_last)
    resized = F.interpolate(cut, (view.size, view.size), mode="bicubic", antialias=True)
    return (resized.flip(3) if view.flip else resized)[0].permute(1, 2, 0).numpy()


def normalize_pixels(pixels: np.ndarray | Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 (..., H, W, 3) to float32 (..., 3, H, W) with each channel's mean and standard deviation taken out.

    It stays on its device; the values are the same on any.
    """
    if isinstance(pixels, np.ndarray):
        channels = torch.from_numpy(np.moveaxis(pixels, -1, -3).astype(np.float32, order="C"))
    else:
        channels = pixels.movedim(-1, -3).to(torch.float32, memory_format=torch.contiguous_format)
    return normalize_channels(channels, mean, std)


def normalize_channels(channels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """The same of float32 (..., 3, H, W) with values 0 to 255, in place."""
    scale, shift = _scale_and_shift(tuple(mean), tuple(std), channels.device)
    return channels.mul_(scale).sub_(shift)


@lru_cache(maxsize=8)
def _scale_and_shift(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """What pixels are multiplied by, and what is subtracted then; (3, 1, 1) each. Made once: each copy is a wait."""
    scale = torch.tensor([1 / (255 * s) for s in std], device=device)[:, None, None]
    shift = torch.tensor([m / s for m, s in zip(mean, std, strict=True)], device=device)[:, None, None]
    return scale, shift
