"""Scores of images and texts: the one door through which tasks compare them.

A score is the dot product of unit embeddings, or the model's own `similarity` of features of any shape, or what its
`score_pairs` says of an image and a text that it reads together (`cosmos_eval.models.base`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_eval.datasets.base import ImageSource
from cosmos_eval.engine.image_text_pairs import key_bytes, scores_of_pairs
from cosmos_eval.engine.images import digests
from cosmos_eval.engine.rerank import Reranked
from cosmos_eval.engine.texts import text_key
from cosmos_eval.engine.tiles import SimilarityTiles
from cosmos_eval.engine.unit_features import distinct_keys, image_name, text_name
from cosmos_eval.metrics.comparisons import dot_products
from cosmos_eval.metrics.query_scores import DotProducts, MatrixScores, QueryScores
from cosmos_eval.models.base import encodes, has_similarity, scores_pairs

if TYPE_CHECKING:
    from cosmos_eval.engine.features import Engine

MOST_PAIRS = 10_000_000
"""Pairs that a model is asked to score one by one, at most: Flickr30k's test split has 5,000,000."""


class Scores(Protocol):
    """(N, M) scores of images and texts, made as they are asked for, never as a whole unless that is asked for."""

    @property
    def image_features(self) -> Tensor | None:
        """(N, ...) of unit length where the score is made of features."""
        ...

    @property
    def text_features(self) -> Tensor | None:
        """(M, ...), as those of images."""
        ...

    @property
    def averages_prompts(self) -> bool:
        """Whether embeddings of several prompts may be averaged to one: the score is the dot product."""
        ...

    def image_to_text(self) -> QueryScores:
        """Images as queries, texts as candidates."""
        ...

    def text_to_image(self) -> QueryScores:
        """Texts as queries, images as candidates."""
        ...

    def of_pairs(self, pairs: Tensor) -> Tensor:
        """(P,) float32 on the CPU, of (P, 2) int64 pairs of an image and a text; equal pairs have one score."""
        ...


@dataclass
class DotProductScores:
    """The dot product of (N, D) and (M, D) features of unit length, in float32."""

    image_features: Tensor
    text_features: Tensor
    averages_prompts: bool = field(default=True, init=False)

    def image_to_text(self) -> QueryScores:
        return DotProducts(self.image_features, self.text_features)

    def text_to_image(self) -> QueryScores:
        return DotProducts(self.text_features, self.image_features)

    def of_pairs(self, pairs: Tensor) -> Tensor:
        return dot_products(self.image_features, self.text_features, pairs)


@dataclass
class SimilarityScores:
    """What a model's `similarity` makes of features of any shape."""

    tiles: SimilarityTiles
    image_features: Tensor
    text_features: Tensor
    averages_prompts: bool = field(default=False, init=False)

    @cached_property
    def _directions(self) -> tuple[QueryScores, QueryScores]:
        return self.tiles.directions()

    def image_to_text(self) -> QueryScores:
        return self._directions[0]

    def text_to_image(self) -> QueryScores:
        return self._directions[1]

    def of_pairs(self, pairs: Tensor) -> Tensor:
        return self.tiles.of_pairs(pairs)


class PairScores:
    """What a model's `score_pairs` says of images and texts, each distinct pair scored once.

    Args:
        engine: of the model.
        first: scores of the same images and texts by features, with `rerank`.
        rerank: candidates of each query that are scored again, at most; None scores all pairs.
    """

    averages_prompts = False

    def __init__(
        self,
        engine: "Engine",
        images: Sequence[ImageSource],
        texts: Sequence[str],
        first: Scores | None = None,
        rerank: int | None = None,
    ) -> None:
        self.engine = engine
        self.image_features, self.text_features = (
            (first.image_features, first.text_features) if first is not None else (None, None)
        )
        content = digests(images, engine.reporter)
        places, self.row = distinct_keys(content)
        of_text, self.column = distinct_keys(texts)
        self.inputs = [images[i] for i in places], [texts[j] for j in of_text]
        self.keys = key_bytes([content[i] for i in places]), key_bytes([text_key(text) for text in self.inputs[1]])
        self.shape = len(places), len(of_text)
        self.first, self.rerank = first, rerank
        if first is None:  # else this is done where features are made
            engine.count_texts(self.inputs[1], self.column)
            engine.compare_decoders(self.inputs[0], engine.decoder)

    @cached_property
    def _directions(self) -> tuple[QueryScores, QueryScores]:
        if self.first is None or self.rerank is None:
            matrix = self._all
            return MatrixScores(matrix, self.row, self.column), MatrixScores(matrix.T, self.column, self.row)
        directions = (
            Reranked(self.first.image_to_text(), self.row, self.column, self.rerank, by_image=True),
            Reranked(self.first.text_to_image(), self.column, self.row, self.rerank, by_image=False),
        )
        numbers = torch.cat([direction.wanted for direction in directions]).unique()
        scores = self._scored(numbers)
        for direction in directions:
            direction.pairs, direction.scores = numbers, scores
        return directions

    def image_to_text(self) -> QueryScores:
        return self._directions[0]

    def text_to_image(self) -> QueryScores:
        return self._directions[1]

    def of_pairs(self, pairs: Tensor) -> Tensor:
        numbers, place = (self.row[pairs[:, 0]] * self.shape[1] + self.column[pairs[:, 1]]).unique(return_inverse=True)
        return self._scored(numbers)[place]

    @cached_property
    def _all(self) -> Tensor:
        """(N', M') scores of all distinct images and texts."""
        count = self.shape[0] * self.shape[1]
        self._refuse_many(count)
        return self._scored(torch.arange(count)).view(self.shape)

    def _scored(self, numbers: Tensor) -> Tensor:
        """(P,) scores of distinct pairs, given as image * texts + text, ascending."""
        self._refuse_many(len(numbers))
        if not len(numbers):
            return torch.empty(0)
        pairs = torch.stack([numbers // self.shape[1], numbers % self.shape[1]], dim=1)
        return scores_of_pairs(self.engine, self.inputs, self.keys, pairs)

    def _refuse_many(self, count: int) -> None:
        if count <= MOST_PAIRS:
            return
        image_count, text_count = self.shape
        fewer = "a smaller rerank" if self.rerank is not None else "rerank: k in the metrics of retrieval"
        needs = (
            "" if encodes(self.engine.model) else " (which needs a model that has encode_image and encode_text, too)"
        )
        raise RequestError(
            f"{self.engine.model.spec} scores pairs, and {image_count:,} images with {text_count:,} texts come "
            f"to {count:,} pairs, more than {MOST_PAIRS:,}; give {fewer}{needs}, or --limit"
        )


def scores_of(
    engine: "Engine", images: Sequence[ImageSource], texts: Sequence[str], rerank: int | None = None
) -> Scores:
    """What `Engine.score` gives.

    Raises:
        RequestError: as `Engine.image_features`, features of several vectors without a `similarity`, or vectors of
            different lengths.
    """
    model = engine.model
    if scores_pairs(model) and (rerank is None or not encodes(model)):
        return PairScores(engine, images, texts)
    image_features, text_features = engine.image_features(images), engine.text_features(texts)
    first: Scores
    if has_similarity(model):

        def name_of_image(i: int) -> str:
            return image_name(images[i])

        def of_text(j: int) -> str:
            return text_name(texts[j])

        tiles = SimilarityTiles(model, image_features, text_features, name_of_image, of_text, engine.reporter)
        first = SimilarityScores(tiles, image_features, text_features)
    else:
        refuse_tokens(model, image_features, "an image")  # of a model that had a similarity when they were stored
        refuse_tokens(model, text_features, "a text")
        first = DotProductScores(image_features, text_features)
    return PairScores(engine, images, texts, first, rerank) if scores_pairs(model) else first


def refuse_tokens(model: Any, features: Tensor, what: str) -> None:
    """RequestError where features are not one vector each; `what` is "an image" or "a text"."""
    if features.ndim != 2:
        shape = " x ".join(map(str, features.shape[1:]))
        raise RequestError(
            f"{model.spec} gives {shape} numbers for {what}; give one vector, or define similarity(image_features, "
            "text_features)"
        )
