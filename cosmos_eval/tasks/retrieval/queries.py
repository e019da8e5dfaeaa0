"""The queries of one retrieval direction with their scores: what a metric of each query is computed from."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_eval.metrics.query_scores import QueryScores
from cosmos_eval.metrics.ranks import RankCounts, compute_rank_counts


@dataclass(frozen=True)
class ScoredQueries:
    """Q queries scored against all candidates, in one direction."""

    scores: QueryScores
    """Score of each query and candidate, in blocks (`scores.blocks`); the whole matrix may not fit into memory."""
    positive_query: Tensor
    """(P,) int64, the query of each positive pair (a query and a candidate that is correct for it)."""
    positive_candidate: Tensor
    """(P,) int64, the candidate of each positive pair."""
    candidates: int
    """Number of candidates."""
    rank_counts: RankCounts
    """For each query: how many candidates score above its best positive, and how many are tied with it."""


def rank_queries(
    scores: QueryScores, positive_query: Tensor, positive_candidate: Tensor, candidates: int
) -> ScoredQueries:
    """Find the best positive of each query among the candidates; arguments as the fields of `ScoredQueries`.

    Raises:
        ValueError: as `compute_rank_counts`.
    """
    rank_counts = compute_rank_counts(scores, positive_query, positive_candidate, candidates)
    return ScoredQueries(scores, positive_query, positive_candidate, candidates, rank_counts)


def compute_query_metric(name: str, metric: Callable[[ScoredQueries], Any], queries: ScoredQueries) -> np.ndarray:
    """(Q,) float64 values of a metric of `PER_QUERY`, which may be a plug-in's.

    Raises:
        RequestError: the function does not return a number in [0, 1] for each query.
    """
    values = torch.as_tensor(metric(queries), dtype=torch.float64)
    # The comparison is false for NaN, so NaN is refused too.
    if values.shape != queries.rank_counts.above.shape or not ((values >= 0) & (values <= 1)).all():
        raise RequestError(
            f"the metric {name} of retrieval gives values of the shape {tuple(values.shape)}; it must return a number "
            f"in [0, 1] for each of {len(queries.rank_counts.above):,} queries: correct its function"
        )
    return values.numpy()
