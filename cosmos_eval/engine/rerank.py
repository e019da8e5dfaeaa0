"""Two stages of retrieval: the best k candidates of a query by embeddings, put in order by a model that reads pairs.

This is how cross-encoders and image-text matching are evaluated where all pairs are too many (ALBEF, Li et al., NeurIPS
2021; BLIP, Li et al., ICML 2022). The tie rule here: of candidates with equal scores in the first stage either all are
among the k or none, so that no order of the dataset decides. A first stage that scores everything alike leaves its ties
as they are, and is at chance.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from cosmos_eval.metrics.query_scores import Block, QueryScores, copies_of
from cosmos_eval.metrics.similarity import BLOCK_BYTES

ABOVE = 2.0**33
"""What puts a rescored candidate above all others: more than the distance of any two float32 in `in_order_of`."""


@dataclass
class Reranked:
    """Scores of queries whose best candidates were scored again; blocks are float64 on the CPU, for comparisons only.

    Args:
        first: scores of the first stage.
        row: (Q,) int64, which of the distinct queries each query is.
        column: (C,) int64, which of the distinct candidates each candidate is. Distinct is what differs as an input:
            the second stage may tell apart what has equal embeddings in the first.
        k: candidates that are scored again, at most.
        by_image: whether queries are images.
    """

    first: QueryScores
    row: Tensor
    column: Tensor
    k: int
    by_image: bool
    pairs: Tensor | None = None
    """(P,) int64 numbers of the pairs that were scored, ascending, and (P,) their scores."""
    scores: Tensor | None = None

    def __post_init__(self) -> None:
        self.queries = len(self.row)
        self.device = torch.device("cpu")
        self._width = int(self.column.max()) + 1
        self._height = int(self.row.max()) + 1
        self._first_place = torch.full((self._width,), len(self.column), dtype=torch.int64)
        self._first_place.scatter_reduce_(0, self.column, torch.arange(len(self.column)), "amin")

    @cached_property
    def copies(self) -> Tensor:
        return copies_of(self.column, self._width)

    @cached_property
    def best(self) -> Tensor:
        """(Q, k') int64 distinct candidates to be scored again, -1 where there are fewer."""
        found = []
        for _, _, block in self._first_blocks(BLOCK_BYTES):
            # one more than k: whether what ties with the k-th fits is seen from what follows
            values, columns = block.topk(min(self.k + 1, self._width), dim=1)
            counted = self.copies[columns].cumsum(1)
            # the count at the end of each group of equals: the next group's begin is where values fall
            ends = torch.cat([values[:, :-1] != values[:, 1:], torch.ones(len(values), 1, dtype=torch.bool)], dim=1)
            # from behind, the smallest count at an end; counts only grow
            at_end = counted.masked_fill(~ends, torch.inf).flip(1).cummin(1).values.flip(1)
            kept = columns.masked_fill(at_end > self.k, -1)
            found.append(kept[:, : self.k])
        return torch.cat(found)

    @property
    def wanted(self) -> Tensor:
        """(P,) int64 numbers of the distinct pairs to be scored, ascending: image * texts + text."""
        return self._numbers(self.row[:, None].expand_as(self.best)[self.best >= 0], self.best[self.best >= 0]).unique()

    def blocks(self, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
        assert self.pairs is not None
        assert self.scores is not None
        for start, stop, block in self._first_blocks(block_bytes // 4):
            keys = in_order_of(block)
            query, place = (self.best[start:stop] >= 0).nonzero(as_tuple=True)
            candidate = self.best[start:stop][query, place]
            numbers = self._numbers(self.row[start:stop][query], candidate)
            again = self.scores[torch.searchsorted(self.pairs, numbers)]
            keys[query, candidate] = in_order_of(again) + ABOVE
            yield start, stop, keys

    def _first_blocks(self, block_bytes: int) -> Iterator[Block]:
        """The first stage on the CPU, with a column for each distinct candidate."""
        columns = self.first.column.cpu()[self._first_place]
        for start, stop, block in self.first.blocks(block_bytes):
            yield start, stop, block.cpu()[:, columns]

    def _numbers(self, query: Tensor, candidate: Tensor) -> Tensor:
        return query * self._width + candidate if self.by_image else candidate * self._height + query


def in_order_of(scores: Tensor) -> Tensor:
    """Finite float32 scores as float64 whole numbers below 2**32 in size that compare alike: equal where they are."""
    bits = (scores.float() + 0.0).contiguous().view(torch.int32)  # + 0.0: the two zeros are equal
    return torch.where(bits < 0, -(bits & 0x7FFFFFFF).double(), bits.double())
