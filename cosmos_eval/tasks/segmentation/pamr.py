"""Pixel-adaptive mask refinement, PAMR (Araslanov & Roth, "Single-Stage Semantic Segmentation from Image Labels", CVPR
2020, section 3.3, arXiv 2005.08104).

Each step replaces the logits of a pixel by a weighted mean of its neighbours' logits; neighbours of a similar colour
have larger weights. SCLIP's settings leave it off; where it is on, SCLIP takes ten steps and dilations 8 and 16.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cosmos_core.errors import RequestError
from cosmos_eval.engine.dense import DenseFeatures
from cosmos_eval.tasks.segmentation.pixel_logits import CPU_TILE_BYTES, PixelLogits

OFFSETS_3X3 = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
"""A pixel and its eight neighbours, row by row."""
NEIGHBOURS = [offset for offset in OFFSETS_3X3 if offset != (0, 0)]


def receptive_radius(steps: int, dilations: Sequence[int]) -> int:
    """How many pixels away a pixel may be and still influence another one."""
    return steps * max(dilations)


def affinities(image: Tensor, dilations: Sequence[int]) -> Tensor:
    """The weights of each pixel's neighbours; those of one pixel sum to 1.

    For each channel, the absolute difference to a neighbour is divided by a tenth of the (unbiased) standard deviation
    of all 3 x 3 neighbourhoods, one for each dilation, in which the centre counts every time. The mean over channels is
    negated, and a softmax over the neighbours follows. Beyond the border, the border's pixels are repeated.

    Args:
        image: (channels, H, W).
        dilations: distances of the eight neighbours.

    Returns:
        (8 * len(dilations), H, W); a pixel is not its own neighbour.
    """
    margin = max(dilations)
    padded = _pad(image, margin)

    def neighbourhood() -> Iterator[Tensor]:
        return (_shifted(padded, margin, d * dy, d * dx) for d in dilations for dy, dx in OFFSETS_3X3)

    # Two passes over shifted views: stacking the neighbourhood would take 9 * len(dilations) times the image.
    count = len(OFFSETS_3X3) * len(dilations)
    mean = torch.zeros_like(image)
    for shifted_image in neighbourhood():
        mean += shifted_image
    mean /= count
    scale = torch.zeros_like(image)
    for shifted_image in neighbourhood():
        scale += (shifted_image - mean).square_()
    scale = scale.div_(count - 1).sqrt_().mul_(0.1).add_(1e-8)
    shape = (len(NEIGHBOURS) * len(dilations), *image.shape[1:])
    differences = torch.empty(shape, dtype=image.dtype, device=image.device)
    offsets = ((d * dy, d * dx) for d in dilations for dy, dx in NEIGHBOURS)
    for difference, (dy, dx) in zip(differences, offsets, strict=True):
        torch.mean((_shifted(padded, margin, dy, dx) - image).abs_().div_(scale), dim=0, out=difference)
    return torch.softmax(differences.neg_(), dim=0)


def refine(logits: Tensor, weights: Tensor, dilations: Sequence[int], steps: int) -> Tensor:
    """Replace the logits of every pixel by the weighted mean of its neighbours' logits, `steps` times.

    Args:
        logits: (C, H, W).
        weights: (8 * len(dilations), H, W) of `affinities`.
        dilations: as in `affinities`.
        steps: at least 0; 0 returns the logits unchanged.

    Returns:
        (C, H, W).
    """
    margin = max(dilations)
    for _ in range(steps):
        padded = _pad(logits, margin)
        logits = torch.zeros_like(logits)
        offsets = ((d * dy, d * dx) for d in dilations for dy, dx in NEIGHBOURS)
        for weight, (dy, dx) in zip(weights, offsets, strict=True):
            logits.addcmul_(_shifted(padded, margin, dy, dx), weight)
    return logits


def _pad(x: Tensor, margin: int) -> Tensor:
    """(C, H, W) with `margin` pixels added on each side, equal to those at the border."""
    return F.pad(x[None], [margin] * 4, mode="replicate")[0]


def _shifted(padded: Tensor, margin: int, dy: int, dx: int) -> Tensor:
    """A view of a padded image, without its margin, that holds at each pixel (y, x) the pixel (y + dy, x + dx)."""
    height, width = (side - 2 * margin for side in padded.shape[1:])
    return padded[:, margin + dy :, margin + dx :][:, :height, :width]


class RefinedPixelLogits:
    """The refined logits of one image's pixels, computed tile by tile; used like `PixelLogits`.

    A tile is refined together with all rows around it that can influence it, so that the result is the same as for the
    whole image. If all query words do not fit, they are refined in chunks.

    Args:
        dense: the image's patch features, with pixels.
        queries: (Q, D) embeddings of the query words, of unit length, on the same device.
        dilations, steps: as in `refine`.
        budget: bytes that all buffers together may take; at least one row of pixels with its neighbourhood is always
            allowed. The image at its original size is not counted.

    Raises:
        RequestError: features without pixels.
    """

    def __init__(
        self, dense: DenseFeatures, queries: Tensor, dilations: Sequence[int], steps: int, budget: int
    ) -> None:
        if dense.pixels is None:
            raise RequestError(
                "PAMR needs the image's colours, which are missing; call window_features with keep_pixels=True"
            )
        # See `tiles` for the parts of the budget.
        self.pixel_logits = PixelLogits(dense, queries, budget // 4)
        self.height, self.width = dense.original_size
        pixels = dense.pixels.to(queries.device)[None]
        self.image = F.interpolate(pixels, size=dense.original_size, mode="bilinear", align_corners=False)[0]
        self.dilations, self.steps, self.budget = dilations, steps, budget

    def tiles(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, Tensor]]:
        """As `PixelLogits.tiles`, refined. Rows between two of `rows` may be among those yielded."""
        query_count, margin = self.pixel_logits.query_count, receptive_radius(self.steps, self.dilations)
        # A quarter of the budget is for the refined logits of a tile, a quarter for `PixelLogits`, and half for the
        # refinement of the tile with its margins. The refinement takes, in float32 numbers for each pixel: twice the
        # weights and six times the three colours while weights are computed, then the weights and five for each query.
        weight_count = len(NEIGHBOURS) * len(self.dilations)
        row_values = self.budget // 2 // (4 * self.width)  # numbers for each pixel of one row
        most_rows = row_values // (2 * weight_count + 18)
        tile_rows = self.height if most_rows >= self.height else most_rows - 2 * margin
        tile_rows = max(1, min(tile_rows, self.budget // 4 // (4 * self.width * query_count)))
        position = 0
        while position < len(rows):
            start = int(rows[position])
            stop = min(start + tile_rows, self.height)
            position = int(np.searchsorted(rows, stop))  # of the first row that is not in this tile
            stop = int(rows[position - 1]) + 1  # the tile ends with the last row that is needed
            low, high = max(0, start - margin), min(self.height, stop + margin)
            chunk_size = (row_values // (high - low) - weight_count) // 5
            if self.image.device.type == "cpu":
                chunk_size = min(chunk_size, CPU_TILE_BYTES // (4 * self.width * (high - low)))
            chunk_size = min(query_count, max(1, chunk_size))
            yield np.arange(start, stop), self._refine_tile(low, high, start, stop, chunk_size)

    def _refine_tile(self, low: int, high: int, start: int, stop: int, chunk_size: int) -> Tensor:
        """(stop - start, W, Q) refined logits of the rows `start` to `stop`, from those of the rows `low` to `high`."""
        query_count, device = self.pixel_logits.query_count, self.image.device
        weights = affinities(self.image[:, low:high], self.dilations)
        refined_tile = torch.empty(stop - start, self.width, query_count, device=device)
        for first in range(0, query_count, chunk_size):
            chunk = slice(first, min(first + chunk_size, query_count))
            logits = torch.empty(chunk.stop - first, high - low, self.width, device=device)
            for tile, tile_logits in self.pixel_logits.tiles(np.arange(low, high), chunk):
                logits[:, tile[0] - low : tile[-1] + 1 - low] = tile_logits.permute(2, 0, 1)
            refined = refine(logits, weights, self.dilations, self.steps)
            refined_tile[..., chunk] = refined[:, start - low : stop - low].permute(1, 2, 0)
        return refined_tile
