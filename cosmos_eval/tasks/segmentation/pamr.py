"""Pixel-adaptive mask refinement (Araslanov & Roth, "Single-Stage Semantic Segmentation from Image Labels", CVPR 2020,
section 3.3, arXiv 2005.08104): logits flow to neighbours that look alike.

SCLIP's settings leave it off; with it on, it takes ten steps and dilations 8 and 16.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cosmos_core.errors import RequestError
from cosmos_eval.engine.dense import Dense
from cosmos_eval.tasks.segmentation.patch_maps import CACHED, PatchMaps

AROUND = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
NEIGHBOURS = [place for place in AROUND if place != (0, 0)]


def reach(steps: int, dilations: Sequence[int]) -> int:
    """How many pixels away something may be and still change a pixel."""
    return steps * max(dilations)


def affinities(image: Tensor, dilations: Sequence[int]) -> Tensor:
    """How much a pixel takes from each of its neighbours; they sum to 1.

    Per channel, the absolute difference to a neighbour by a tenth of the standard deviation of the 3 x 3 neighbourhoods
    of all dilations (unbiased, the centre counted in each), then the mean over channels, then a softmax over neighbours
    of the negative. Pixels beyond the border are those at the border.

    Args:
        image: (channels, H, W).
        dilations: distances of the eight neighbours.

    Returns:
        (8 * len(dilations), H, W); the pixel itself is not among its neighbours.
    """
    margin = max(dilations)
    padded = _padded(image, margin)

    def samples() -> Iterator[Tensor]:
        return (_moved(padded, margin, d * dy, d * dx) for d in dilations for dy, dx in AROUND)

    count = len(AROUND) * len(dilations)
    mean = torch.zeros_like(image)
    for sample in samples():
        mean += sample
    mean /= count
    scale = torch.zeros_like(image)
    for sample in samples():
        scale += (sample - mean).square_()
    scale = scale.div_(count - 1).sqrt_().mul_(0.1).add_(1e-8)
    found = torch.empty(len(NEIGHBOURS) * len(dilations), *image.shape[1:], dtype=image.dtype, device=image.device)
    places = ((d * dy, d * dx) for d in dilations for dy, dx in NEIGHBOURS)
    for own, (dy, dx) in zip(found, places, strict=True):
        torch.mean((_moved(padded, margin, dy, dx) - image).abs_().div_(scale), dim=0, out=own)
    return torch.softmax(found.neg_(), dim=0)


def refine(logits: Tensor, weights: Tensor, dilations: Sequence[int], steps: int) -> Tensor:
    """`steps` times, every pixel becomes the weighted mean of its neighbours.

    Args:
        logits: (C, H, W).
        weights: (8 * len(dilations), H, W) of `affinities`.
        dilations: as given there.
        steps: from 0 on; 0 leaves the logits as they are.

    Returns:
        (C, H, W).
    """
    margin = max(dilations)
    for _ in range(steps):
        padded = _padded(logits, margin)
        logits = torch.zeros_like(logits)
        places = ((d * dy, d * dx) for d in dilations for dy, dx in NEIGHBOURS)
        for weight, (dy, dx) in zip(weights, places, strict=True):
            logits.addcmul_(_moved(padded, margin, dy, dx), weight)
    return logits


def _padded(x: Tensor, margin: int) -> Tensor:
    return F.pad(x[None], [margin] * 4, mode="replicate")[0]


def _moved(padded: Tensor, margin: int, down: int, right: int) -> Tensor:
    """The image seen from `down` and `right` pixels on; a view."""
    height, width = (side - 2 * margin for side in padded.shape[1:])
    return padded[:, margin + down :, margin + right :][:, :height, :width]


class RefinedMaps:
    """The refined logits of one image's pixels: rows in tiles, each with as many rows around it as can reach into it,
    and queries in chunks.

    Args:
        dense: patch features, with pixels.
        queries: (Q, D) rows of unit length on the same device.
        dilations, steps: of the refinement.
        budget: bytes that all buffers together may take; one row of pixels with its neighbourhood is always allowed.
            The image at its original size comes on top.

    Raises:
        RequestError: features without pixels.
    """

    def __init__(self, dense: Dense, queries: Tensor, dilations: Sequence[int], steps: int, budget: int) -> None:
        if dense.pixels is None:
            raise RequestError("PAMR refines by the image's colours; ask for window_features with keep_pixels")
        self.maps = PatchMaps(dense, queries, budget // 4)
        self.height, self.width = dense.original
        pixels = dense.pixels.to(queries.device)[None]
        self.image = F.interpolate(pixels, size=dense.original, mode="bilinear", align_corners=False)[0]
        self.dilations, self.steps, self.budget = dilations, steps, budget

    def tiles(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, Tensor]]:
        """As `PatchMaps.tiles`, refined; rows between those asked for may be among those given."""
        queries, margin = self.maps.queries, reach(self.steps, self.dilations)
        # A quarter of the budget holds a tile's logits, a quarter is for making them, half for the neighbourhood: the
        # weights twice and the colours six times over, then the weights and five maps a query.
        weights = len(NEIGHBOURS) * len(self.dilations)
        around = self.budget // 2 // (4 * self.width)  # values for each pixel of one row
        most = around // (2 * weights + 18)
        inner = self.height if most >= self.height else most - 2 * margin
        inner = max(1, min(inner, self.budget // 4 // (4 * self.width * queries)))
        position = 0
        while position < len(rows):
            start = int(rows[position])
            stop = min(start + inner, self.height)
            position = int(np.searchsorted(rows, stop))
            stop = int(rows[position - 1]) + 1
            low, high = max(0, start - margin), min(self.height, stop + margin)
            chunk = (around // (high - low) - weights) // 5
            if self.image.device.type == "cpu":
                chunk = min(chunk, CACHED // (4 * self.width * (high - low)))
            chunk = min(queries, max(1, chunk))
            yield np.arange(start, stop), self._refined(low, high, start, stop, chunk)

    def _refined(self, low: int, high: int, start: int, stop: int, chunk: int) -> Tensor:
        """(stop - start, W, Q) from the rows `low` to `high`."""
        weights = affinities(self.image[:, low:high], self.dilations)
        found = torch.empty(stop - start, self.width, self.maps.queries, device=self.image.device)
        for first in range(0, self.maps.queries, chunk):
            chosen = slice(first, min(first + chunk, self.maps.queries))
            logits = torch.empty(chosen.stop - first, high - low, self.width, device=self.image.device)
            for tile, part in self.maps.tiles(np.arange(low, high), chosen):
                logits[:, tile[0] - low : tile[-1] + 1 - low] = part.permute(2, 0, 1)
            refined = refine(logits, weights, self.dilations, self.steps)
            found[..., chosen] = refined[:, start - low : stop - low].permute(1, 2, 0)
        return found
