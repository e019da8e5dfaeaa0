"""The queries of one direction of retrieval: what a metric of each query is made of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_eval.metrics.query_scores import QueryScores
from cosmos_eval.metrics.ranks import Places, count_scored_places


@dataclass(frozen=True)
class Queries:
    """Q queries against all candidates."""

    scores: QueryScores
    """Of each query and candidate, in blocks (`scores.blocks`)."""
    positive_query: Tensor
    """(P,) int64, for P pairs of a query and a candidate that is right for it."""
    positive_candidate: Tensor
    """(P,) int64, the candidates of these pairs."""
    candidates: int
    places: Places
    """Where the best-placed positive of each query stands, ties counted."""

    @classmethod
    def of(cls, scores: QueryScores, positive_query: Tensor, positive_candidate: Tensor, candidates: int) -> Self:
        """With `places` counted; ValueError as `count_scored_places`."""
        places = count_scored_places(scores, positive_query, positive_candidate, candidates)
        return cls(scores, positive_query, positive_candidate, candidates, places)

    def measured(self, name: str, metric: "Callable[[Queries], Any]") -> np.ndarray:
        """(Q,) float64 of a metric of each query.

        Raises:
            RequestError: it gives something else than a number in [0, 1] for each query.
        """
        values = torch.as_tensor(metric(self), dtype=torch.float64)
        if values.shape != self.places.better.shape or not ((values >= 0) & (values <= 1)).all():
            raise RequestError(
                f"the metric {name} of retrieval gives values of the shape {tuple(values.shape)}; it must be a number "
                f"in [0, 1] for each of {len(self.places.better):,} queries: correct its function"
            )
        return values.numpy()
