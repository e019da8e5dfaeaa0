"""Logits of pixels at an image's own size from logits of patches, a tile of pixel rows at a time.

As in SCLIP, the patches of a window are resampled to its pixels, overlapping windows are averaged, and the logits of
the resized image are resampled to the original size. Without windows, patches are resampled to the original size at
once.

All these steps are linear and treat rows and columns separately. So the logits of an image and a query word are
`down @ patches @ across.T`, with two small matrices: `down` (H, patch rows) and `across` (W, patch columns). Nothing as
large as a window's pixels is ever computed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cosmos_eval.engine.dense import DenseFeatures
from cosmos_eval.engine.device_copies import copy_to_device

CPU_TILE_BYTES = 2**22
"""Bytes of a tile on a CPU: small enough that it is used again while it is in the CPU's cache. Other devices take
larger tiles."""


@dataclass(frozen=True)
class AxisResampling:
    """The resampling of patches to pixels along one side of an image.

    Patches of overlapping windows are interleaved: they are sorted by their position in the image. So a pixel depends
    on neighbouring patches only, and a tile of pixels on one range of patches.
    """

    matrix: Tensor
    """(pixels at the original size, patches), float32 on the CPU; the patches are sorted."""
    order: Tensor
    """(patches,) for each sorted patch, its position among the patches window by window."""
    first: np.ndarray
    """(pixels,) the first patch that a pixel depends on."""
    last: np.ndarray
    """(pixels,) one more than the last patch that a pixel depends on."""
    copies: dict[torch.device, "ResamplingOnDevice"] = field(default_factory=dict)
    """By device, so that an image with sides that were seen before copies nothing."""

    def on_device(self, device: torch.device) -> "ResamplingOnDevice":
        """Return the matrix and the order on a device."""
        if device not in self.copies:
            self.copies[device] = ResamplingOnDevice(self.matrix.to(device), self.order.to(device))
        return self.copies[device]


class ResamplingOnDevice(NamedTuple):
    """`AxisResampling.matrix` and `order` on a device."""

    matrix: Tensor
    order: Tensor


def row_index(rows: np.ndarray, device: torch.device) -> slice | Tensor:
    """Return an index for ascending row numbers: a slice if they are consecutive, which copies nothing to a device."""
    if device.type != "cpu" and rows[-1] - rows[0] == len(rows) - 1:
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return copy_to_device(torch.from_numpy(rows), device)


@lru_cache(maxsize=32)
def axis_resampling(side: int, original: int, starts: tuple[int, ...], crop: int, patches: int) -> AxisResampling:
    """The resampling along one side of an image; cached, because most images of a dataset have one of a few sizes.

    Args:
        side: pixels of the resized image.
        original: pixels of the original image.
        starts: first pixel of each window in the resized image.
        crop: pixels of a window.
        patches: patches of a window.
    """
    # Unit vectors are resampled by torch itself, so that the weights are those of its bilinear interpolation to the
    # last bit.
    window_matrix = F.interpolate(torch.eye(patches)[None], size=crop, mode="linear", align_corners=False)[0].T
    window_matrices = torch.zeros(side, len(starts), patches)
    windows_of_pixel = torch.zeros(side)
    for i, start in enumerate(starts):
        window_matrices[start : start + crop, i] = window_matrix
        windows_of_pixel[start : start + crop] += 1
    averaged = (window_matrices.flatten(1) / windows_of_pixel[:, None]).T
    matrix = F.interpolate(averaged[None], size=original, mode="linear", align_corners=False)[0].T
    centres = torch.tensor([start + (i + 0.5) * crop / patches for start in starts for i in range(patches)])
    order = centres.argsort(stable=True)
    matrix = matrix[:, order].contiguous()
    is_used = matrix.numpy() != 0
    first = is_used.argmax(1)
    last = is_used.shape[1] - is_used[:, ::-1].argmax(1)
    return AxisResampling(matrix, order, first, last)


class PixelLogits:
    """The logits of one image's pixels, computed tile by tile.

    Args:
        dense: the image's patch features.
        queries: (Q, D) embeddings of the query words, of unit length, on the same device.
        budget: bytes that all buffers together may take; at least one row of pixels is always allowed. The logits of
            the patches (Q / D times the size of the features) and the two matrices are not counted.
    """

    def __init__(self, dense: DenseFeatures, queries: Tensor, budget: int) -> None:
        rows, columns, height, width, _ = dense.features.shape
        grid, (self.height, self.width), device = dense.grid, dense.original_size, dense.features.device
        if grid.is_whole:
            # Patches go to the original size directly, as in the reference, and not through the resized image's pixels.
            self.down = axis_resampling(self.height, self.height, (0,), self.height, height)
            self.across = axis_resampling(self.width, self.width, (0,), self.width, width)
        else:
            self.down = axis_resampling(grid.height, self.height, grid.tops, grid.crop_height, height)
            self.across = axis_resampling(grid.width, self.width, grid.lefts, grid.crop_width, width)
        self.query_count = len(queries)
        down, across = self.down.on_device(device), self.across.on_device(device)
        cosines = (dense.features @ queries.T).permute(0, 2, 1, 3, 4).reshape(rows * height, columns * width, -1)
        self.patch_logits = cosines[down.order][:, across.order]
        """(K, L, Q) for K rows and L columns of patches, sorted along both sides."""
        self.down_matrix, self.across_matrix = down.matrix, across.matrix
        self.budget = budget

    def patch_range(self, rows: np.ndarray) -> tuple[int, int]:
        """The range of patch rows that some rows of pixels depend on: the first, and one more than the last."""
        return int(self.down.first[rows].min()), int(self.down.last[rows].max())

    def tiles(self, rows: np.ndarray, queries: slice = slice(None)) -> Iterator[tuple[np.ndarray, Tensor]]:
        """The logits of some rows of pixels, a tile of rows at a time.

        Args:
            rows: ascending numbers of rows.
            queries: the query words to compute.

        Yields:
            (r,) row numbers, and (r, W, Q) logits in a buffer that the next tile overwrites.
        """
        patch_logits = self.patch_logits[..., queries]
        query_count = patch_logits.shape[-1]
        # One half of the budget is for patch rows resampled across (`strips`), one half for the pixels' logits, with 32
        # bytes a pixel for what the caller computes from them.
        most_patch_rows = self.budget // 2 // (4 * self.width * query_count)
        tile_rows = self.budget // 2 // (self.width * (4 * query_count + 32))
        if patch_logits.device.type == "cpu":
            tile_rows = min(tile_rows, CPU_TILE_BYTES // (4 * self.width * query_count))
        tile_rows = min(len(rows), max(1, tile_rows))
        buffer = torch.empty(tile_rows, self.width * query_count, device=patch_logits.device)
        strips, strips_start, strips_stop = torch.empty(0), 0, 0
        start = 0
        while start < len(rows):
            stop = min(len(rows), start + tile_rows)
            first, last = self.patch_range(rows[start:stop])
            while last - first > most_patch_rows and stop - start > 1:
                stop = start + (stop - start) // 2
                first, last = self.patch_range(rows[start:stop])
            if first < strips_start or last > strips_stop:
                # As many strips as the budget holds: neighbouring tiles depend on the same patches.
                strips_start, strips_stop = first, max(last, min(len(patch_logits), first + most_patch_rows))
                strips = torch.empty(0)  # frees the old strips before the new ones are computed
                strips = self._resample_across(patch_logits[strips_start:strips_stop])
            tile = rows[start:stop]
            weights = self.down_matrix[row_index(tile, patch_logits.device), first:last].contiguous()
            # No variable for this view of `strips`: it would keep the old strips in memory while new ones are computed.
            logits = torch.mm(
                weights, strips[first - strips_start : last - strips_start].flatten(1), out=buffer[: len(tile)]
            )
            yield tile, logits.view(len(tile), self.width, query_count)
            start = stop

    def _resample_across(self, patch_logits: Tensor) -> Tensor:
        """(k, L, Q) logits of patch rows -> (k, W, Q), resampled along each row."""
        return torch.bmm(self.across_matrix.expand(len(patch_logits), -1, -1), patch_logits)
