"""Comparison of another decoder with Pillow: differences of pixels, and of similarities of the embeddings."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cosmos_eval.datasets.decoders import Decoder, use_decoder
from cosmos_eval.datasets.image_sources import ImageSource
from cosmos_eval.metrics.similarity import plain_float32

COMPARED_IMAGES = 16
"""The number of images, the first of a benchmark, that both decoders decode."""


def measure_decoder_differences(
    images: Sequence[ImageSource],
    decoder: Decoder,
    preprocess: Callable[[Image.Image], Tensor],
    encode: Callable[[Tensor, Sequence[ImageSource]], Tensor] | None,
) -> dict[str, Any]:
    """Compare a decoder with Pillow on the first `COMPARED_IMAGES` images.

    Args:
        preprocess: a decoded image -> the input of the tower for one image.
        encode: a batch of such inputs and its images (for error messages) -> features (B, D) or (B, L, D) of unit
            length; None compares pixels only.

    Returns:
        `images`: their number. `pixel_mean` and `pixel_max`: mean and largest absolute difference of 8-bit values, at
        the size that the decoder gives; a larger image from Pillow is reduced to it by averaging. `similarity_max`: the
        largest change of the cosine similarity of two of the images.
    """
    images = list(images[:COMPARED_IMAGES])
    pillow_images = [image.load() for image in images]
    with use_decoder(decoder):
        decoder_images = [image.load() for image in images]
    difference_sum, value_count, pixel_max = 0.0, 0, 0
    for pillow_image, decoder_image in zip(pillow_images, decoder_images, strict=True):
        pillow_image = _reduce_to_size(pillow_image, decoder_image.size)
        difference = np.abs(np.asarray(pillow_image, dtype=np.int16) - np.asarray(decoder_image, dtype=np.int16))
        difference_sum += float(difference.sum())
        value_count += difference.size
        pixel_max = max(pixel_max, int(difference.max()))
    result: dict[str, Any] = {
        "images": len(images),
        "pixel_mean": float(f"{difference_sum / value_count:.4g}"),
        "pixel_max": pixel_max,
    }
    if encode is None:
        return result
    similarities = []
    for decoded_images in (pillow_images, decoder_images):
        inputs = [preprocess(image) for image in decoded_images]
        if len({x.shape for x in inputs}) > 1:
            return result  # encoding will refuse them, with a message that names the images
        features = encode(torch.stack(inputs), images)
        # (B, L, D): the L unit vectors of an image, joined, have length sqrt(L); make that 1 again.
        features = features.flatten(1) / features.shape[1:-1].numel() ** 0.5
        with plain_float32():
            similarities.append((features @ features.T).cpu().double())  # MPS has no float64
    result["similarity_max"] = float(f"{float((similarities[0] - similarities[1]).abs().max()):.4g}")
    return result


def _reduce_to_size(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image if image.size == size else image.resize(size, Image.Resampling.BOX)
