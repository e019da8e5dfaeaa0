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
from torchvision.transforms import functional as tvf

from cosmos_core.errors import RequestError
from cosmos_core.image_files import to_rgb
from cosmos_core.seeds import Generator, as_random
from cosmos_core.short_repr import short_repr
from cosmos_core.text_crop import TextCrop, candidate_sentences, sample_sentences, split_caption

__all__ = ["MultiCrop", "TextCrop", "candidate_sentences", "sample_sentences", "split_caption"]

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
CROP_TRIES = 10
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

    def pixels(self, image: Image.Image | np.ndarray, generator: Generator) -> list[np.ndarray]:
        """The same views before normalisation, (size, size, 3) uint8: a loader normalises a whole batch at once."""
        draw = as_random(generator)
        rgb = as_rgb(image)
        views = []
        for index in range(self.global_crops + self.local_crops):
            is_local = index >= self.global_crops
            size = self.local_size if is_local else self.global_size
            shares = (self.min_scale, self.crop_scale) if is_local else (self.crop_scale, self.max_scale)
            view = crop(rgb, size, random_box(rgb.size, shares, self.ratio, draw))
            views.append(np.asarray(self._change(view, 2 if is_local else min(index, 1), draw)))
        return views

    def _change(self, view: Image.Image, kind: int, draw: random.Random) -> Image.Image:
        if flip_coin(self.flip, draw):
            view = ImageOps.mirror(view)
        if flip_coin(self.jitter, draw):
            view = self._jitter(view, draw)
        if flip_coin(self.gray, draw):
            view = view.convert("L").convert("RGB")
        if flip_coin(self.blur[kind], draw):
            view = view.filter(ImageFilter.GaussianBlur(draw.uniform(*self.blur_radius)))
        if flip_coin(self.solarise[kind], draw):
            view = ImageOps.solarize(view, threshold=128)
        return view

    def _jitter(self, view: Image.Image, draw: random.Random) -> Image.Image:
        changes = [
            (tvf.adjust_brightness, self.brightness),
            (tvf.adjust_contrast, self.contrast),
            (tvf.adjust_saturation, self.saturation),
        ]
        steps = [(change, draw.uniform(max(0.0, 1 - most), 1 + most)) for change, most in changes if most]
        if self.hue:
            steps.append((tvf.adjust_hue, draw.uniform(-self.hue, self.hue)))
        draw.shuffle(steps)  # as torchvision's ColorJitter: the changes do not commute
        for change, factor in steps:
            view = change(view, factor)
        return view


def flip_coin(probability: float, draw: random.Random) -> bool:
    """True with `probability`; probabilities of 0 and 1 draw no random number."""
    return probability >= 1 or (probability > 0 and draw.random() < probability)


def as_rgb(image: Image.Image | np.ndarray) -> Image.Image:
    """The image as RGB; before any resize, since Pillow resizes palette images by nearest neighbour."""
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise RequestError(f"an image is (H, W, 3) uint8, got {image.shape} {image.dtype}")
        return Image.fromarray(image)
    return image if image.mode == "RGB" else to_rgb(image)


def random_box(
    size: tuple[int, int], shares: tuple[float, float], ratio: tuple[float, float], draw: random.Random
) -> tuple[int, int, int, int]:
    """A box (left, top, right, bottom) with area uniform in `shares` of the image and log-uniform aspect ratio.

    After ten boxes that do not fit it is the largest centred box whose aspect ratio is within `ratio`, as
    torchvision's RandomResizedCrop does.
    """
    width, height = size
    for _ in range(CROP_TRIES):
        area = width * height * draw.uniform(*shares)
        aspect = math.exp(draw.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = draw.randint(0, width - w), draw.randint(0, height - h)
            return left, top, left + w, top + h
    aspect = min(max(width / height, ratio[0]), ratio[1])
    w, h = min(width, round(height * aspect)), min(height, round(width / aspect))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def crop(image: Image.Image, size: int, box: tuple[int, int, int, int]) -> Image.Image:
    return image.crop(box).resize((size, size), Image.Resampling.BICUBIC)


def normalize_pixels(pixels: np.ndarray | Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 (..., H, W, 3) to float32 (..., 3, H, W) with each channel's mean and standard deviation taken out.

    It stays on its device; the values are the same on any.
    """
    if isinstance(pixels, np.ndarray):
        channels = torch.from_numpy(np.moveaxis(pixels, -1, -3).astype(np.float32, order="C"))
    else:
        channels = pixels.movedim(-1, -3).to(torch.float32, memory_format=torch.contiguous_format)
    scale, shift = _scale_and_shift(tuple(mean), tuple(std), channels.device)
    return channels.mul_(scale).sub_(shift)


@lru_cache(maxsize=8)
def _scale_and_shift(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """What pixels are multiplied by, and what is subtracted then; (3, 1, 1) each. Made once: each copy is a wait."""
    scale = torch.tensor([1 / (255 * s) for s in std], device=device)[:, None, None]
    shift = torch.tensor([m / s for m, s in zip(mean, std, strict=True)], device=device)[:, None, None]
    return scale, shift
