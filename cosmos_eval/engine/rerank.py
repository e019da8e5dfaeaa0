"""Retrieval in two stages: embeddings find the best k candidates of a query, and a model that reads pairs orders them.

This is how cross-encoders and image-text matching are evaluated if there are too many pairs to score all of them
(ALBEF, Li et al., NeurIPS 2021; BLIP, Li et al., ICML 2022).

Tie rule: candidates with equal scores in the first stage are rescored either all or none, whichever keeps their number
within k. Otherwise the order of the dataset would decide which of them can win. So a first stage that gives all
candidates one score has nothing rescored, and its metrics are at chance.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from cosmos_eval.metrics.query_scores import Block, QueryScores, count_copies
from cosmos_eval.metrics.similarity import BLOCK_BYTES

ABOVE = 2.0**33
"""Added to the comparison keys of rescored candidates. Two keys of `as_comparison_keys` differ by less than 2**32, so
the sum is above the key of every candidate that was not rescored."""


@dataclass
class Reranked:
    """Scores of queries after their best candidates were rescored; a `QueryScores`.

    Its blocks are on the CPU in float64 and hold comparison keys, not scores: they have the order and the ties of the
    two-stage ranking, which is all that metrics use.

    How to use it: score the pairs `wanted` by the model, set `pairs` and `scores`, then read `blocks`.

    Args:
        first: scores of the first stage.
        row: (Q,) int64, the index of each query among the distinct queries.
        column: (C,) int64, the index of each candidate among the distinct candidates. Distinct inputs count, not
            distinct embeddings: the second stage may separate two inputs whose embeddings are equal.
        k: the largest number of candidates that are rescored for a query.
        by_image: whether queries are images.
    """

    first: QueryScores
    row: Tensor
    column: Tensor
    k: int
    by_image: bool
    pairs: Tensor | None = None
    """(P,) int64 numbers of the pairs that were scored, ascending."""
    scores: Tensor | None = None
    """(P,) their scores."""

    def __post_init__(self) -> None:
        self.query_count = len(self.row)
        self.device = torch.device("cpu")
        self._distinct_candidates = int(self.column.max()) + 1
        self._distinct_queries = int(self.row.max()) + 1
        # The first position of each distinct candidate among all candidates.
        self._first_positions = torch.full((self._distinct_candidates,), len(self.column), dtype=torch.int64)
        self._first_positions.scatter_reduce_(0, self.column, torch.arange(len(self.column)), "amin")

    @cached_property
    def copies(self) -> Tensor:
        """(number of distinct candidates,) float32, how many candidates are equal to each."""
        return count_copies(self.column, self._distinct_candidates)

    @cached_property
    def best(self) -> Tensor:
        """(Q, k') int64 distinct candidates to rescore for each query; -1 fills the rows of queries with fewer.

        Copies count: a distinct candidate with 3 copies takes 3 of the k.
        """
        best = []
        for _, _, block in self._first_blocks(BLOCK_BYTES):
            # k + 1 columns: the last one shows whether the ties of the k-th candidate go on beyond k.
            values, columns = block.topk(min(self.k + 1, self._distinct_candidates), dim=1)
            count = self.copies[columns].cumsum(1)  # candidates up to each position
            is_group_end = torch.cat(
                [values[:, :-1] != values[:, 1:], torch.ones(len(values), 1, dtype=torch.bool)], dim=1
            )
            # The count at the end of the group of ties that a position belongs to. Counts grow from left to right, so
            # it is the smallest count of all group ends from the position on: a minimum accumulated from the right.
            count_at_group_end = count.masked_fill(~is_group_end, torch.inf).flip(1).cummin(1).values.flip(1)
            columns = columns.masked_fill(count_at_group_end > self.k, -1)
            best.append(columns[:, : self.k])
        return torch.cat(best)

    @property
    def wanted(self) -> Tensor:
        """(P,) int64 numbers of the distinct pairs to score, ascending: image index * number of texts + text index."""
        is_rescored = self.best >= 0
        queries = self.row[:, None].expand_as(self.best)[is_rescored]
        return self._pair_numbers(queries, self.best[is_rescored]).unique()

    def blocks(self, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
        """Yield the comparison keys of all queries; see `QueryScores.blocks`."""
        assert self.pairs is not None
        assert self.scores is not None
        for start, stop, block in self._first_blocks(block_bytes // 4):
            keys = as_comparison_keys(block)
            query, position = (self.best[start:stop] >= 0).nonzero(as_tuple=True)
            candidate = self.best[start:stop][query, position]
            pair_numbers = self._pair_numbers(self.row[start:stop][query], candidate)
            second_scores = self.scores[torch.searchsorted(self.pairs, pair_numbers)]
            keys[query, candidate] = as_comparison_keys(second_scores) + ABOVE
            yield start, stop, keys

    def _first_blocks(self, block_bytes: int) -> Iterator[Block]:
        """Yield the blocks of the first stage on the CPU, with one column for each distinct candidate.

        The first stage has one column for each distinct *embedding*, which may be fewer.
        """
        columns = self.first.column.cpu()[self._first_positions]
        for start, stop, block in self.first.blocks(block_bytes):
            yield start, stop, block.cpu()[:, columns]

    def _pair_numbers(self, query: Tensor, candidate: Tensor) -> Tensor:
        """Return the numbers of pairs of distinct queries and candidates; the same number in both directions."""
        if self.by_image:
            return query * self._distinct_candidates + candidate
        return candidate * self._distinct_queries + query


def as_comparison_keys(scores: Tensor) -> Tensor:
    """Map finite float32 scores to whole numbers in float64 that have the same order and the same ties.

    The bits of a positive float32, read as an integer, have the order of the values; for a negative one, the integer of
    its absolute value is negated. The results lie within +-2**31, so float64 holds them exactly, also after `ABOVE` is
    added. (If `ABOVE` were added to the scores themselves, rounding would make different scores equal.)
    """
    bits = (scores.float() + 0.0).contiguous().view(torch.int32)  # + 0.0 turns -0.0 into 0.0, which is equal to it
    return torch.where(bits < 0, -(bits & 0x7FFFFFFF).double(), bits.double())
