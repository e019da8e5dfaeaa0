"""The changes of image views for a whole batch at once, on the device: jitter, grayscale, blur, solarisation.

Every step rounds to 8 bits as Pillow does, so that the same drawn numbers give the same pixels as on the CPU, but for
single levels where float32 rounds another way (tests/core/test_device_views.py states how many). Which views a step
applies to is known on the host, from where indices are sent, so that the host never waits for the device.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cosmos_core.view_draws import CHANGES

MOST_VALUES = 2**26
"""Values of the views that are changed together, which bounds the memory of intermediate results."""
BYTES_PER_VALUE = 8
"""Bytes of intermediate results for each value of the views that are changed together (measured on the default
strengths)."""
BOX_PASSES = 3
"""Pillow's Gaussian blur is this many box blurs in each direction (Gwosdek et al., SSVM 2011)."""


def change_views(pixels: Tensor, changes: np.ndarray, send: Callable[[np.ndarray], Tensor]) -> Tensor:
    """Apply each view's own changes.

    Args:
        pixels: (N, H, W, 3) uint8, on the device.
        changes: (N, 11) float32, of `cosmos_core.view_draws.changes_table`.
        send: copies an array to the device of the pixels.

    Returns:
        (N, 3, H, W) float32 with whole numbers 0 to 255.
    """
    x = pixels.movedim(-1, -3).to(torch.float32, memory_format=torch.contiguous_format)
    most = max(1, MOST_VALUES // math.prod(x.shape[1:]))
    for part, rows in zip(x.split(most), np.split(changes, range(most, len(changes), most)), strict=True):
        _change_part(part, rows, send)
    return x


def _change_part(x: Tensor, changes: np.ndarray, send: Callable[[np.ndarray], Tensor]) -> None:
    """Change (n, 3, H, W) in place."""
    steps: list[tuple[Callable[[Tensor, Tensor], Tensor], np.ndarray, np.ndarray]] = []
    for position in range(len(CHANGES)):
        for column, name in enumerate(CHANGES):
            rows = np.flatnonzero(changes[:, 4 + column] == position)
            strengths = changes[rows, column][:, None]
            # torchvision adds the hue as an 8-bit number, cut toward 0
            steps.append((JITTER[name], rows, np.trunc(strengths * 255) if name == "hue" else strengths))
    none = np.empty((0, 1), np.float32)
    blurred = np.flatnonzero(changes[:, 9] > 0)
    for change, rows, numbers in (
        *steps,
        (lambda part, _: luma(part).expand_as(part), np.flatnonzero(changes[:, 8] > 0), none),
        (blur, blurred, box_taps(changes[blurred, 9])),
        (lambda part, _: torch.where(part < 128, part, 255 - part), np.flatnonzero(changes[:, 10] > 0), none),
    ):
        if len(rows):
            index = send(rows)
            x.index_copy_(0, index, change(x.index_select(0, index), send(numbers)))


def luma(x: Tensor) -> Tensor:
    """(n, 3, H, W) -> (n, 1, H, W): Pillow's grayscale, whose sums are exact in float32."""
    red, green, blue = x.split(1, dim=1)
    return ((19595 * red).add_(green, alpha=38470).add_(blue, alpha=7471).add_(2**15) / 2**16).floor_()


def blend(x: Tensor, other: Tensor | float, factor: Tensor) -> Tensor:
    """Pillow's blend: `other` at factor 0, x at 1, cut to 8 bits; factor (n, 1)."""
    return ((x - other) * factor[:, :, None, None]).add_(other).clamp_(0, 255).floor_()


def change_contrast(x: Tensor, factor: Tensor) -> Tensor:
    means = luma(x).mean(dim=(1, 2, 3), keepdim=True, dtype=torch.float64)
    return blend(x, (means + 0.5).floor_().float(), factor)


def shift_hue(x: Tensor, shift: Tensor) -> Tensor:
    """(n, 3, H, W) with the hue shifted by (n, 1) steps of 255, through Pillow's 8-bit HSV and back."""
    largest = x.amax(1, keepdim=True)
    spread = largest - x.amin(1, keepdim=True)
    red, green, blue = ((largest - x) / spread.clamp(min=1)).double().split(1, dim=1)
    is_red, is_green = (x[:, i : i + 1] == largest for i in (0, 1))
    hue = torch.where(is_red, blue - green, torch.where(is_green, 2 + red - blue, 4 + green - red))
    hue = levels((hue.float().double() / 6 + 1).remainder_(1).float())
    saturation = levels(spread / largest.clamp(min=1))
    sector = (hue + shift[:, :, None, None]).remainder_(256) * 6 / 255
    # each channel falls from the value by a share of the saturation that depends on the distance of the hue
    distance = (sector + _offsets(x.device)).remainder_(6)
    share = torch.minimum(distance, 4 - distance).clamp_(0, 1)
    return (largest * (1 - saturation / 255 * share)).add_(0.5).floor_()


def levels(x: Tensor) -> Tensor:
    """0 to 1 as whole numbers 0 to 255, cut; the product is in float64, as in Pillow."""
    return (x.double() * 255).floor_().float()


@lru_cache(maxsize=8)
def _offsets(device: torch.device) -> Tensor:
    """(3, 1, 1), for red, green and blue. Made once: each copy is a wait."""
    return torch.tensor([5.0, 3.0, 1.0], device=device)[:, None, None]


JITTER: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brightness": lambda x, factor: blend(x, 0, factor),
    "contrast": change_contrast,
    "saturation": lambda x, factor: blend(x, luma(x), factor),
    "hue": shift_hue,
}


def box_taps(deviations: np.ndarray) -> np.ndarray:
    """(n,) standard deviations -> (n, 2 r + 1) float32: the weights of one of the box blurs, as Pillow sets them.

    A box of fractional radius: full weights in the middle, smaller ones at both ends (Gwosdek et al., eq. 12 to 14).
    """
    variances = deviations.astype(np.float64) ** 2 / BOX_PASSES
    whole = np.floor((np.sqrt(12 * variances + 1) - 1) / 2)
    ends = (2 * whole + 1) * (whole * (whole + 1) - 3 * variances) / (6 * (variances - (whole + 1) ** 2))
    reach = int(whole.max(initial=0)) + 1
    distance = np.abs(np.arange(-reach, reach + 1))[None]
    taps = np.where(distance <= whole[:, None], 1.0, np.where(distance == whole[:, None] + 1, ends[:, None], 0.0))
    return (taps / (2 * (whole + ends) + 1)[:, None]).astype(np.float32)


def blur(x: Tensor, taps: Tensor) -> Tensor:
    """Box blurs of (n, 3, H, W) with each image's own taps (n, 2 r + 1), the edge repeated outside of the image."""
    reach = taps.shape[1] // 2
    weights = taps[:, :, None, None, None].unbind(1)  # each (n, 1, 1, 1)
    for axis, padding in ((3, (reach, reach, 0, 0)), (2, (0, 0, reach, reach))):
        for _ in range(BOX_PASSES):
            padded = F.pad(x, padding, mode="replicate")
            x = torch.full_like(x, 0.5)
            for offset, weight in enumerate(weights):
                x.addcmul_(padded.narrow(axis, offset, x.shape[axis]), weight)
            x.floor_()
    return x
