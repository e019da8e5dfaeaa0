"""What another decoder than Pillow changes: pixels, and the similarities of the embeddings that are made of them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cosmos_eval.datasets.base import ImageSource
from cosmos_eval.datasets.decoders import Decoder, decoding_by
from cosmos_eval.metrics.similarity import plain_float32

COMPARED = 16
"""Images, the first of a benchmark, that are decoded and encoded both ways."""


def decoder_drift(
    images: Sequence[ImageSource],
    decoder: Decoder,
    preprocess: Callable[[Image.Image], Tensor],
    encode: Callable[[Tensor, Sequence[ImageSource]], Tensor] | None,
) -> dict[str, Any]:
    """Compare a decoder with Pillow on the first `COMPARED` images.

    Args:
        preprocess: what workers make of an image.
        encode: a batch of those, with the images that errors name, -> (B, D) or (B, L, D) rows of unit length; None
            compares pixels only.

    Returns:
        `images`; `pixel_mean` and `pixel_max`, differences of 8-bit values at the decoder's size (Pillow's image is
        reduced to it by averaging, where it is smaller); `similarity_max`, the largest change of a cosine of two
        of them.
    """
    some = list(images[:COMPARED])
    ours = [image.load() for image in some]
    with decoding_by(decoder):
        theirs = [image.load() for image in some]
    sums, count, most = 0.0, 0, 0
    for one, other in zip(ours, theirs, strict=True):
        a, b = (np.asarray(image, dtype=np.int16) for image in (_as_large_as(one, other), other))
        difference = np.abs(a - b)
        sums, count, most = sums + float(difference.sum()), count + difference.size, max(most, int(difference.max()))
    found: dict[str, Any] = {"images": len(some), "pixel_mean": float(f"{sums / count:.4g}"), "pixel_max": most}
    if encode is None:
        return found
    cosines = []
    for decoded in (ours, theirs):
        pixels = [preprocess(image) for image in decoded]
        if len({x.shape for x in pixels}) > 1:
            return found  # which is refused, with a better line, when they are encoded
        rows = encode(torch.stack(pixels), some)
        rows = rows.flatten(1) / rows.shape[1:-1].numel() ** 0.5  # of L unit tokens together: unit length again
        with plain_float32():
            cosines.append((rows @ rows.T).double())
    found["similarity_max"] = float(f"{float((cosines[0] - cosines[1]).abs().max()):.4g}")
    return found


def _as_large_as(image: Image.Image, other: Image.Image) -> Image.Image:
    return image if image.size == other.size else image.resize(other.size, Image.Resampling.BOX)
