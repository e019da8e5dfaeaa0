"""Scores of queries against candidates, block by block: what ranks and accuracies are counted from.

A metric needs to know of a score only whether it is above, level with or below another of the same query. So it takes
blocks of whole queries, whatever made them: the dot product, a model's own similarity, or pairs that were scored.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from cosmos_eval.metrics.similarity import BLOCK_BYTES, Candidates, plain_float32, score_blocks, share_equal_rows

Block = tuple[int, int, Tensor]
"""start, stop, and the (stop - start, U) scores of queries start to stop, in a buffer that the next may overwrite."""


class QueryScores(Protocol):
    """Scores of Q queries against C candidates, of which U are distinct: each has a column, so that equals tie."""

    @property
    def queries(self) -> int:
        """Q."""
        ...

    @property
    def device(self) -> torch.device:
        """Where blocks are."""
        ...

    @property
    def column(self) -> Tensor:
        """(C,) int64, the column of each candidate."""
        ...

    @property
    def copies(self) -> Tensor:
        """(U,) float32, how many candidates share each column."""
        ...

    def blocks(self, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
        """All queries in order, whole queries at a time: the score of a positive and those of its rivals come from
        one block. A block takes about `block_bytes` at most; one query always fits."""
        ...


class DotProducts:
    """Scores as the dot product in float32.

    Args:
        queries: (Q, D) features.
        candidates: (C, D) features on the same device.
    """

    def __init__(self, queries: Tensor, candidates: Tensor) -> None:
        self.queries = len(queries)
        self.device = candidates.device
        self._queries, self._candidates = queries, candidates

    @cached_property
    def _shared(self) -> Candidates:
        return share_equal_rows(self._candidates)

    @property
    def column(self) -> Tensor:
        return self._shared.column

    @property
    def copies(self) -> Tensor:
        return self._shared.copies

    def blocks(self, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
        return score_blocks(self._queries, self._shared, block_bytes)


@dataclass(frozen=True)
class MatrixScores:
    """Scores that are there already: of each distinct query with each distinct candidate.

    Args:
        matrix: (V, U).
        row: (Q,) int64, which row each query has.
        column: (C,) int64, as in `QueryScores`.
    """

    matrix: Tensor
    row: Tensor
    column: Tensor

    @property
    def queries(self) -> int:
        return len(self.row)

    @property
    def device(self) -> torch.device:
        return self.matrix.device

    @cached_property
    def copies(self) -> Tensor:
        return copies_of(self.column, self.matrix.shape[1])

    def blocks(self, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
        step = max(1, block_bytes // (self.matrix.element_size() * self.matrix.shape[1]))
        for start in range(0, self.queries, step):
            stop = min(start + step, self.queries)
            yield start, stop, self.matrix[self.row[start:stop].to(self.device)]


@dataclass(frozen=True)
class MeanOverPrompts:
    """Scores of classes as the mean score of a class's prompts, in float32.

    The ensemble of a model whose score is not the dot product of embeddings: tokens of several prompts cannot be
    averaged as embeddings can, since those of one place say different things (FILIP, Yao et al., ICLR 2022, "Prompt
    Ensembling and Templates": the mean token-wise similarity in place of the mean textual representation).

    Args:
        prompts: scores of queries against all prompts.
        prompts_of: for each distinct class the places of its prompts among the candidates of `prompts`.
        column: (C,) int64, which of the distinct classes each class is.
    """

    prompts: QueryScores
    prompts_of: Sequence[Sequence[int]]
    column: Tensor

    @property
    def queries(self) -> int:
        return self.prompts.queries

    @property
    def device(self) -> torch.device:
        return self.prompts.device

    @cached_property
    def copies(self) -> Tensor:
        return copies_of(self.column, len(self.prompts_of))

    def blocks(self, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
        # sorted, so that two classes with the same prompts in another order add up in the same one
        columns = [self.prompts.column[torch.tensor(own)].sort().values.to(self.device) for own in self.prompts_of]
        for start, stop, scores in self.prompts.blocks(block_bytes):
            with plain_float32():
                yield start, stop, torch.stack([scores[:, own].mean(1) for own in columns], dim=1)


def copies_of(column: Tensor, width: int) -> Tensor:
    """(width,) float32: how many candidates have each column of (C,) `column`."""
    return torch.bincount(column, minlength=width).float()
