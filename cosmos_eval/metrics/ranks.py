"""Ranks and recall of retrieval, as expectations over a random order of tied candidates.

A query counts at k when any of its positives is among the first k candidates, and its rank is the place of the
best-placed one ("CLIP-style" recall). Candidates with equal scores have no order of their own: whatever a sort makes of
them is an accident of its kernel, and a model that scores everything alike must get chance.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from cosmos_eval.metrics.query_scores import QueryScores
from cosmos_eval.metrics.similarity import BLOCK_BYTES, plain_float32

MARKED_BYTES = 2 * 2**20
"""What is compared in one go on a CPU, so that its caches hold the marks; a GPU compares a whole block."""


@dataclass(frozen=True)
class Places:
    """Where the best positive of each query stands: all (Q,) int64 on the CPU."""

    better: Tensor
    """g: candidates scored strictly above the best positive."""
    tied: Tensor
    """t: candidates with exactly its score, the positives among them included."""
    tied_positives: Tensor
    """p: positives with exactly its score, at least 1."""


def count_scored_places(
    scores: QueryScores,
    positive_query: Tensor,
    positive_candidate: Tensor,
    candidates: int,
    block_bytes: int = BLOCK_BYTES,
) -> Places:
    """Count the candidates above and level with the best positive of every query, without sorting.

    Args:
        scores: of Q queries against `candidates` candidates, all of them finite.
        positive_query, positive_candidate: (P,) int64; candidate `positive_candidate[i]` is right for query
            `positive_query[i]`. Distinct pairs, any number a query, at least one; any order.
        block_bytes: memory for the scores of one block and the marks made on them (one query always fits).

    Returns:
        The counts of every query.

    Raises:
        ValueError: an index out of range, or a query without a positive; names the first.
    """
    query, candidate, bounds = _by_query(positive_query, positive_candidate, scores.queries, candidates)
    column = scores.column[candidate.to(scores.column.device)]
    device = scores.device
    query, column, copies = query.to(device), column.to(device), scores.copies.to(device)
    better, tied, tied_positives = [], [], []
    marked = MARKED_BYTES if device.type == "cpu" else block_bytes // 2
    for start, stop, block in scores.blocks(block_bytes // 2):
        own = slice(int(bounds[start]), int(bounds[stop]))
        row = query[own] - start
        of_positives = block[row, column[own]]
        best = torch.full((stop - start,), -torch.inf, dtype=block.dtype, device=device)
        best = best.scatter_reduce(0, row, of_positives, "amax")
        among = (of_positives == best[row]).long()
        tied_positives.append(torch.zeros(stop - start, dtype=torch.int64, device=device).index_add(0, row, among))
        above, level = _count_marks(block, best, copies, marked)
        better.append(above)
        tied.append(level)
    return Places(torch.cat(better).cpu(), torch.cat(tied).cpu(), torch.cat(tied_positives).cpu())


def expected_rank(places: Places) -> Tensor:
    """(Q,) float64 expected place of the best-placed positive, 1 is first: g + (t + 1) / (p + 1)."""
    return places.better.double() + (places.tied + 1).double() / (places.tied_positives + 1).double()


def expected_hit(places: Places, k: int) -> Tensor:
    """(Q,) float64 probability that a positive is among the first k.

    k - g places are left for the t tied candidates; all of them go to the t - p negatives with the hypergeometric
    probability C(t - p, k - g) / C(t, k - g).

    Raises:
        ValueError: k < 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    left = (k - places.better).clamp_min(0).minimum(places.tied)
    negatives = places.tied - places.tied_positives
    miss = torch.ones(len(left), dtype=torch.float64)
    for i in range(int(left.max())):
        # The (i+1)-th place goes to a negative too, given that the i before it did.
        step = (negatives - i).clamp_min(0).double() / (places.tied - i).clamp_min(1).double()
        miss = torch.where(left > i, miss * step, miss)
        if not miss[left > i].any():
            break
    return 1 - miss


def _by_query(query: Tensor, candidate: Tensor, queries: int, candidates: int) -> tuple[Tensor, Tensor, Tensor]:
    """Positives sorted by query, and where those of each query begin: (Q + 1,)."""
    query, candidate = query.long().cpu(), candidate.long().cpu()
    if query.shape != candidate.shape or query.ndim != 1:
        raise ValueError(
            f"positives must be two lists of one length, got {tuple(query.shape)}, {tuple(candidate.shape)}"
        )
    for name, index, size in (("query", query, queries), ("candidate", candidate, candidates)):
        wrong = (index < 0) | (index >= size)
        if wrong.any():
            first = int(wrong.nonzero()[0])
            raise ValueError(f"positive {first} points at {name} {int(index[first])}, there are {size}")
    query, order = query.sort(stable=True)
    counts = torch.bincount(query, minlength=queries)
    if (counts == 0).any():
        raise ValueError(f"query {int((counts == 0).nonzero()[0])} has no positive")
    return query, candidate[order], torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])


def _count_marks(scores: Tensor, best: Tensor, copies: Tensor, marked_bytes: int) -> tuple[Tensor, Tensor]:
    """How many of (B, U) scores are above and level with (B,) `best`, column u counted `copies[u]` times: (B,) int64.

    Sums of zeros and ones times whole numbers, exact in float32.
    """
    count, width = scores.shape
    step = min(count, max(1, marked_bytes // (4 * width)))
    marks = torch.empty(step, width, device=scores.device)
    above, level = [], []
    with plain_float32():
        for start in range(0, count, step):
            some, own = scores[start : start + step], best[start : start + step, None]
            mark = marks[: len(some)]
            above.append(torch.gt(some, own, out=mark) @ copies)
            level.append(torch.eq(some, own, out=mark) @ copies)
    return torch.cat(above).long(), torch.cat(level).long()
