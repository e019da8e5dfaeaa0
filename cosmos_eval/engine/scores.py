"""Scores of images and texts: the one interface by which tasks compare them.

A score is the dot product of unit embeddings, which may be transformed (`cosmos_eval.engine.embedding_scores`), or the
model's own `similarity` of features of any shape, or what the model's `score_pairs` returns for an image and a text
that it reads together (`cosmos_eval.models.base`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_core.printable import plural
from cosmos_eval.datasets.image_sources import ImageSource
from cosmos_eval.engine.distinct_items import count_texts
from cosmos_eval.engine.embedding_scores import DotProductScores, transform_scores
from cosmos_eval.engine.image_loading import compute_digests
from cosmos_eval.engine.image_text_pairs import compute_pair_scores, key_bytes
from cosmos_eval.engine.rerank import Reranked
from cosmos_eval.engine.text_batches import text_key
from cosmos_eval.engine.tiles import SimilarityTiles
from cosmos_eval.engine.unit_features import find_distinct, image_name, text_name
from cosmos_eval.metrics.query_scores import MatrixScores, QueryScores
from cosmos_eval.models.abilities import has_features, has_similarity, is_pair_scorer, told_language

if TYPE_CHECKING:
    from cosmos_eval.engine.engine import Engine

MAX_PAIRS = 10_000_000
"""The largest number of pairs that a model is given one by one. The test split of Flickr30k has 5,000,000."""


class Scores(Protocol):
    """Scores (N, M) of N images and M texts. They are computed when they are read, in blocks."""

    @property
    def image_features(self) -> Tensor | None:
        """(N, ...) of unit length; None if the score does not use features."""
        ...

    @property
    def text_features(self) -> Tensor | None:
        """(M, ...) of unit length; None if the score does not use features."""
        ...

    @property
    def averages_prompts(self) -> bool:
        """Whether the embeddings of several prompts may be averaged to one; true for the dot product only."""
        ...

    def image_to_text(self) -> QueryScores:
        """Return the scores with images as queries and texts as candidates."""
        ...

    def text_to_image(self) -> QueryScores:
        """Return the scores with texts as queries and images as candidates."""
        ...

    def of_pairs(self, pairs: Tensor) -> Tensor:
        """Return the scores (P,) float32, on the CPU, of pairs (P, 2) int64 of an image index and a text index.

        Equal pairs have equal scores.
        """
        ...


@dataclass
class SimilarityScores:
    """The scores of a model's own `similarity`, for features of any shape."""

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
    """The scores of a model's `score_pairs`. Each distinct pair is scored once, by content, so equal inputs tie.

    Args:
        engine: the engine of the model.
        first: for reranking, scores of the same images and texts by features.
        rerank: for reranking, the largest number of candidates of each query that are scored as pairs; None scores all
            pairs.
        language: of the texts, for a model that is told it; else None.
    """

    averages_prompts = False

    def __init__(
        self,
        engine: "Engine",
        images: Sequence[ImageSource],
        texts: Sequence[str],
        first: Scores | None = None,
        rerank: int | None = None,
        language: str | None = None,
    ) -> None:
        self.engine, self.language = engine, language
        self.image_features, self.text_features = (
            (first.image_features, first.text_features) if first is not None else (None, None)
        )
        image_digests = compute_digests(images, engine.reporter)
        # row (N,) and column (M,): the index of each image among the distinct images, and of each text among the
        # distinct texts. They are the row and the column of a pair in the matrix of all distinct pairs.
        image_positions, self.row = find_distinct(image_digests)
        text_positions, self.column = find_distinct(texts)
        distinct_texts = [texts[j] for j in text_positions]
        self.inputs = [images[i] for i in image_positions], distinct_texts
        self.keys = (
            key_bytes([image_digests[i] for i in image_positions]),
            key_bytes([text_key(text, language) for text in distinct_texts]),
        )
        self.shape = len(image_positions), len(text_positions)
        self.first, self.rerank = first, rerank
        if first is None:  # with `first`, the engine did both when it computed the features
            count_texts(engine, distinct_texts, self.column, language=language)
            engine.compare_decoders(self.inputs[0], engine.decoder)

    @cached_property
    def _directions(self) -> tuple[QueryScores, QueryScores]:
        if self.first is None or self.rerank is None:
            matrix = self._all_scores
            return MatrixScores(matrix, self.row, self.column), MatrixScores(matrix.T, self.column, self.row)
        directions = (
            Reranked(self.first.image_to_text(), self.row, self.column, self.rerank, by_image=True),
            Reranked(self.first.text_to_image(), self.column, self.row, self.rerank, by_image=False),
        )
        # Both directions together: a pair that both need is scored once.
        pair_numbers = torch.cat([direction.wanted for direction in directions]).unique()
        scores = self._score(pair_numbers)
        for direction in directions:
            direction.pairs, direction.scores = pair_numbers, scores
        return directions

    def image_to_text(self) -> QueryScores:
        return self._directions[0]

    def text_to_image(self) -> QueryScores:
        return self._directions[1]

    def of_pairs(self, pairs: Tensor) -> Tensor:
        pair_numbers = self.row[pairs[:, 0]] * self.shape[1] + self.column[pairs[:, 1]]
        distinct_numbers, distinct_index = pair_numbers.unique(return_inverse=True)
        return self._score(distinct_numbers)[distinct_index]

    @cached_property
    def _all_scores(self) -> Tensor:
        """The scores (distinct images, distinct texts) of all pairs."""
        count = self.shape[0] * self.shape[1]
        self._require_few_pairs(count)
        return self._score(torch.arange(count)).view(self.shape)

    def _score(self, pair_numbers: Tensor) -> Tensor:
        """Return the scores (P,) of distinct pairs.

        Args:
            pair_numbers: (P,) int64, ascending: index of the distinct image * number of distinct texts + index of the
                distinct text.
        """
        self._require_few_pairs(len(pair_numbers))
        if not len(pair_numbers):
            return torch.empty(0)
        pairs = torch.stack([pair_numbers // self.shape[1], pair_numbers % self.shape[1]], dim=1)
        return compute_pair_scores(self.engine, self.inputs, self.keys, pairs, self.language)

    def _require_few_pairs(self, count: int) -> None:
        if count <= MAX_PAIRS:
            return
        image_count, text_count = self.shape
        smaller = "a smaller rerank" if self.rerank is not None else "rerank: k in the metrics of retrieval"
        condition = (
            ""
            if has_features(self.engine.model)
            else " (which needs a model that also has encode_image and encode_text)"
        )
        raise RequestError(
            f"{self.engine.model.spec} scores pairs, and {plural(image_count, 'image')} with {text_count:,} texts are "
            f"{plural(count, 'pair')}, more than {MAX_PAIRS:,}; give {smaller}{condition}, or --limit"
        )


def build_scores(
    engine: "Engine",
    images: Sequence[ImageSource],
    texts: Sequence[str],
    rerank: int | None = None,
    language: str | None = None,
) -> Scores:
    """Return the scores for `Engine.score`, by what the model offers.

    Raises:
        RequestError: as `Engine.image_features`; without a `similarity`, features of several vectors for each item, or
            of images and texts with different numbers of dimensions.
    """
    model = engine.model
    if is_pair_scorer(model) and (rerank is None or not has_features(model)):
        return PairScores(engine, images, texts, language=told_language(model, language))
    image_features, text_features = engine.image_features(images), engine.text_features(texts, language)
    feature_scores: Scores
    if has_similarity(model):

        def name_of_image(i: int) -> str:
            return image_name(images[i])

        def name_of_text(j: int) -> str:
            return text_name(texts[j])

        tiles = SimilarityTiles(model, image_features, text_features, name_of_image, name_of_text, engine.reporter)
        feature_scores = SimilarityScores(tiles, image_features, text_features)
    else:
        # Features from the cache: the model may have had a similarity when they were stored, and has none now.
        require_single_vectors(model, image_features, "an image")
        require_single_vectors(model, text_features, "a text")
        require_equal_dimensions(model.spec, image_features.shape[1], text_features.shape[1])
        feature_scores = DotProductScores(image_features, text_features)
        if engine.transforms:
            feature_scores = transform_scores(feature_scores, engine.transforms, images, texts, model.spec)
    if not is_pair_scorer(model):
        return feature_scores
    return PairScores(engine, images, texts, feature_scores, rerank, told_language(model, language))


def require_single_vectors(model: Any, features: Tensor, item: str) -> None:
    """Raise RequestError unless features are (N, D), one vector for each item; `item` is "an image" or "a text"."""
    if features.ndim != 2:
        shape = " x ".join(map(str, features.shape[1:]))
        raise RequestError(
            f"{model.spec} gives {shape} numbers for {item}; give one vector, or define similarity(image_features, "
            "text_features)"
        )


def require_equal_dimensions(
    name: str, image_dimensions: int, text_dimensions: int, image_or_patch: str = "image"
) -> None:
    """Check that a dot product of features of images (or patches) and texts is possible.

    The numbers may differ where an adapter returns the features before the projection, for example.

    Raises:
        RequestError: gives both numbers, after the name of a benchmark or model.
    """
    if image_dimensions != text_dimensions:
        raise RequestError(
            f"{name}: the model's features have {image_dimensions:,} dimensions for each {image_or_patch} and "
            f"{text_dimensions:,} for each text; the adapter must return both in one embedding space"
        )
