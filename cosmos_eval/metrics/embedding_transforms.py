"""Truncation, centring and quantisation of embeddings.

Everything is computed for each embedding by itself, or with statistics of the set that it is given with, in float64
where sums are involved: equal embeddings stay equal to the last bit, so that they still tie.
"""

import torch
from torch import Tensor

from cosmos_core.devices import to_float64


def truncate(features: Tensor, dim: int) -> Tensor:
    """The first dimensions of embeddings, normalised to unit length (Kusupati et al., NeurIPS 2022, section 3).

    Args:
        features: (N, D) float32.
        dim: at most D.

    Returns:
        (N, dim) float32. A row whose first dimensions are all zero stays zero.
    """
    return _normalise(features[:, :dim].float())


def subtract_mean(features: Tensor) -> Tensor:
    """Subtract the mean of N embeddings (N, D) from each; float64, on the CPU for a device without it."""
    doubles = to_float64(features)
    return doubles - doubles.mean(0)


def center(features: Tensor) -> Tensor:
    """Subtract the mean of a set of embeddings and normalise the differences to unit length.

    The modality gap is the difference of the mean of the images and the mean of the texts (Liang et al., NeurIPS 2022,
    section 2). Once each modality is centred by its own mean, both means are zero, and there is no gap.

    Args:
        features: (N, D) float32 embeddings of one modality.

    Returns:
        (N, D) float32. An embedding that equals the mean becomes zero, and has the score 0 with everything; so
        embeddings that are all equal still tie.
    """
    return _normalise(subtract_mean(features)).to(features.device, torch.float32)


def int8_ranges(features: Tensor) -> Tensor:
    """The smallest and the largest value (2, D) of each dimension of N embeddings."""
    return torch.stack([features.amin(0), features.amax(0)])


def quantize_int8(features: Tensor, ranges: Tensor) -> Tensor:
    """The int8 codes of embeddings: each dimension is divided into 255 equal steps of its own range, rounded down.

    The codes are those of `sentence_transformers.util.quantize_embeddings(..., "int8", ranges=ranges)`.

    Args:
        features: (N, D) float32.
        ranges: (2, D) float32, the value of code -128 and of code 127 in each dimension. Values beyond are clipped.

    Returns:
        (N, D) int8.
    """
    steps = _steps(ranges)
    codes = ((features.float() - ranges[0]) / steps).floor().clamp(0, 255)
    return (codes - 128).to(torch.int8)


def restore_int8(codes: Tensor, ranges: Tensor) -> Tensor:
    """The embeddings (N, D) float32 that int8 codes stand for: the lower end of their step, as sentence-transformers
    restores them.

    Args:
        codes: (N, D) int8 of `quantize_int8`.
        ranges: (2, D) as they were quantised with.
    """
    levels = to_float64(codes) + 128
    restored = levels * to_float64(_steps(ranges)) + to_float64(ranges[0])
    return restored.to(codes.device, torch.float32)


def binarize(features: Tensor) -> Tensor:
    """The signs of embeddings as 1 and -1: one bit for each dimension, which is set where the value is above 0.

    These are the bits of `sentence_transformers.util.quantize_embeddings(..., "binary")`. The dot product of two rows
    is D minus twice their Hamming distance: a whole number that float32 holds exactly, so that equal distances tie.

    Args:
        features: (N, D).

    Returns:
        (N, D) float32.
    """
    return torch.where(features > 0, 1.0, -1.0)


def _steps(ranges: Tensor) -> Tensor:
    """The width (D,) of a step in each dimension; 1 where all values are equal, whose code is then -128."""
    steps = (ranges[1] - ranges[0]) / 255
    return torch.where(steps == 0, torch.ones_like(steps), steps)


def _normalise(features: Tensor) -> Tensor:
    norms = torch.linalg.vector_norm(features, dim=-1, keepdim=True)
    return features / norms.masked_fill(norms == 0, 1.0)
