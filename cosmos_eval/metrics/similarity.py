"""Cosine similarity in float32, block by block, so that equal candidates tie exactly and memory stays bounded."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK_BYTES = 64 * 2**20
"""What one block of scores may take unless told otherwise; one row of scores is always allowed."""

COLLAPSED = 1e-5
"""Embeddings that differ by less than this differ by rounding only."""


@contextmanager
def plain_float32() -> Iterator[None]:
    """Matrix products in true float32 inside: no TF32, no bfloat16 shortcuts, no autocast.

    Half-precision similarities have 8 to 11 significant bits and make ties that are not there.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def check_features(features: Tensor, what: str) -> None:
    """Refuse features (N, D) that are not finite or so large that a product could overflow.

    Raises:
        ValueError: not a matrix, no rows, or a bad row; names the first bad row as "`what` i".
    """
    if features.ndim != 2 or len(features) == 0:
        raise ValueError(f"{what} features must be a matrix with at least one row, got shape {tuple(features.shape)}")
    # Products of rows shorter than 1e18 stay below float32's largest number: no score can become infinite or NaN.
    norms = torch.linalg.vector_norm(features.float(), dim=1)
    bad = ~(norms < 1e18)  # NaN compares false, hence "not smaller" and not "larger"
    if bad.any():
        raise ValueError(f"the features of {what} {int(bad.nonzero()[0])} are not finite")


def collapsed(features: Tensor) -> bool:
    """Whether all rows of (N, D) lie within 1e-5 of the first in every coordinate (false for fewer than two rows)."""
    return len(features) > 1 and bool(((features - features[0]).abs() <= COLLAPSED).all())


@dataclass(frozen=True)
class Candidates:
    """Candidates with each distinct row once: candidate j is `rows[column[j]]`.

    Two equal columns of one matrix product may still differ in the last bit where they fall into different tiles of the
    kernel; a column computed once and shared cannot.
    """

    rows: Tensor  # (U, D) float32
    column: Tensor  # (C,) int64
    repeats: Tensor  # (C - U,) int64: the column of every candidate after the first with its row


def share_equal_rows(features: Tensor) -> Candidates:
    """Group equal rows of (C, D), in order of first appearance."""
    features = features.float() + 0.0  # + 0.0 turns -0.0 into 0.0, which has other bytes
    seen: dict[bytes, int] = {}
    first: list[int] = []
    column: list[int] = []
    repeats: list[int] = []
    for i, row in enumerate(features.detach().cpu().contiguous().numpy()):
        key = hashlib.blake2b(row, digest_size=16).digest()
        place = seen.setdefault(key, len(seen))
        column.append(place)
        if place == len(first):
            first.append(i)
        else:
            repeats.append(place)
    rows = features if not repeats else features[torch.tensor(first, device=features.device)]
    indices = [torch.tensor(index, dtype=torch.int64, device=features.device) for index in (column, repeats)]
    return Candidates(rows, *indices)


def score_blocks(
    queries: Tensor, candidates: Candidates, block_bytes: int = BLOCK_BYTES
) -> Iterator[tuple[int, int, Tensor]]:
    """Scores of consecutive queries against all distinct candidates.

    A block holds whole rows, hence the score of a positive and those of its rivals come from one product.

    Args:
        queries: (Q, D) float32 on the candidates' device.
        candidates: U distinct rows.
        block_bytes: what the scores of a block, repeats included, may take.

    Yields:
        start, stop, and the (stop - start, U) similarities of queries start to stop.
    """
    per_query = 4 * (len(candidates.column) + len(candidates.repeats))
    step = max(1, block_bytes // per_query)
    for start in range(0, len(queries), step):
        stop = min(start + step, len(queries))
        with plain_float32():
            scores = queries[start:stop].float() @ candidates.rows.T
        yield start, stop, scores
