"""Sliding windows over an image (SCLIP, Wang et al., ECCV 2024), and images resized as mmsegmentation does it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from cosmos_core.image_files import to_rgb


@dataclass(frozen=True)
class Grid:
    """Windows of one size that cover an image: one at each of `tops` x `lefts`, in pixels of the resized image."""

    height: int
    width: int
    tops: tuple[int, ...]
    lefts: tuple[int, ...]
    crop_height: int
    crop_width: int
    whole: bool = False
    """One window by intent, and not because the image is small: its patches go to the original size directly."""

    @property
    def windows(self) -> int:
        return len(self.tops) * len(self.lefts)

    def boxes(self) -> Iterator[tuple[int, int]]:
        """Top and left of every window, row by row."""
        return ((top, left) for top in self.tops for left in self.lefts)


def window_grid(height: int, width: int, crop: int, stride: int) -> Grid:
    """The windows of an image, as SCLIP lays them.

    The last window of a row or column is pulled back inside. Where a side is shorter than the crop, windows are as
    short as that side: nothing is padded. A crop of 0 is one window that holds the whole image.
    """
    crop_height, crop_width = (min(crop or side, side) for side in (height, width))
    return Grid(
        height,
        width,
        _starts(height, crop_height, stride),
        _starts(width, crop_width, stride),
        crop_height,
        crop_width,
        whole=not crop,
    )


def _starts(side: int, crop: int, stride: int) -> tuple[int, ...]:
    count = -(-(side - crop) // stride) + 1
    return tuple(min(i * stride, side - crop) for i in range(count))


def resized(image: Image.Image, short_side: int | None, long_side: int) -> np.ndarray:
    """(H, W, 3) uint8 RGB with `short_side` pixels on the short side and at most `long_side` on the long one.

    The ratio is kept; bilinear without antialiasing, by mmcv, whose rounding the published numbers rest on. Without
    `short_side` the image stays as it is.
    """
    pixels = np.ascontiguousarray(np.asarray(to_rgb(image)))
    if short_side is None:
        return pixels
    import mmcv

    return np.ascontiguousarray(
        mmcv.imrescale(pixels, (long_side, short_side), interpolation="bilinear", backend="cv2")
    )
