"""Dual softmax: scores of retrieval, revised by how much each candidate prefers the query.

Cheng et al., "Improving Video-Text Retrieval by Multi-Stream Corpus Alignment and Dual Softmax Loss" (CAMoE),
arXiv:2109.04290, section 3.3: `S * softmax(S / temperature, over queries) * number of queries`. The last factor is the
same for all scores and left out. A candidate that is close to many queries (a hub) divides its weight among them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from cosmos_eval.metrics.query_scores import Block, QueryScores
from cosmos_eval.metrics.similarity import BLOCK_BYTES


@dataclass(frozen=True)
class DualSoftmax:
    """Scores s(q, c) times softmax over all queries q' of `scale` * s(q', c), in float64.

    It uses all queries together: the revised score of a query depends on which other queries are in the set. Candidates
    that share a column of `scores` share one here, too, so they still tie. The scores are computed twice, in blocks:
    for the sums over queries, and for the revised scores; no whole matrix is kept.
    """

    scores: QueryScores
    scale: float
    """Factor of the scores in the softmax: the inverse of the temperature."""

    @property
    def query_count(self) -> int:
        return self.scores.query_count

    @property
    def device(self) -> torch.device:
        return torch.device("cpu") if self.scores.device.type == "mps" else self.scores.device  # MPS has no float64

    @property
    def column(self) -> Tensor:
        return self.scores.column

    @property
    def copies(self) -> Tensor:
        return self.scores.copies

    def blocks(self, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
        for start, stop, block in self._double_blocks(block_bytes):
            yield start, stop, block * torch.exp(self.scale * block - self._log_sums)

    @cached_property
    def _log_sums(self) -> Tensor:
        """(U,) logarithm of the sum over all queries of exp(scale * score), of each distinct candidate."""
        log_sums: Tensor | None = None
        for _, _, block in self._double_blocks(BLOCK_BYTES):
            of_block = torch.logsumexp(self.scale * block, 0)
            log_sums = of_block if log_sums is None else torch.logaddexp(log_sums, of_block)
        assert log_sums is not None
        return log_sums

    def _double_blocks(self, block_bytes: int) -> Iterator[Block]:
        # A float32 block, the same in float64, its exponentials and their product take seven times its memory.
        for start, stop, block in self.scores.blocks(max(1, block_bytes // 7)):
            yield start, stop, block.to(self.device).double()
