"""Adapters with scores of their own, for `python:tests.helpers.scoring_models:...`: late interaction, and pairs.

None knows what it sees: their scores depend on pixels and letters, differ widely, and are no better than chance.
"""

import os
from collections.abc import Sequence

import torch
from torch import Tensor

from tests.helpers.tiny_models import Colours


class Late(Colours):
    """Four tokens an image, three a text (the last is padding where the text is short); scores by the best matches."""

    digest = "1a7e" * 16

    def encode_image(self, x: Tensor) -> Tensor:
        quarters = x.unfold(2, 4, 4).unfold(3, 4, 4).mean((4, 5)).flatten(2)  # (B, 3, 4)
        return torch.cat([quarters.transpose(1, 2), torch.full((len(x), 4, 1), 0.1)], dim=2)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        rows = super().encode_text(texts)  # (B, 8)
        tokens = torch.zeros(len(texts), 3, 4)
        tokens[:, :2] = rows.view(-1, 2, 4)
        tokens[[len(text) % 2 == 1 for text in texts], 2] = 1.0
        return tokens

    def similarity(self, image_features: Tensor, text_features: Tensor) -> Tensor:
        scores = torch.einsum("nkd,mld->nmlk", image_features, text_features).amax(3)
        there = text_features.any(-1)
        return (scores * there).sum(2) / there.sum(1)


class Pooling(Late):
    """Text-conditioned pooling: tokens of an image weighed by a text of one vector."""

    digest = "9001" * 16

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        return super().encode_text(texts)[:, 0]

    def similarity(self, image_features: Tensor, text_features: Tensor) -> Tensor:
        scores = torch.einsum("nkd,md->nmk", image_features, text_features)
        return (scores.softmax(2) * scores).sum(2)


class ConstantLate(Late):
    """Every image, and every text, is the same tokens."""

    digest = "c0257a27" * 8

    def encode_image(self, x: Tensor) -> Tensor:
        return torch.ones(len(x), 4, 4)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        return torch.ones(len(texts), 3, 4)


class NanLate(Late):
    """The score of one text with anything is NaN, though its features are not."""

    digest = "ba2" * 20
    bad = "a red circle"

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        tokens = super().encode_text(texts)
        for i, text in enumerate(texts):
            if text == self.bad:
                tokens[i] = -1.0
        return tokens

    def similarity(self, image_features: Tensor, text_features: Tensor) -> Tensor:
        scores = super().similarity(image_features, text_features)
        scores[:, (text_features < 0).all(-1).all(-1)] = torch.nan
        return scores


class Pairs:
    """Scores pairs by the first pixel and the letters; `batches` holds how many it was given at a time."""

    digest = "9a15" * 16
    device = torch.device("cpu")
    preprocess = Colours.preprocess

    def __init__(self) -> None:
        self.batches: list[int] = []

    def score_pairs(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        self.batches.append(len(texts))
        codes = torch.tensor([sum((k + 1) * byte for k, byte in enumerate(text.encode())) for text in texts])
        pixels = (255 * images[:, :, 0, 0]).round().long() @ torch.tensor([1, 300, 90000])
        return ((pixels + 31 * codes) * 7919 % 10007).float()  # whole numbers: exact whatever is in a batch


class ConstantPairs(Pairs):
    digest = "c0255" * 10

    def score_pairs(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        return torch.full((len(texts),), 0.25)


class NanPairs(Pairs):
    digest = "ba25" * 10

    def score_pairs(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        scores = super().score_pairs(images, texts)
        scores[[text == NanLate.bad for text in texts]] = torch.inf
        return scores


class Both(Late):
    """Late interaction, and pairs scored again by another rule."""

    digest = "b07" * 20
    score_pairs = Pairs.score_pairs

    def __init__(self) -> None:
        self.batches: list[int] = []


class Cosines(Colours):
    """Plain embeddings, and pairs."""

    digest = "c05" * 20
    score_pairs = Pairs.score_pairs

    def __init__(self) -> None:
        self.batches: list[int] = []


class InfinitePairs(Pairs):
    """The second batch of the run is infinite: that of rank 1, where there are two."""

    digest = "1f1" * 20

    def score_pairs(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        scores = super().score_pairs(images, texts)
        return torch.full_like(scores, torch.inf) if os.environ.get("RANK") == "1" else scores
