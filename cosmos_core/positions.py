"""Position embeddings for other sizes: at run time, and when weights are loaded for another grid or context.

The two differ on purpose, as in the original: at run time embeddings are sampled with an inflated scale factor and
without antialiasing, while loading resamples to the exact size with antialiasing.
"""

import math

from torch import Tensor, cat
from torch.nn import functional as F


def run_time_positions(positions: Tensor, native_grid: tuple[int, int], grid: tuple[int, int], square: bool) -> Tensor:
    """Position embeddings for an image of another size, sampled as in the original, with which its weights were
    trained.

    Args:
        positions: (1 + N, width), class row first, then row-major patches.
        native_grid: rows and columns of those N patches.
        grid: rows and columns of the image's patches.
        square: whether the image's height and width are equal, in pixels; only then are embeddings unchanged if the
            number of patches is equal.

    Returns:
        (1 + rows * columns, width).
    """
    if square and grid[0] * grid[1] == native_grid[0] * native_grid[1]:
        return positions
    # 0.1 protects the output size from rounding down; the sampling coordinates use the inflated factor as well.
    scale = ((grid[0] + 0.1) / native_grid[0], (grid[1] + 0.1) / native_grid[1])
    patches = F.interpolate(as_map(positions[1:], native_grid), scale_factor=scale, mode="bicubic")
    if patches.shape[-2:] != grid:
        raise ValueError(f"{tuple(patches.shape[-2:])} position embeddings for a grid of {grid}")
    return cat([positions[:1], as_rows(patches)])


def resize_image_positions(
    positions: Tensor, grid: tuple[int, int], native_grid: tuple[int, int] | None = None
) -> Tensor:
    """Position embeddings of a checkpoint resampled for a model with another grid: bicubic, antialiased.

    Args:
        positions: (1 + N, width), class row first.
        grid: rows and columns wanted.
        native_grid: rows and columns of the N patches; None: a square.

    Returns:
        (1 + rows * columns, width); ValueError if N patches do not fill the native grid.
    """
    count = len(positions) - 1
    side = math.isqrt(count)
    native_grid = native_grid or (side, side)
    if native_grid[0] * native_grid[1] != count:
        raise ValueError(f"{count} patch positions do not fill a grid of {native_grid[0]} x {native_grid[1]}")
    if native_grid == grid:
        return positions
    patches = F.interpolate(as_map(positions[1:], native_grid), size=grid, mode="bicubic", antialias=True)
    return cat([positions[:1], as_rows(patches)])


def resize_text_positions(positions: Tensor, length: int) -> Tensor:
    """(L, width) position embeddings resampled to (length, width): linear, not antialiased."""
    if len(positions) == length:
        return positions
    return F.interpolate(positions.T[None], size=length, mode="linear")[0].T


def as_map(rows: Tensor, grid: tuple[int, int]) -> Tensor:
    """(R * C, width) -> (1, width, R, C)."""
    return rows.T.reshape(1, rows.shape[1], *grid)


def as_rows(patches: Tensor) -> Tensor:
    """(1, width, R, C) -> (R * C, width)."""
    return patches[0].flatten(1).T
