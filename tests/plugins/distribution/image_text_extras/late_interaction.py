"""A kind of model: one vector for every patch and every word, compared by late interaction (FILIP, Yao et al. 2022)."""

from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from cosmos_core.errors import RequestError
from cosmos_eval import ModelKind
from cosmos_eval.models import ListedModel, ModelSpec

COLOURS = {"red": (1, -1, -1), "green": (-1, 1, -1), "blue": (-1, -1, 1), "yellow": (1, 1, -1)}
WORDS = 6


class LateInteraction:
    """Mean colours of a grid of patches, and a colour for every word of a text."""

    def __init__(self, grid: int) -> None:
        self.grid = grid
        self.digest = f"late interaction of {grid} x {grid} patches, 1"

    def describe(self) -> dict[str, Any]:
        return {"arch": "colours", "patches": self.grid**2}

    def preprocess(self, image: Image.Image) -> Tensor:
        return pil_to_tensor(image.resize((self.grid, self.grid), Image.Resampling.BOX)).float() / 255

    def encode_image(self, x: Tensor) -> Tensor:
        """(B, 3, grid, grid) -> (B, grid * grid, 3)."""
        return x.flatten(2).transpose(1, 2) * 2 - 1.01

    def encode_text(self, texts: list[str]) -> Tensor:
        """B texts -> (B, WORDS, 3)."""
        vectors = []
        for text in texts:
            words = [word.strip(".,").lower() for word in text.split()[:WORDS]]
            words += [""] * (WORDS - len(words))
            vectors.append([COLOURS.get(word, (0.1 + len(word) / 50, 0.2, 0.1)) for word in words])
        return torch.tensor(vectors)

    def similarity(self, image_features: Tensor, text_features: Tensor) -> Tensor:
        """(n, P, 3) and (m, WORDS, 3) -> (n, m): the best patch of every word, averaged over the words."""
        products = torch.einsum("npd,mwd->nmpw", image_features, text_features)
        return products.amax(dim=2).mean(dim=2)


def check(spec: ModelSpec, fetch: bool = False) -> str:
    """Refused before any data are read: a name that is not a number of patches."""
    if not spec.name.isdecimal() or int(spec.name) < 1:
        raise RequestError(f"{spec.text}: the name is the number of patches on a side, as in late:4")
    return ""


def load(spec: ModelSpec, device: Any) -> LateInteraction:
    check(spec)
    return LateInteraction(int(spec.name))


KIND = ModelKind(
    name="late",
    form="late:PATCHES",
    load=load,
    check=check,
    listed=(ListedModel("late:PATCHES", "nothing", "late interaction of colours, PATCHES on a side"),),
)
