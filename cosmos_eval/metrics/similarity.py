"""Dot products of features in true float32, in blocks, with exact ties between equal inputs."""

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from cosmos_core.true_float32 import true_float32

BLOCK_BYTES = 64 * 2**20
"""Memory that a block of scores takes by default; one row of scores is always allowed."""

HASHED = 1024
"""Most embeddings that are hashed at a time."""
HASHED_BYTES = 2**25
"""Memory of the embeddings that are hashed or compared at a time; one embedding is always allowed."""

COLLAPSED = 1e-5
"""Embeddings that differ by at most this in every number differ by rounding only."""


@contextmanager
def plain_float32() -> Iterator[None]:
    """Compute inside in true float32: no TF32, no bfloat16 kernels, no autocast.

    Scores in half precision have 8 to 11 significant bits, so candidates of different scores would tie.
    """
    with ExitStack() as contexts:
        contexts.enter_context(true_float32())
        for device in ("cuda", "cpu", "mps"):
            contexts.enter_context(torch.autocast(device, enabled=False))
        yield


def check_features(features: Tensor, what: str) -> None:
    """Check that features are finite, and small enough that their dot products are finite.

    Args:
        features: (N, D).
        what: what a row is, for messages: "image", "text", "query", ...

    Raises:
        ValueError: not a matrix, no rows, or a row that is not finite or too large; names the first as "`what` i".
    """
    if features.ndim != 2 or len(features) == 0:
        raise ValueError(f"{what} features must be a matrix with at least one row, got shape {tuple(features.shape)}")
    # The dot product of rows with norms below 1e18 is below 1e36, within float32 (3.4e38): no score becomes infinite.
    norms = torch.linalg.vector_norm(features.float(), dim=1)
    bad = ~(norms < 1e18)  # not `norms >= 1e18`, which is false for NaN
    if bad.any():
        raise ValueError(f"the features of {what} {int(bad.nonzero()[0])} are not finite")


def is_collapsed(features: Tensor) -> bool:
    """Return whether all features are equal to the first up to rounding (COLLAPSED), as a collapsed model makes them.

    Args:
        features: (N, ...); fewer than two are not collapsed.
    """
    if len(features) < 2:
        return False
    step = max(1, HASHED_BYTES // max(1, features[0].nbytes))  # bounds the memory of the differences
    return all(bool(((block - features[0]).abs() <= COLLAPSED).all()) for block in features.split(step))


@dataclass(frozen=True)
class DistinctFeatures:
    """Features with equal ones stored once: the feature of input j is `features[column[j]]`.

    Scores are computed once for each distinct feature and shared, so that equal inputs tie exactly. In a matrix product
    over all inputs they might not: two equal columns that fall into different tiles of the kernel may be summed in
    another order, and then differ in the last bit.
    """

    features: Tensor
    """(U, ...) float32, the distinct features in order of first appearance."""
    column: Tensor
    """(C,) int64, index in `features` of each input."""
    copies: Tensor
    """(U,) float32, number of inputs that share each distinct feature."""


def deduplicate_features(features: Tensor) -> DistinctFeatures:
    """Find equal features, bit by bit (0.0 and -0.0 are equal).

    Args:
        features: (C, ...) of any float type; compared as float32.

    Returns:
        The distinct features, in order of first appearance, on the same device.

    Raises:
        ValueError: more than 2**24 features, which float32 cannot count.
    """
    if len(features) > 2**24:
        raise ValueError(f"{len(features):,} candidates are more than float32 can count exactly ({2**24:,})")
    features = features.detach().float()
    # Hashes of the bytes take linear time and keep the order of first appearance; torch.unique(dim=0) sorts.
    column_of_hash: dict[bytes, int] = {}
    first_index: list[int] = []
    column: list[int] = []
    step = max(1, min(HASHED, HASHED_BYTES // max(1, features[:1].nbytes)))
    for start in range(0, len(features), step):
        # Adding 0.0 turns -0.0 into 0.0, whose bytes differ. Block by block, as it makes a copy.
        for feature in (features[start : start + step].cpu() + 0.0).contiguous().numpy():
            digest = hashlib.blake2b(feature, digest_size=16).digest()
            feature_column = column_of_hash.setdefault(digest, len(column_of_hash))
            if feature_column == len(first_index):  # seen for the first time
                first_index.append(len(column))
            column.append(feature_column)
    column_index = torch.tensor(column, device=features.device)
    copies = torch.bincount(column_index).float()
    all_distinct = len(first_index) == len(features)
    distinct = features if all_distinct else features[torch.tensor(first_index, device=features.device)]
    return DistinctFeatures(distinct, column_index, copies)


def score_blocks(
    queries: Tensor, candidates: DistinctFeatures, block_bytes: int = BLOCK_BYTES
) -> Iterator[tuple[int, int, Tensor]]:
    """Compute the dot products of queries with all distinct candidates, in blocks of consecutive queries.

    A block holds whole queries, so the score of a positive and those of its rivals come from one matrix product.

    Args:
        queries: (Q, D) features on the device of the candidates.
        candidates: U distinct candidates of width D.
        block_bytes: memory of the scores of one block; one query is always allowed.

    Yields:
        start, stop, and the (stop - start, U) float32 scores of the queries from start to stop - 1. All blocks share
        one buffer, so the next block overwrites these scores: buffers of a few megabytes that are allocated and freed
        by turns would fragment the heap.
    """
    width = len(candidates.features)
    step = min(len(queries), max(1, block_bytes // (4 * width)))
    buffer = torch.empty(step, width, device=candidates.features.device)
    for start in range(0, len(queries), step):
        stop = min(start + step, len(queries))
        with torch.no_grad(), plain_float32():
            scores = torch.mm(queries[start:stop].float(), candidates.features.T, out=buffer[: stop - start])
        yield start, stop, scores
