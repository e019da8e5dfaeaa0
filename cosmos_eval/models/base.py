"""What every adapter offers, whatever the weights' origin."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from PIL import Image
from torch import Tensor


@runtime_checkable
class Model(Protocol):
    """A model that embeds pictures and texts in one space."""

    spec: str
    """The spec it was loaded from, for people; never an identity."""
    digest: str
    """Identifies weights, architecture, tokenizer and preprocessing; empty when it cannot be known (never cached)."""
    device: torch.device
    preprocess: Callable[[Image.Image], Tensor]
    """An RGB picture to a float tensor (3, H, W), picklable for worker processes."""

    def encode_image(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) as `preprocess` makes it -> (B, D) float32, unnormalised, on `device`, without gradients."""
        ...

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """B texts -> (B, D) float32, unnormalised, on `device`, without gradients."""
        ...

    def describe(self) -> dict[str, Any]:
        """What a result records: `arch`, `activation`, `tokenizer`, `context_length`, `image_size`, `resize`,
        `parameters` and whatever else decides the numbers; plain JSON values."""
        ...
