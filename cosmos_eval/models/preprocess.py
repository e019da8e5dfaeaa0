"""Image preprocessing by open_clip's own transforms, with the conversion to RGB first."""

import math
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.transform import image_transform
from PIL import Image
from torch import Tensor
from torchvision.transforms import Compose

from cosmos_core.errors import RequestError
from cosmos_core.image_files import to_rgb

RESIZE_MODES = ("shortest", "longest", "squash")
INTERPOLATIONS = ("bicubic", "bilinear")
SMALLEST_STD = 1e-6
"""Far below any published one, which are fractions of the range of a pixel, 0 to 1."""


@lru_cache(maxsize=64)
def of_channels(values: tuple[float, ...], device: torch.device) -> Tensor:
    """(C, 1, 1) float32 on a device, kept for the next batch: a copy to an accelerator waits for what it is doing."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=torch.float32, device=device)[:, None, None]


@dataclass(frozen=True)
class ImagePreprocess:
    """An image to a normalised float tensor (3, H, W), in the way that the weights were trained to see it.

    `shortest` scales the shorter side to `size` and crops the centre, `longest` scales the longer side and pads,
    `squash` scales both sides without keeping the ratio. Two equal instances do the same thing; instances travel to
    worker processes.
    """

    size: int | tuple[int, int]
    """Side of a square, or (height, width)."""
    mean: tuple[float, ...] = OPENAI_DATASET_MEAN
    std: tuple[float, ...] = OPENAI_DATASET_STD
    resize: str = "shortest"
    interpolation: str = "bicubic"
    fill: int = 0
    """Grey level of the padding of `longest`."""

    def __post_init__(self) -> None:
        # JSON and open_clip give lists where a tuple is meant; equal settings must compare and hash alike.
        size = self.size if isinstance(self.size, int) else tuple(self.size)
        if isinstance(size, tuple) and size[0] == size[1]:
            size = size[0]
        object.__setattr__(self, "size", size)
        object.__setattr__(self, "mean", tuple(float(v) for v in self.mean))
        object.__setattr__(self, "std", tuple(float(v) for v in self.std))
        # else pixels are NaN or infinite, and the first image of a dataset would be blamed
        if len(self.mean) != 3 or len(self.std) != 3 or not all(map(math.isfinite, self.mean + self.std)):
            raise RequestError(f"mean and std must be three finite numbers each, got {self.mean} and {self.std}")
        if not min(self.std) >= SMALLEST_STD:
            raise RequestError(f"std must be at least {SMALLEST_STD:g}: pixels are divided by it; got {self.std}")
        if self.resize not in RESIZE_MODES or self.interpolation not in INTERPOLATIONS:
            raise RequestError(
                f"image preprocessing {self.resize!r}, {self.interpolation!r} is not known; "
                f"resize is one of {', '.join(RESIZE_MODES)}, interpolation one of {', '.join(INTERPOLATIONS)}"
            )
        if isinstance(size, tuple) and self.resize == "shortest" and self.interpolation != "bicubic":
            # open_clip's non-square branch takes bicubic whatever is asked; what we record must be what happens.
            raise RequestError("a non-square target with resize 'shortest' is always bicubic; choose bicubic or squash")

    def __call__(self, image: Image.Image) -> Tensor:
        """(3, H, W) float32. Conversion to RGB comes first: a palette image resized before it is resized by
        nearest."""
        return self.transform(to_rgb(image))

    def pixels(self, image: Image.Image) -> Tensor:
        """(H, W, 3) uint8, resized and cropped: all that Pillow does, and a quarter of the bytes of the rest."""
        rgb = image if image.mode == "RGB" else to_rgb(image)  # which copies what is RGB already
        return torch.from_numpy(np.array(self._geometry(rgb)))

    def normalised(self, pixels: Tensor) -> Tensor:
        """A batch (B, H, W, 3) of `pixels` as (B, 3, H, W) float32 on its device: bit by bit what calling this on each
        image gives. In memory the channels come last on an accelerator, whose convolutions want them so."""
        form = torch.contiguous_format if pixels.device.type == "cpu" else torch.channels_last
        x = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=form)
        # Tensors, not numbers: an accelerator divides by a number through its reciprocal, which rounds otherwise.
        scale, mean, std = (of_channels(values, x.device) for values in ((255.0,), self.mean, self.std))
        return x.div_(scale).sub_(mean).div_(std)

    def geometry(self) -> dict[str, Any]:
        """The settings that decide `pixels`, as plain JSON values."""
        return {key: value for key, value in self.describe().items() if key not in ("mean", "std")}

    @cached_property
    def _geometry(self) -> Compose:
        return Compose(self.transform.transforms[:-2])  # the last two make floats and normalise

    @cached_property
    def transform(self) -> Any:
        """The transform alone, which takes the image in whatever mode it is in."""
        return image_transform(
            self.size,
            is_train=False,
            mean=self.mean,
            std=self.std,
            resize_mode=self.resize,
            interpolation=self.interpolation,
            fill_color=self.fill,
        )

    def __getstate__(self) -> dict[str, Any]:
        return asdict(self)  # the transform is rebuilt on the other side

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def describe(self) -> dict[str, Any]:
        """The settings as plain JSON values, under the names that a result records."""
        settings = {
            "image_size": list(self.size) if isinstance(self.size, tuple) else self.size,
            "resize": self.resize,
            "interpolation": self.interpolation,
            "mean": list(self.mean),
            "std": list(self.std),
        }
        return settings | ({"fill": self.fill} if self.resize == "longest" else {})
