"""Cosine similarity in float32, block by block, so that equal candidates tie exactly and memory stays bounded."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK_BYTES = 64 * 2**20
"""What one block of scores may take unless told otherwise; one row of scores is always allowed."""

HASHED = 1024
"""Embeddings that are hashed in one go, or as many as `HASHED_BYTES` hold; one always."""
HASHED_BYTES = 2**25

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
    """Whether all of (N, ...) features lie within 1e-5 of the first in every number (false for fewer than two)."""
    if len(features) < 2:
        return False
    step = max(1, HASHED_BYTES // max(1, features[0].nbytes))  # not all differences at once
    return all(bool(((some - features[0]).abs() <= COLLAPSED).all()) for some in features.split(step))


@dataclass(frozen=True)
class Candidates:
    """Candidates with each distinct embedding once: candidate j is `rows[column[j]]`.

    Two equal columns of one matrix product may still differ in the last bit where they fall into different tiles of the
    kernel; a column computed once and shared cannot.
    """

    rows: Tensor  # (U, ...) float32
    column: Tensor  # (C,) int64
    copies: Tensor  # (U,) float32: how many candidates share each row


def share_equal_rows(features: Tensor) -> Candidates:
    """Group equal ones of (C, ...) features, in order of first appearance.

    Raises:
        ValueError: more rows than float32 can count (2**24).
    """
    if len(features) > 2**24:
        raise ValueError(f"{len(features):,} candidates are more than float32 can count exactly ({2**24:,})")
    features = features.detach().float()
    seen: dict[bytes, int] = {}
    first: list[int] = []
    column: list[int] = []
    step = max(1, min(HASHED, HASHED_BYTES // max(1, features[:1].nbytes)))
    for start in range(0, len(features), step):
        # + 0.0 turns -0.0 into 0.0, which has other bytes; on a part at a time, or all features would be there twice
        for row in (features[start : start + step].cpu() + 0.0).contiguous().numpy():
            place = seen.setdefault(hashlib.blake2b(row, digest_size=16).digest(), len(seen))
            if place == len(first):
                first.append(len(column))
            column.append(place)
    index = torch.tensor(column, device=features.device)
    copies = torch.bincount(index).float()
    rows = features if len(first) == len(features) else features[torch.tensor(first, device=features.device)]
    return Candidates(rows, index, copies)


def score_blocks(
    queries: Tensor, candidates: Candidates, block_bytes: int = BLOCK_BYTES
) -> Iterator[tuple[int, int, Tensor]]:
    """Scores of consecutive queries against all distinct candidates.

    A block holds whole rows, hence the score of a positive and those of its rivals come from one product.

    Args:
        queries: (Q, D) on the candidates' device.
        candidates: U distinct rows.
        block_bytes: what the scores of a block may take.

    Yields:
        start, stop, and the (stop - start, U) float32 similarities of queries start to stop, in a buffer that the next
        block overwrites: blocks of a few megabytes that come and go would leave the heap in pieces.
    """
    width = len(candidates.rows)
    step = min(len(queries), max(1, block_bytes // (4 * width)))
    buffer = torch.empty(step, width, device=candidates.rows.device)
    for start in range(0, len(queries), step):
        stop = min(start + step, len(queries))
        with torch.no_grad(), plain_float32():
            scores = torch.mm(queries[start:stop].float(), candidates.rows.T, out=buffer[: stop - start])
        yield start, stop, scores
