"""Metrics straight from features, as one call: the product asks the engine for scores, and counts from those."""

from torch import Tensor

from cosmos_eval.metrics.accuracy import ClassPlaces, count_scored_classes
from cosmos_eval.metrics.comparisons import dot_products, item_pairs
from cosmos_eval.metrics.query_scores import DotProducts
from cosmos_eval.metrics.ranks import Places, count_scored_places
from cosmos_eval.metrics.similarity import BLOCK_BYTES, check_features


def count_places(
    queries: Tensor,
    candidates: Tensor,
    positive_query: Tensor,
    positive_candidate: Tensor,
    block_bytes: int = BLOCK_BYTES,
) -> Places:
    """`count_scored_places` of the dot products of (Q, D) queries and (C, D) candidates, which must be finite."""
    check_features(queries, "query")
    check_features(candidates, "candidate")
    scores = DotProducts(queries, candidates)
    return count_scored_places(scores, positive_query, positive_candidate, len(candidates), block_bytes)


def count_classes(features: Tensor, weights: Tensor, labels: Tensor, block_bytes: int = BLOCK_BYTES) -> ClassPlaces:
    """`count_scored_classes` of the dot products of (N, D) samples and (C, D) classes, which must be finite."""
    check_features(features, "sample")
    check_features(weights, "class")
    return count_scored_classes(DotProducts(features, weights), labels, len(weights), block_bytes)


def pair_scores(images: Tensor, texts: Tensor, item_images: Tensor, item_texts: Tensor) -> Tensor:
    """(I, m, n) cosines of the images and texts of every item, from `dot_products`.

    Args:
        images, texts: (N, D) and (T, D) of unit length.
        item_images, item_texts: (I, m) and (I, n) int64 rows of them.
    """
    m, n = item_images.shape[1], item_texts.shape[1]
    return dot_products(images, texts, item_pairs(item_images, item_texts)).view(-1, m, n)
