"""Image preprocessing of `hf:` models: the image processor of the files, run by Pillow as in training."""

import json
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_core.image_files import to_rgb
from cosmos_eval.models.hf_families import Family
from cosmos_eval.models.returned_values import format_error

_SETTINGS = (
    "do_", "size", "crop_size", "resample", "rescale_factor", "image_mean", "image_std", "default_to_square",
    "rescale_offset", "include_top", "patch_size", "max_num_patches",
)  # fmt: skip
"""Prefixes of the processor's settings that determine the pixels."""
_FILTERS: dict[Any, str] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
"""Pillow's resampling filters by their number, which is what `resample` holds."""


class ProcessorPreprocess:
    """A transformers image processor as a callable on one image; picklable."""

    def __init__(self, processor: Any, backend: str = "pil") -> None:
        """Take over an image processor; `backend` is the `AutoImageProcessor` option that it was loaded with."""
        self.processor = processor
        self.backend = backend

    def __call__(self, image: Image.Image) -> Tensor:
        """Preprocess one image: (3, H, W) float32."""
        return self.processor(images=to_rgb(image), return_tensors="pt")["pixel_values"][0]

    def settings(self) -> dict[str, Any]:
        """The settings that determine the pixels, as JSON values; the model's digest contains them."""
        all_settings = json.loads(json.dumps(self.processor.to_dict(), default=str))
        settings = {key: value for key, value in sorted(all_settings.items()) if key.startswith(_SETTINGS)}
        # Pillow's pixels are those of earlier versions, whose digests must not change.
        return settings if self.backend == "pil" else settings | {"backend": self.backend}

    @property
    def mean(self) -> tuple[float, ...]:
        """What windows of segmentation, of pixels from 0 to 1, are shifted by so that the tower sees its own pixels."""
        return self._normalisation()[0]

    @property
    def std(self) -> tuple[float, ...]:
        """What they are then divided by."""
        return self._normalisation()[1]

    def _normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        settings = self.settings()
        # The factor of pixels from 0 to 1: 1 for the usual rescaling by 1/255, 255 without rescaling.
        factor = 255 * (settings.get("rescale_factor", 1 / 255) if settings.get("do_rescale", True) else 1)
        is_normalised = settings.get("do_normalize", True)
        mean = (settings.get("image_mean") if is_normalised else None) or (0.0,) * 3
        std = (settings.get("image_std") if is_normalised else None) or (1.0,) * 3
        if settings.get("do_rescale", True) and settings.get("rescale_offset", False):  # EfficientNet: from -1 on
            mean = tuple(value + 1 for value in mean)
        if settings.get("include_top", False):  # EfficientNet then divides once more
            std = tuple(value * more for value, more in zip(std, settings["image_std"], strict=True))
        return tuple(value / factor for value in mean), tuple(value / factor for value in std)

    @property
    def patches(self) -> str:
        """How an image is cut into patches, in words; empty if it is not."""
        return ""

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
            **({} if self.backend == "pil" else {"processor": f"fast ({self.backend})"}),
        }


class PatchPreprocess(ProcessorPreprocess):
    """An image processor that keeps the aspect ratio and cuts images into at most `max_num_patches` patches (NaFlex).

    All images become tensors of one shape: the patches, then empty ones, and three more columns.
    """

    def __call__(self, image: Image.Image) -> Tensor:
        """Preprocess one image: (max_num_patches, patch values + 3) float32.

        The last columns hold 1 for a patch and 0 for an empty one, and the rows and columns of the image's grid.
        """
        output = self.processor(images=to_rgb(image), return_tensors="pt")
        patches, mask = output["pixel_values"][0], output["pixel_attention_mask"][0]
        grid = output["spatial_shapes"][0].to(patches.dtype)
        return torch.cat([patches, mask[:, None].to(patches.dtype), grid.expand(len(patches), 2)], dim=1)

    @property
    def patches(self) -> str:
        return f"{self.processor.max_num_patches} patches of {self.processor.patch_size}"

    def describe(self) -> dict[str, Any]:
        return super().describe() | {
            "resize": "keep aspect ratio",
            "resize_to": {"patches": self.processor.max_num_patches},
        }


def unpack_patches(x: Tensor) -> dict[str, Tensor]:
    """Undo the packing of `PatchPreprocess` for a batch, without the patches that are empty in all its images.

    Args:
        x: (B, max_num_patches, patch values + 3).

    Returns:
        `pixel_values` (B, N, patch values), `pixel_attention_mask` (B, N) and `spatial_shapes` (B, 2).
    """
    mask, grids = x[:, :, -3].long(), x[:, 0, -2:].long()
    longest = int(mask.sum(dim=1).max())
    return {
        "pixel_values": x[:, :longest, :-3],
        "pixel_attention_mask": mask[:, :longest],
        "spatial_shapes": grids,
    }


def make_preprocess(
    processor: Any, family: Family, config: Any, spec: str, backend: str = "pil"
) -> tuple[ProcessorPreprocess, int | str]:
    """The preprocessing, and the side of the images that it makes, or how it cuts them into patches.

    Args:
        processor: image processor of transformers.
        config: transformers' configuration of the model.
        backend: see `ProcessorPreprocess`.

    Raises:
        RequestError: the processor fails, or makes other images than the network takes.
    """
    image_config = getattr(config, family.image_part)
    if family.patches:
        patches = PatchPreprocess(processor, backend)
        check_patch_processor(patches, image_config.num_channels * image_config.patch_size**2, spec)
        return patches, patches.patches
    preprocess = ProcessorPreprocess(processor, backend)
    configured_size = image_config.image_size if family.image_size_from_config else None
    return preprocess, check_processor(preprocess, configured_size, spec)


def check_patch_processor(preprocess: PatchPreprocess, patch_values: int, spec: str) -> None:
    """Try an image processor on a black image.

    Args:
        patch_values: numbers in a patch that the network takes.

    Raises:
        RequestError: the processor fails, its pixels are not finite, or its patches have another size.
    """
    values = _try(preprocess, spec).shape[1] - 3
    if values != patch_values:
        raise RequestError(
            f"{spec}: the processor makes patches of {values} numbers and the model takes {patch_values}; "
            "correct patch_size in preprocessor_config.json"
        )


def check_processor(preprocess: ProcessorPreprocess, image_size: int | None, spec: str) -> int:
    """Try an image processor on a black image; return the side of the square images that it makes.

    Args:
        image_size: side of the square images that the network takes; None if it takes any.

    Raises:
        RequestError: the processor fails, or its pixels are not finite or of the wrong size.
    """
    shape = tuple(_try(preprocess, spec).shape)
    if image_size is None and len(shape) == 3 and shape[1] == shape[2]:
        return shape[1]
    if shape != (3, image_size, image_size):
        takes = "square images" if image_size is None else f"{image_size}x{image_size}"
        raise RequestError(
            f"{spec}: the processor makes images of {shape[-2]}x{shape[-1]} and the model takes {takes}; "
            "correct size or crop_size in preprocessor_config.json"
        )
    return shape[1]


def _try(preprocess: ProcessorPreprocess, spec: str) -> Tensor:
    """What a processor makes of a black image; RequestError if it fails or gives pixels that are not finite."""
    try:
        pixels = preprocess(Image.new("RGB", (40, 30)))
        is_finite = bool(torch.isfinite(pixels).all())
    except Exception as error:
        raise RequestError(
            f"{spec}: the processor fails on an image: {format_error(error)}; correct preprocessor_config.json"
        ) from error
    if not is_finite:  # without this check the error would name the first image of a dataset
        raise RequestError(
            f"{spec}: the processor makes pixels that are NaN or infinite; correct image_std, image_mean or "
            "rescale_factor in preprocessor_config.json"
        )
    return pixels
