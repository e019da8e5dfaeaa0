"""From logits of patches to logits of pixels at an image's own size, a tile of rows at a time.

A window's patches are resampled to its pixels, windows that overlap are averaged, and the resized image's logits are
resampled to the original size; without windows, patches are resampled to that size at once. All of it is linear and
treats rows and columns apart, so that an image's logits are `down @ patches @ across`: two small matrices for an
image, and nothing of window size is ever made.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cosmos_eval.engine.dense import Dense

CACHED = 2**22
"""Bytes of a tile on a CPU: what is made is used again before it leaves the cache. Other devices take larger tiles."""


@dataclass(frozen=True)
class Axis:
    """One direction of an image: `matrix` (pixels at the original size, patches) takes patches to pixels.

    Patches of all windows stand in the order of their places in the image (`order`: of patches window by window), so
    that a pixel needs patches `first` to `last` (exclusive) only.
    """

    matrix: Tensor
    order: Tensor
    first: np.ndarray
    last: np.ndarray


@lru_cache(maxsize=32)
def axis(side: int, original: int, starts: tuple[int, ...], crop: int, patches: int) -> Axis:
    """The resampling along one side.

    Args:
        side: pixels of the resized image.
        original: pixels of the image as it was.
        starts: where windows begin, in pixels of the resized image.
        crop: pixels of a window.
        patches: of a window.
    """
    # Torch resamples the unit vectors, so that the weights are those of its own bilinear interpolation to the last bit.
    of_window = F.interpolate(torch.eye(patches)[None], size=crop, mode="linear", align_corners=False)[0].T
    placed = torch.zeros(side, len(starts), patches)
    count = torch.zeros(side)
    for i, start in enumerate(starts):
        placed[start : start + crop, i] = of_window
        count[start : start + crop] += 1
    averaged = (placed.flatten(1) / count[:, None]).T
    matrix = F.interpolate(averaged[None], size=original, mode="linear", align_corners=False)[0].T
    places = torch.tensor([start + (i + 0.5) * crop / patches for start in starts for i in range(patches)])
    order = places.argsort(stable=True)
    matrix = matrix[:, order].contiguous()
    used = matrix.numpy() != 0
    return Axis(matrix, order, used.argmax(1), used.shape[1] - used[:, ::-1].argmax(1))


class PatchMaps:
    """The logits of one image's pixels.

    Args:
        dense: the image's patch features.
        queries: (Q, D) rows of unit length on the same device.
        budget: bytes that all buffers together may take; one row of pixels is always allowed. The logits of patches
            (as large as the features times Q / D) and the two matrices come on top.
    """

    def __init__(self, dense: Dense, queries: Tensor, budget: int) -> None:
        rows, columns, height, width, _ = dense.features.shape
        grid, (self.height, self.width), device = dense.grid, dense.original, dense.features.device
        if grid.whole:  # resampled once, as the reference does it, and not through the pixels of the resized image
            self.down = axis(self.height, self.height, (0,), self.height, height)
            self.across = axis(self.width, self.width, (0,), self.width, width)
        else:
            self.down = axis(grid.height, self.height, grid.tops, grid.crop_height, height)
            self.across = axis(grid.width, self.width, grid.lefts, grid.crop_width, width)
        self.queries = len(queries)
        cosines = (dense.features @ queries.T).permute(0, 2, 1, 3, 4).reshape(rows * height, columns * width, -1)
        self.patches = cosines[self.down.order.to(device)][:, self.across.order.to(device)]  # (K, L, Q)
        self.down_matrix, self.across_matrix = self.down.matrix.to(device), self.across.matrix.to(device)
        self.budget = budget

    def band(self, rows: np.ndarray) -> tuple[int, int]:
        """First and last (exclusive) row of patches that rows of pixels need."""
        return int(self.down.first[rows].min()), int(self.down.last[rows].max())

    def tiles(self, rows: np.ndarray, chosen: slice = slice(None)) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Logits of ascending `rows` of pixels, some rows at a time.

        Yields:
            row numbers (r,), and (r, W, Q) cosines of the `chosen` queries in a buffer that the next tile overwrites.
        """
        patches = self.patches[..., chosen]
        queries = patches.shape[-1]
        # half for logits that are resampled along rows, half for those of pixels, with a few numbers a pixel besides
        most_patches = self.budget // 2 // (4 * self.width * queries)
        at_once = self.budget // 2 // (self.width * (4 * queries + 32))
        if patches.device.type == "cpu":
            at_once = min(at_once, CACHED // (4 * self.width * queries))
        at_once = min(len(rows), max(1, at_once))
        buffer = torch.empty(at_once, self.width * queries, device=patches.device)
        strips, low, high = torch.empty(0), 0, 0
        start = 0
        while start < len(rows):
            stop = min(len(rows), start + at_once)
            first, last = self.band(rows[start:stop])
            while last - first > most_patches and stop - start > 1:
                stop = start + (stop - start) // 2
                first, last = self.band(rows[start:stop])
            if first < low or last > high:
                low, high = first, max(last, min(len(patches), first + most_patches))
                strips = torch.empty(0)  # before the new ones are made
                strips = self._strips(patches[low:high])
            tile = rows[start:stop]
            weights = self.down_matrix[torch.from_numpy(tile).to(patches.device), first:last]
            out = torch.mm(weights, strips[first - low : last - low].flatten(1), out=buffer[: len(tile)])
            yield tile, out.view(len(tile), self.width, queries)
            start = stop

    def _strips(self, patches: Tensor) -> Tensor:
        """(k, L, Q) logits of rows of patches -> (k, W, Q), resampled along the rows."""
        return torch.bmm(self.across_matrix.expand(len(patches), -1, -1), patches)
