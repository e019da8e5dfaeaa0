"""Metrics straight from features, as one call: the product asks the engine for scores, and counts from those."""

from torch import Tensor

from cosmos_eval.metrics.accuracy import ClassRankCounts, compute_class_rank_counts
from cosmos_eval.metrics.item_accuracy import dot_products, list_item_pairs
from cosmos_eval.metrics.query_scores import DotProducts
from cosmos_eval.metrics.ranks import RankCounts, compute_rank_counts
from cosmos_eval.metrics.similarity import BLOCK_BYTES, check_features


def rank_counts_of_features(
    queries: Tensor,
    candidates: Tensor,
    positive_query: Tensor,
    positive_candidate: Tensor,
    block_bytes: int = BLOCK_BYTES,
) -> RankCounts:
    """`compute_rank_counts` of the dot products of (Q, D) queries and (C, D) candidates, which must be finite."""
    check_features(queries, "query")
    check_features(candidates, "candidate")
    scores = DotProducts(queries, candidates)
    return compute_rank_counts(scores, positive_query, positive_candidate, len(candidates), block_bytes)


def class_rank_counts_of_features(
    features: Tensor, weights: Tensor, labels: Tensor, block_bytes: int = BLOCK_BYTES
) -> ClassRankCounts:
    """`compute_class_rank_counts` of the dot products of (N, D) samples and (C, D) classes, which must be finite."""
    check_features(features, "sample")
    check_features(weights, "class")
    return compute_class_rank_counts(DotProducts(features, weights), labels, len(weights), block_bytes)


def pair_scores(images: Tensor, texts: Tensor, item_images: Tensor, item_texts: Tensor) -> Tensor:
    """(I, m, n) cosines of the images and texts of every item, from `dot_products`.

    Args:
        images, texts: (N, D) and (T, D) of unit length.
        item_images, item_texts: (I, m) and (I, n) int64 rows of them.
    """
    m, n = item_images.shape[1], item_texts.shape[1]
    return dot_products(images, texts, list_item_pairs(item_images, item_texts)).view(-1, m, n)
