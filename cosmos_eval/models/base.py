"""What every adapter offers, whatever the weights' origin."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from PIL import Image
from torch import Tensor

from cosmos_core.errors import RequestError


@runtime_checkable
class Model(Protocol):
    """A model that embeds pictures and texts in one space."""

    spec: str
    """The spec it was loaded from, for people; never an identity."""
    device: torch.device

    @property
    def digest(self) -> str:
        """Identifies weights, architecture, tokenizer and preprocessing; empty when unknown (then never cached)."""
        ...

    @property
    def preprocess(self) -> Callable[[Image.Image], Tensor]:
        """An RGB picture to a float tensor (3, H, W), picklable for worker processes."""
        ...

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


def as_rows(values: Any, count: int, owner: str) -> Tensor:
    """Check what an encoder returned and give it as (count, D) float32 without gradients.

    Raises:
        RequestError: not a floating tensor of `count` rows; `owner` names the encoder.
    """
    if not isinstance(values, Tensor):
        raise RequestError(f"{owner} returned {type(values).__name__}; return a float tensor ({count}, D)")
    if values.ndim != 2 or values.shape[0] != count or values.shape[1] == 0:
        raise RequestError(f"{owner} returned shape {tuple(values.shape)} for {count} inputs; return ({count}, D)")
    if not values.is_floating_point():
        raise RequestError(f"{owner} returned {values.dtype}; return a float tensor ({count}, D)")
    return values.detach().float()


def one_line(error: BaseException, limit: int = 300) -> str:
    """An exception of somebody else's as part of a one-line refusal."""
    line = " ".join(f"{type(error).__name__}: {error}".split())
    return line if len(line) <= limit else line[: limit - 3] + "..."
