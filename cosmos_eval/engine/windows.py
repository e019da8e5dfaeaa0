"""Sliding windows over an image (SCLIP, Wang et al., ECCV 2024), and images resized as mmsegmentation resizes them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from cosmos_core.image_files import to_rgb


@dataclass(frozen=True)
class WindowGrid:
    """Windows of one size that cover a resized image: one at each pair of `tops` and `lefts`, all in pixels."""

    height: int
    width: int
    tops: tuple[int, ...]
    lefts: tuple[int, ...]
    crop_height: int
    crop_width: int
    is_whole: bool = False
    """Whether the definition asks for one window with the whole image, in contrast to an image that is too small for
    more windows. The patches of such a window are resampled to the original size directly."""

    @property
    def window_count(self) -> int:
        """The number of windows."""
        return len(self.tops) * len(self.lefts)

    def boxes(self) -> Iterator[tuple[int, int]]:
        """Yield top and left of every window, row by row."""
        return ((top, left) for top in self.tops for left in self.lefts)


def window_grid(height: int, width: int, crop: int, stride: int) -> WindowGrid:
    """Return the windows of an image, placed as in SCLIP.

    The last window of a row or column is moved back so that it ends at the border. If a side of the image is shorter
    than the crop, windows have the length of that side: nothing is padded.

    Args:
        height, width: of the resized image.
        crop: side of a window; 0 for one window with the whole image.
        stride: distance between two windows.
    """
    crop_height, crop_width = (min(crop or side, side) for side in (height, width))
    return WindowGrid(
        height,
        width,
        _window_starts(height, crop_height, stride),
        _window_starts(width, crop_width, stride),
        crop_height,
        crop_width,
        is_whole=not crop,
    )


def _window_starts(side: int, crop: int, stride: int) -> tuple[int, ...]:
    count = -(-(side - crop) // stride) + 1
    return tuple(min(i * stride, side - crop) for i in range(count))


def resize_image(image: Image.Image, short_side: int | None, long_side: int) -> np.ndarray:
    """Resize an image so that its short side is `short_side`, or less if the long side would exceed `long_side`.

    The aspect ratio is kept. The method is bilinear without antialiasing, by mmcv: published numbers depend on its
    rounding.

    Args:
        short_side: None leaves the image as it is.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    pixels = np.ascontiguousarray(np.asarray(to_rgb(image)))
    if short_side is None:
        return pixels
    import mmcv

    return np.ascontiguousarray(
        mmcv.imrescale(pixels, (long_side, short_side), interpolation="bilinear", backend="cv2")
    )
