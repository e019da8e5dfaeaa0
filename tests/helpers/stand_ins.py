"""Small things that tests put where a model, a set of images or an engine goes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cosmos_eval.datasets.image_sources import ArrayImage, ImageSource
from cosmos_eval.engine.scores import DotProductScores, Scores
from cosmos_eval.protocol.benchmark import Benchmark


def to_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255).permute(2, 0, 1)


class RandomModel:
    """A random linear map of 8 x 8 images, the sum of random vectors of a text's bytes; notes what it was given."""

    spec = "python:stand_ins:RandomModel"
    digest = "random"
    preprocess = staticmethod(to_tensor)

    def __init__(self, width: int = 16, seed: int = 0) -> None:
        rng = torch.Generator().manual_seed(seed)
        self.device = torch.device("cpu")
        self.of_pixels = torch.randn(3 * 8 * 8, width, generator=rng)
        self.of_bytes = torch.randn(256, width, generator=rng)
        self.image_batches: list[Tensor] = []
        self.text_batches: list[list[str]] = []

    def encode_image(self, x: Tensor) -> Tensor:
        self.image_batches.append(x.clone())
        return x.flatten(1) @ self.of_pixels

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        self.text_batches.append(list(texts))
        return torch.stack([self.of_bytes[list(text.encode())].sum(0) for text in texts])

    def describe(self) -> dict[str, Any]:
        return {"arch": "random"}


class FeatureScoring:
    """Scores for whatever has `image_features` and `text_features`: the dot product of the two."""

    def score(
        self: Any,
        images: Sequence[ImageSource],
        texts: Sequence[str],
        rerank: int | None = None,
        language: str | None = None,
    ) -> Scores:
        return DotProductScores(self.image_features(images), self.text_features(texts))

    def score_pairs(self: Any, images: Sequence[ImageSource], texts: Sequence[str], pairs: Tensor) -> Tensor:
        return self.score(images, texts).of_pairs(pairs)


class Given(FeatureScoring):
    """Features that are written down: by the image's key, by the text."""

    def __init__(self, images: Mapping[str, Sequence[float]], texts: Mapping[str, Sequence[float]]) -> None:
        self.images, self.texts = images, texts

    def image_features(self, images: Sequence[ImageSource]) -> Tensor:
        return torch.tensor([list(self.images[image.key]) for image in images], dtype=torch.float32)

    def text_features(self, texts: Sequence[str]) -> Tensor:
        return torch.tensor([list(self.texts[text]) for text in texts], dtype=torch.float32)


class Constant(FeatureScoring):
    """The same features for everything, or for one side only."""

    def __init__(self, images: bool = True, texts: bool = True, width: int = 16) -> None:
        self.constant_images, self.constant_texts, self.width = images, texts, width

    def image_features(self, images: Sequence[ImageSource]) -> Tensor:
        return self._rows([image.key for image in images], self.constant_images)

    def text_features(self, texts: Sequence[str]) -> Tensor:
        return self._rows(texts, self.constant_texts)

    def _rows(self, names: Sequence[str], constant: bool) -> Tensor:
        if constant:
            return torch.nn.functional.normalize(torch.ones(len(names), self.width), dim=1)
        seeds = {name: 7 + i for i, name in enumerate(dict.fromkeys(names))}
        rows = [torch.randn(self.width, generator=torch.Generator().manual_seed(seeds[name])) for name in names]
        return torch.nn.functional.normalize(torch.stack(rows), dim=1)


def random_images(n: int, seed: int = 0, side: int = 8) -> list[ImageSource]:
    rng = np.random.default_rng(seed)
    return [ArrayImage(f"image-{i}", rng.integers(0, 256, (side, side, 3), dtype=np.uint8)) for i in range(n)]


def benchmark(task: str, **metrics: Any) -> Benchmark:
    return Benchmark(name=f"some-{task}", version=1, task=task, dataset={}, metrics=metrics)
