"""Image preprocessing: open_clip's transforms, after a conversion to RGB."""

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
"""Far below any published standard deviation; pixels range from 0 to 1."""


@lru_cache(maxsize=64)
def channel_tensor(values: tuple[float, ...], device: torch.device) -> Tensor:
    """One value for each channel as (C, 1, 1) float32 on a device.

    Cached, because a copy to an accelerator waits until all work that is queued on it is done.
    """
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=torch.float32, device=device)[:, None, None]


@dataclass(frozen=True)
class ImagePreprocess:
    """Callable that turns an image into a normalised float tensor (3, H, W), as in the training of the weights.

    `resize` is a resize mode of open_clip: `shortest` scales the shorter side to `size` and crops the centre, `longest`
    scales the longer side and pads, `squash` scales both sides and changes the aspect ratio. Equal instances give equal
    tensors. Instances are picklable, for worker processes.

    Raises:
        RequestError: an unknown resize mode or interpolation, a mean or std that is not three finite numbers, a std
            near 0, or a combination that open_clip would not carry out as recorded.
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
        # JSON and open_clip have lists in place of tuples; equal settings must compare equal and have one hash.
        size = self.size if isinstance(self.size, int) else tuple(self.size)
        if isinstance(size, tuple) and size[0] == size[1]:
            size = size[0]
        object.__setattr__(self, "size", size)
        object.__setattr__(self, "mean", tuple(float(v) for v in self.mean))
        object.__setattr__(self, "std", tuple(float(v) for v in self.std))
        # Refused here, or all pixels would be NaN or infinite and the error would name the first image of a dataset.
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
            # open_clip ignores `interpolation` for non-square sizes; a result must record what was really done.
            raise RequestError("a non-square target with resize 'shortest' is always bicubic; choose bicubic or squash")

    def __call__(self, image: Image.Image) -> Tensor:
        """Preprocess one image: (3, H, W) float32.

        The conversion to RGB comes before the resize: Pillow resizes a palette image by nearest neighbour, whatever
        the interpolation.
        """
        return self.transform(to_rgb(image))

    def pixels(self, image: Image.Image) -> Tensor:
        """The image resized and cropped but not normalised: (H, W, 3) uint8, a quarter of the bytes of float32."""
        rgb = image if image.mode == "RGB" else to_rgb(image)  # to_rgb copies an image that is RGB already
        return torch.from_numpy(np.array(self._geometry(rgb)))

    def normalised(self, pixels: Tensor) -> Tensor:
        """Normalise a batch of `pixels`: bit for bit what `__call__` returns for each image.

        Args:
            pixels: (B, H, W, 3) uint8.

        Returns:
            (B, 3, H, W) float32 on the same device; on an accelerator in channels-last memory format, in which its
            convolutions are faster.
        """
        memory_format = torch.contiguous_format if pixels.device.type == "cpu" else torch.channels_last
        x = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=memory_format)
        # Divisors are tensors, not numbers: an accelerator multiplies by the reciprocal of a number, which rounds
        # differently.
        scale, mean, std = (channel_tensor(values, x.device) for values in ((255.0,), self.mean, self.std))
        return x.div_(scale).sub_(mean).div_(std)

    def geometry(self) -> dict[str, Any]:
        """The settings that determine `pixels`, as JSON values."""
        return {key: value for key, value in self.describe().items() if key not in ("mean", "std")}

    @cached_property
    def _geometry(self) -> Compose:
        return Compose(self.transform.transforms[:-2])  # without the last two, ToTensor and Normalize

    @cached_property
    def transform(self) -> Any:
        """open_clip's transform, without the conversion to RGB before it."""
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
        return asdict(self)  # the fields only; the cached transform is built again after unpickling

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def describe(self) -> dict[str, Any]:
        """The settings as JSON values, under the names that a result records."""
        settings = {
            "image_size": list(self.size) if isinstance(self.size, tuple) else self.size,
            "resize": self.resize,
            "interpolation": self.interpolation,
            "mean": list(self.mean),
            "std": list(self.std),
        }
        return settings | ({"fill": self.fill} if self.resize == "longest" else {})
