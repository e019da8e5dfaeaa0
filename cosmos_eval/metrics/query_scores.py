"""Scores of queries against candidates in blocks of whole queries: the input of ranks and accuracies.

A metric only needs to know whether a score is above, equal to or below another score of the same query. So it takes
blocks of whole queries, however they were computed: as dot products, by a model's own similarity, or pair by pair.
Candidates with equal inputs share one column of a block, so their scores are identical and they tie exactly.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from cosmos_eval.metrics.similarity import (
    BLOCK_BYTES,
    DistinctFeatures,
    deduplicate_features,
    plain_float32,
    score_blocks,
)

Block = tuple[int, int, Tensor]
"""start, stop and the (stop - start, U) scores of the queries from start to stop - 1. The next block may overwrite the
tensor: use it before asking for the next, or copy it."""


class QueryScores(Protocol):
    """Scores of Q queries against C candidates, U of them distinct; distinct candidates have a column each."""

    @property
    def query_count(self) -> int:
        """Number of queries Q."""
        ...

    @property
    def device(self) -> torch.device:
        """Device of the blocks."""
        ...

    @property
    def column(self) -> Tensor:
        """(C,) int64 column of each candidate."""
        ...

    @property
    def copies(self) -> Tensor:
        """(U,) float32 number of candidates that share each column."""
        ...

    def blocks(self, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
        """Yield the scores of all queries in order, whole queries at a time.

        The score of a positive and those of its rivals come from the same block, hence from the same product: computed
        separately they could differ in the last bit and break a tie.

        Args:
            block_bytes: about the most memory that a block takes; one query is always allowed.
        """
        ...


class DotProducts:
    """Scores as dot products in float32.

    Args:
        queries: (Q, D) features.
        candidates: (C, D) features on the same device.
    """

    def __init__(self, queries: Tensor, candidates: Tensor) -> None:
        self.query_count = len(queries)
        self.device = candidates.device
        self._queries, self._candidates = queries, candidates

    @cached_property
    def _distinct_candidates(self) -> DistinctFeatures:
        return deduplicate_features(self._candidates)

    @property
    def column(self) -> Tensor:
        return self._distinct_candidates.column

    @property
    def copies(self) -> Tensor:
        return self._distinct_candidates.copies

    def blocks(self, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
        return score_blocks(self._queries, self._distinct_candidates, block_bytes)


@dataclass(frozen=True)
class MatrixScores:
    """Scores that are already computed, of each distinct query with each distinct candidate."""

    matrix: Tensor
    """(V, U) scores of V distinct queries with U distinct candidates."""
    row: Tensor
    """(Q,) int64 row of each query."""
    column: Tensor
    """(C,) int64 column of each candidate."""

    @property
    def query_count(self) -> int:
        return len(self.row)

    @property
    def device(self) -> torch.device:
        return self.matrix.device

    @cached_property
    def copies(self) -> Tensor:
        return count_copies(self.column, self.matrix.shape[1])

    def blocks(self, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
        step = max(1, block_bytes // (self.matrix.element_size() * self.matrix.shape[1]))
        for start in range(0, self.query_count, step):
            stop = min(start + step, self.query_count)
            yield start, stop, self.matrix[self.row[start:stop].to(self.device)]


@dataclass(frozen=True)
class SelectedQueries:
    """Scores of some queries only, from the same products as those of all."""

    scores: QueryScores
    """Scores of all queries."""
    selected: Tensor
    """(S,) int64 on the CPU, indices of the queries, ascending."""

    @property
    def query_count(self) -> int:
        return len(self.selected)

    @property
    def device(self) -> torch.device:
        return self.scores.device

    @property
    def column(self) -> Tensor:
        return self.scores.column

    @property
    def copies(self) -> Tensor:
        return self.scores.copies

    def blocks(self, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
        done = 0
        for start, stop, block in self.scores.blocks(block_bytes):
            end = int(torch.searchsorted(self.selected, stop))
            if end > done:
                yield done, end, block[(self.selected[done:end] - start).to(block.device)]
            done = end


@dataclass(frozen=True)
class MeanOverPrompts:
    """Scores of classes as the mean score of the prompts of each class, in float32.

    This is the prompt ensemble of a model whose score is not the dot product of embeddings. The usual ensemble, the
    mean embedding of a class's prompts, does not exist there: the tokens of several prompts cannot be averaged, since
    token i means different things in each (FILIP, Yao et al., ICLR 2022, "Prompt Ensembling and Templates", takes the
    mean of the token-wise similarities instead).
    """

    prompts: QueryScores
    """Scores of the queries against all prompts."""
    prompts_of: Sequence[Sequence[int]]
    """For each distinct class, the indices of its prompts among the candidates of `prompts`."""
    column: Tensor
    """(C,) int64, which of the distinct classes each class is."""

    @property
    def query_count(self) -> int:
        return self.prompts.query_count

    @property
    def device(self) -> torch.device:
        return self.prompts.device

    @cached_property
    def copies(self) -> Tensor:
        return count_copies(self.column, len(self.prompts_of))

    def blocks(self, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
        # Sorted, so that two classes with the same prompts in another order are summed in the same order and tie.
        columns_of_class = [
            self.prompts.column[torch.tensor(prompt_indices)].sort().values.to(self.device)
            for prompt_indices in self.prompts_of
        ]
        for start, stop, scores in self.prompts.blocks(block_bytes):
            with plain_float32():
                yield start, stop, torch.stack([scores[:, columns].mean(1) for columns in columns_of_class], dim=1)


def count_copies(column: Tensor, width: int) -> Tensor:
    """Count the candidates that share each column.

    Args:
        column: (C,) int64 column of each candidate.
        width: number of columns U.

    Returns:
        (U,) float32.
    """
    return torch.bincount(column, minlength=width).float()
