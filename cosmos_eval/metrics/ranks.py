"""Rank and recall@k of retrieval, as expectations over a random order of tied candidates.

A query counts at k if any of its positives is among the first k candidates, and its rank is that of its best positive
(recall@k as CLIP and its successors report it). Candidates with equal scores have no order. A sort would put them in
one anyway, which depends on its implementation and on the order of the input; with positives first in the input, a
model that scores everything alike would get 100 %. In expectation it gets chance.

Both metrics need three counts per query only, so nothing is sorted:

- g (`above`): candidates that score strictly above the best positive,
- t (`tied`): candidates with exactly its score, positives included,
- p (`tied_positives`): positives among those t.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from cosmos_eval.metrics.query_scores import QueryScores
from cosmos_eval.metrics.similarity import BLOCK_BYTES, plain_float32

MARKED_BYTES = 2 * 2**20
"""Memory of the 0/1 marks that are compared and summed at a time on a CPU, small enough for its caches."""


@dataclass(frozen=True)
class RankCounts:
    """Counts that determine the rank of the best positive of each query; all (Q,) int64 on the CPU."""

    above: Tensor
    """g: number of candidates that score strictly above the best positive."""
    tied: Tensor
    """t: number of candidates with exactly the score of the best positive, positives included; at least 1."""
    tied_positives: Tensor
    """p: number of positives with exactly the score of the best positive; at least 1."""


def compute_rank_counts(
    scores: QueryScores,
    positive_query: Tensor,
    positive_candidate: Tensor,
    candidates: int,
    block_bytes: int = BLOCK_BYTES,
) -> RankCounts:
    """Count the candidates above and tied with the best positive of every query, without sorting.

    Args:
        scores: scores of Q queries against `candidates` candidates, all finite.
        positive_query: (P,) int64 query of each positive pair.
        positive_candidate: (P,) int64 candidate of each positive pair. Pairs are distinct, in any order; each query has
            at least one.
        candidates: number of candidates C.
        block_bytes: memory for the scores of one block and the marks made on them; one query is always allowed.

    Returns:
        The counts of every query.

    Raises:
        ValueError: an index is out of range, or a query has no positive; names the first.
    """
    query, candidate, bounds = _sort_by_query(positive_query, positive_candidate, scores.query_count, candidates)
    column = scores.column[candidate.to(scores.column.device)]
    device = scores.device
    query, column, copies = query.to(device), column.to(device), scores.copies.to(device)
    above, tied, tied_positives = [], [], []
    marked_bytes = MARKED_BYTES if device.type == "cpu" else block_bytes // 2
    for start, stop, block in scores.blocks(block_bytes // 2):
        positives = slice(int(bounds[start]), int(bounds[stop]))  # of the queries of this block
        row = query[positives] - start
        positive_scores = block[row, column[positives]]
        best = torch.full((stop - start,), -torch.inf, dtype=block.dtype, device=device)
        best = best.scatter_reduce(0, row, positive_scores, "amax")
        is_best = (positive_scores == best[row]).long()
        tied_positives.append(torch.zeros(stop - start, dtype=torch.int64, device=device).index_add(0, row, is_best))
        block_above, block_tied = _count_above_and_tied(block, best, copies, marked_bytes)
        above.append(block_above)
        tied.append(block_tied)
    return RankCounts(torch.cat(above).cpu(), torch.cat(tied).cpu(), torch.cat(tied_positives).cpu())


def expected_rank(counts: RankCounts) -> Tensor:
    """Rank of the best positive of every query, in expectation over a random order of tied candidates.

    g candidates are always before it. Of t tied candidates in random order, the first of p positives is at position
    (t + 1) / (p + 1) on average, so the rank is g + (t + 1) / (p + 1).

    Args:
        counts: of Q queries, as `compute_rank_counts` returns them.

    Returns:
        (Q,) float64; 1 is the best rank.
    """
    return counts.above.double() + (counts.tied + 1).double() / (counts.tied_positives + 1).double()


def expected_hit(counts: RankCounts, k: int) -> Tensor:
    """Recall@k of every query: the probability that a positive is among the first k candidates, ties in random order.

    k - g positions are left for the t tied candidates. No positive gets one of them with the hypergeometric probability
    C(t - p, k - g) / C(t, k - g).

    Args:
        counts: of Q queries, as `compute_rank_counts` returns them.
        k: cut-off, at least 1; it may exceed the number of candidates.

    Returns:
        (Q,) float64 probabilities; 0 or 1 where the best positive ties with no negative.

    Raises:
        ValueError: k < 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    positions_left = (k - counts.above).clamp_min(0).minimum(counts.tied)
    tied_negatives = counts.tied - counts.tied_positives
    # The ratio of binomials as a product of at most k factors: the binomials themselves overflow, and differences of
    # their logarithms lose digits.
    miss = torch.ones(len(positions_left), dtype=torch.float64)
    for i in range(int(positions_left.max())):
        # Probability that position i + 1 goes to a negative too, given that the i positions before it did.
        factor = (tied_negatives - i).clamp_min(0).double() / (counts.tied - i).clamp_min(1).double()
        miss = torch.where(positions_left > i, miss * factor, miss)
        if not miss[positions_left > i].any():
            break
    return 1 - miss


def _sort_by_query(query: Tensor, candidate: Tensor, queries: int, candidates: int) -> tuple[Tensor, Tensor, Tensor]:
    """Check positive pairs and sort them by query.

    Returns:
        (P,) queries and (P,) candidates of the sorted pairs, and (Q + 1,) bounds: the pairs of query i are those from
        bounds[i] to bounds[i + 1] - 1.

    Raises:
        ValueError: as `compute_rank_counts`.
    """
    query, candidate = query.long().cpu(), candidate.long().cpu()
    if query.shape != candidate.shape or query.ndim != 1:
        raise ValueError(
            f"positives must be two lists of one length, got {tuple(query.shape)}, {tuple(candidate.shape)}"
        )
    for name, index, size in (("query", query, queries), ("candidate", candidate, candidates)):
        out_of_range = (index < 0) | (index >= size)
        if out_of_range.any():
            first = int(out_of_range.nonzero()[0])
            raise ValueError(f"positive {first} points at {name} {int(index[first])}, there are {size}")
    query, order = query.sort(stable=True)
    counts = torch.bincount(query, minlength=queries)
    if (counts == 0).any():
        raise ValueError(f"query {int((counts == 0).nonzero()[0])} has no positive")
    return query, candidate[order], torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])


def _count_above_and_tied(scores: Tensor, best: Tensor, copies: Tensor, marked_bytes: int) -> tuple[Tensor, Tensor]:
    """Count the candidates above and tied with the best positive of each query of a block.

    The comparison writes 0 and 1 into one reused float32 buffer, and a matrix product with `copies` sums them up: no
    boolean mask is allocated and converted. Sums of whole numbers up to 2 ** 24 are exact in float32 in any order,
    hence on every device.

    Args:
        scores: (B, U) scores.
        best: (B,) score of the best positive.
        copies: (U,) float32 number of candidates of each column.
        marked_bytes: memory of the buffer.

    Returns:
        (B,) int64 each.
    """
    count, width = scores.shape
    step = min(count, max(1, marked_bytes // (4 * width)))
    buffer = torch.empty(step, width, device=scores.device)
    above, tied = [], []
    with plain_float32():
        for start in range(0, count, step):
            block, block_best = scores[start : start + step], best[start : start + step, None]
            marks = buffer[: len(block)]
            above.append(torch.gt(block, block_best, out=marks) @ copies)
            tied.append(torch.eq(block, block_best, out=marks) @ copies)
    return torch.cat(above).long(), torch.cat(tied).long()
