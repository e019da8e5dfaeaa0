"""Image preprocessing of `hf:` models: the image processor of the files, run by Pillow as in training."""

import json
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_core.image_files import to_rgb
from cosmos_eval.models.base import format_error

_SETTINGS = ("do_", "size", "crop_size", "resample", "rescale_factor", "image_mean", "image_std", "default_to_square")
"""Prefixes of the processor's settings that determine the pixels."""
_FILTERS: dict[Any, str] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
"""Pillow's resampling filters by their number, which is what `resample` holds."""


class ProcessorPreprocess:
    """A transformers image processor as a callable on one image; picklable."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def __call__(self, image: Image.Image) -> Tensor:
        """Preprocess one image: (3, H, W) float32."""
        return self.processor(images=to_rgb(image), return_tensors="pt")["pixel_values"][0]

    def settings(self) -> dict[str, Any]:
        """The settings that determine the pixels, as JSON values; the model's digest contains them."""
        all_settings = json.loads(json.dumps(self.processor.to_dict(), default=str))
        return {key: value for key, value in sorted(all_settings.items()) if key.startswith(_SETTINGS)}

    def describe(self) -> dict[str, Any]:
        """The settings under the names that a result records, without the size of the image that comes out."""
        settings = self.settings()
        size = settings.get("size") or {}
        is_resized = bool(settings.get("do_resize", True))
        return {
            "resize": ("squash" if "height" in size else "shortest") if is_resized else "none",
            "resize_to": size,
            # `resample` may be null in a processor that only crops
            "interpolation": _FILTERS.get(settings.get("resample"), "unknown") if is_resized else "none",
            "mean": settings.get("image_mean"),
            "std": settings.get("image_std"),
        }


def check_processor(preprocess: ProcessorPreprocess, image_size: int, spec: str) -> None:
    """Try an image processor on a black image.

    Args:
        image_size: side of the square images that the network takes.

    Raises:
        RequestError: the processor fails, or its pixels are not finite or not (3, image_size, image_size).
    """
    try:
        pixels = preprocess(Image.new("RGB", (40, 30)))
        shape, is_finite = tuple(pixels.shape), bool(torch.isfinite(pixels).all())
    except Exception as error:
        raise RequestError(
            f"{spec}: the processor fails on an image: {format_error(error)}; correct preprocessor_config.json"
        ) from error
    if not is_finite:  # without this check the error would name the first image of a dataset
        raise RequestError(
            f"{spec}: the processor makes pixels that are NaN or infinite; correct image_std, image_mean or "
            "rescale_factor in preprocessor_config.json"
        )
    if shape != (3, image_size, image_size):
        raise RequestError(
            f"{spec}: the processor makes images of {shape[-2]}x{shape[-1]} and the model takes "
            f"{image_size}x{image_size}; correct size or crop_size in preprocessor_config.json"
        )
