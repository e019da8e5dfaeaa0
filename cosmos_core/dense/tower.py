"""What `cosmos_core.dense` asks of an image tower of any library."""

from typing import Protocol

from torch import Tensor

from cosmos_core.errors import RequestError


class DenseTower(Protocol):
    """An image tower, as a source of patch features."""

    attentions: tuple[str, ...]
    """The variants of `variants.ATTENTIONS` that are defined for it."""

    def features(self, images: Tensor, attention: str) -> Tensor:
        """(B, 3, H, W) -> (B, h, w, D): see `cosmos_core.dense.patch_features`."""
        ...


class UnsupportedTower(Exception):
    """A tower without patch features; the message says why, as a main clause."""


def require_whole_patch(images: Tensor, patch: tuple[int, int]) -> None:
    """RequestError if images are smaller than a patch (rows, columns)."""
    height, width = images.shape[-2:]
    if height < patch[0] or width < patch[1]:
        raise RequestError(
            f"images of {height} x {width} pixels are smaller than a patch of {patch[0]} x {patch[1]}; "
            "resize them first"
        )


def crop_to_patches(images: Tensor, patch: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
    """Images without the pixels beyond the last whole patch, and the grid (h, w); RequestError if nothing remains."""
    require_whole_patch(images, patch)
    height, width = images.shape[-2:]
    grid = (height // patch[0], width // patch[1])
    return images[..., : grid[0] * patch[0], : grid[1] * patch[1]], grid
