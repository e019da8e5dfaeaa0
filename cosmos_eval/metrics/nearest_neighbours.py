"""k nearest neighbours with DINO's weighted vote (Caron et al., ICCV 2021; facebookresearch/dino, eval_knn.py).

The k train images with the highest cosine vote for their class with weight exp(cosine / 0.07).

Ties: neighbours of equal cosine at the k-th place share the places that are left, so that no order of the train images
decides; classes of equal votes share the prediction. A model that makes all images alike has chance where the train set
has equally many images of each class. Votes are whole multiples of 2**-40, so that sums do not depend on their order;
sums that differ by less than 2**-28 are equal.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from cosmos_eval.metrics.accuracy import check_labels
from cosmos_eval.metrics.similarity import BLOCK_BYTES, check_features, deduplicate_features, score_blocks

TEMPERATURE = 0.07
VOTE = 2.0**40
"""Votes of a neighbour as similar as the nearest one."""
EQUAL_VOTES = 2**12
"""Sums of votes that differ by less are equal: each neighbour's votes are rounded."""


def knn_accuracy(
    test: Tensor,
    test_labels: Tensor,
    train: Tensor,
    train_labels: Tensor,
    classes: int,
    neighbours: Sequence[int],
    temperature: float = TEMPERATURE,
    block_bytes: int = BLOCK_BYTES,
) -> dict[int, Tensor]:
    """Compute the top-1 accuracy of each test image, for several numbers of neighbours from the same products.

    Args:
        test: (Q, D) features of unit length.
        test_labels: (Q,) int64 in [0, classes).
        train: (N, D) features of unit length, on the same device.
        train_labels: (N,) int64.
        classes: C.
        neighbours: numbers k of neighbours, each from 1 to N.
        temperature: above 0.
        block_bytes: about the memory of the cosines of a block.

    Returns:
        k -> (Q,) float64 on the CPU: 1 where the true class has the most votes, 1 / n where n classes share them, else
        0.

    Raises:
        ValueError: features that are not finite (names the first), a label out of range, or a k out of range.
    """
    check_features(test, "test image")
    check_features(train, "train image")
    check_labels(test_labels.cpu(), len(test), classes)
    check_labels(train_labels.cpu(), len(train), classes)
    wrong = [k for k in neighbours if not 1 <= k <= len(train)]
    if wrong:
        raise ValueError(f"there are {len(train)} train images, so k cannot be {wrong[0]}")
    device = train.device
    labels, true_class = train_labels.to(device), test_labels.to(device)
    distinct = deduplicate_features(train)
    column = distinct.column.to(device)
    blocks: dict[int, list[Tensor]] = {k: [] for k in neighbours}
    # A block has the cosines of all train images, and for equal ones of all of them, not only of the distinct.
    share = len(distinct.features) / (2 * len(train))
    for start, stop, cosines in score_blocks(test, distinct, max(1, int(block_bytes * share))):
        of_images = cosines if len(distinct.features) == len(train) else cosines[:, column]
        nearest, index = of_images.topk(max(neighbours), dim=1)
        voters = labels[index]  # (B, k) class of each neighbour
        for k in neighbours:
            votes = _vote(of_images, nearest, voters, labels, classes, k, temperature)
            is_best = votes.amax(1, keepdim=True) - votes < EQUAL_VOTES
            right = is_best.gather(1, true_class[start:stop, None])[:, 0]
            blocks[k].append(right.cpu().double() / is_best.sum(1).cpu())
    return {k: torch.cat(of_blocks) for k, of_blocks in blocks.items()}


def _vote(
    cosines: Tensor, nearest: Tensor, voters: Tensor, labels: Tensor, classes: int, k: int, temperature: float
) -> Tensor:
    """Return the votes (B, C) int64 of the k nearest neighbours.

    Args:
        cosines: (B, N).
        nearest, voters: (B, at least k) the highest cosines, descending, and the classes of these images.
        labels: (N,) classes of the train images.
    """
    last = nearest[:, k - 1 : k]  # (B, 1)
    weights = ((nearest[:, :k] - nearest[:, :1]) / temperature).exp()
    votes = torch.zeros(len(cosines), classes, dtype=torch.int64, device=cosines.device)
    places = (nearest[:, :k] == last).sum(1)  # that neighbours with the k-th cosine have
    is_tied = cosines == last
    shared = is_tied.sum(1) > places  # more images have that cosine than there are places
    weights = torch.where(shared[:, None] & (nearest[:, :k] == last), 0, weights)
    votes.scatter_add_(1, voters[:, :k], (weights * VOTE).round().long())
    if shared.any():
        tied = is_tied[shared]
        of_class = torch.zeros(len(tied), classes, dtype=torch.int64, device=cosines.device)
        of_class.index_add_(1, labels, tied.long())
        weight = ((last[shared] - nearest[shared, :1]) / temperature).exp() * places[shared, None] / tied.sum(1, True)
        votes[shared] += (weight * VOTE).round().long() * of_class
    return votes
