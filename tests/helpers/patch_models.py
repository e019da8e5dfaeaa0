"""A small model of patches, and what tests of segmentation make of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from cosmos_eval.datasets.image_sources import ArrayImage
from cosmos_eval.engine.dense import DenseFeatures
from cosmos_eval.engine.windows import window_grid
from cosmos_eval.tasks.segmentation.settings import SETTINGS
from tests.oracles.segmentation import Settings

PATCH = 4
WIDTH = 8


@dataclass
class Scale:
    """To a float tensor around 0."""

    mean: tuple[float, ...] = (0.4, 0.5, 0.6)
    std: tuple[float, ...] = (0.2, 0.25, 0.3)

    def __call__(self, image: Image.Image) -> Tensor:
        x = torch.from_numpy(np.asarray(image, dtype=np.float32) / 255).permute(2, 0, 1)
        mean, std = (torch.tensor(v)[:, None, None] for v in (self.mean, self.std))
        return (x - mean) / std


class PatchModel:
    """Patches seen through a random matrix, each with a look at its whole window, so that windows disagree where they
    overlap; notes the shapes that it was given."""

    spec = "python:patch_models:PatchModel"
    digest = "patches"

    def __init__(self, seed: int = 0) -> None:
        rng = torch.Generator().manual_seed(seed)
        self.device = torch.device("cpu")
        self.preprocess = Scale()
        self.of_patch = torch.randn(WIDTH, 3, PATCH, PATCH, generator=rng)
        self.of_window = torch.randn(WIDTH, WIDTH, generator=rng)
        self.batches: list[tuple[int, ...]] = []
        self.attentions: set[str] = set()

    def encode_patches(self, x: Tensor, attention: str = "vanilla") -> Tensor:
        self.batches.append(tuple(x.shape))
        self.attentions.add(attention)
        patches = F.conv2d(x, self.of_patch, stride=PATCH)
        own = patches + torch.einsum("bc,cd->bd", patches.mean((2, 3)), self.of_window)[:, :, None, None]
        return own.permute(0, 2, 3, 1)


def settings(**changes: Any) -> dict[str, Any]:
    return {**SETTINGS, "crop": 16, "stride": 8, "pamr_dilations": [1, 2], **changes}


def oracle_settings(given: Mapping[str, Any]) -> Settings:
    names = ("crop", "stride", "logit_scale", "prob_thd", "area_thd", "pamr_steps", "pamr_dilations")
    return Settings(**{name: given[name] for name in names})


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth blobs of colour with some noise (H, W, 3)."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int64)
    return np.clip(smooth + rng.integers(-20, 21, smooth.shape), 0, 255).astype(np.uint8)


def images_of_sizes(sizes: Sequence[tuple[int, int]]) -> list[ArrayImage]:
    return [ArrayImage(f"image-{i}", noise(*size, seed=i)) for i, size in enumerate(sizes)]


def queries(count: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed)), dim=1)


def random_dense(
    size: tuple[int, int],
    original: tuple[int, int],
    crop: int = 16,
    stride: int = 8,
    seed: int = 0,
    patch: int = PATCH,
    width: int = WIDTH,
) -> DenseFeatures:
    """Random unit features of an image that nobody has drawn."""
    rng = torch.Generator().manual_seed(seed)
    grid = window_grid(*size, crop, stride)
    shape = (len(grid.tops), len(grid.lefts), grid.crop_height // patch, grid.crop_width // patch, width)
    features = F.normalize(torch.randn(shape, generator=rng), dim=-1)
    return DenseFeatures(0, original, grid, features, torch.randn(3, *size, generator=rng))
