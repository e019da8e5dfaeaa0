"""Contrastive losses over all pairs of views, on any number of ranks: the parts that objectives are built from.

Every pair of views contributes the symmetric InfoNCE loss (CLIP, Radford et al. 2021). All pairs of a term come from
one matrix product; `tests/oracles/cosmos_loss.py` computes the same with a loop over the pairs.

On several ranks, the rows of every product are this rank's b samples and the columns the B = world_size * b samples of
all ranks. Only the side with few views is gathered: the student's two global crops and the teacher's features, in one
collective. Logits of n by m views are (n * b) x (m * B), so memory grows with n * m * b * B. The logsumexp of a column
runs over the rows of all ranks: each rank sums its own rows, and a second collective adds up one number for each pair
of views and column. It also carries the loss, so that all ranks report the loss of the whole batch. The mean over ranks
of the gradients, which DDP forms, is the gradient of one process with the whole batch. (Gathering without gradients, as
the published scripts do, gives 1 / world of that, except for both temperatures, which get all of it; that is not
offered.)
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from cosmos_core.collectives import Collectives

GLOBAL_VIEWS = 2
"""Crops and captions of a sample that are global; the first ones."""


@dataclass
class Losses:
    """Scalars of one step, for the whole batch and equal on every rank; `total` is minimised."""

    total: Tensor
    """Its gradient is that of this rank's samples: the mean over ranks is the gradient of the whole batch."""
    clip_loss: Tensor
    distill_loss: Tensor
    """Added to the contrastive loss of images and texts: distillation, or SLIP's self-supervision."""
    distill_terms: dict[str, Tensor] = field(default_factory=dict)
    """The terms whose mean is `distill_loss`; for COSMOS the student's cross-modal features against the teacher's."""


class Pairs(NamedTuple):
    """All pairs of a view of one side and a view of the other; matching features are those of the same sample.

    On several ranks one of the two sides, either one, comes from `Collectives.columns` and holds the samples of all
    ranks.
    """

    left: Tensor
    """(n, b, D) unit features, or (n, B, D) of all ranks."""
    right: Tensor
    """(m, b, D) unit features, or (m, B, D) of all ranks."""
    scale: Tensor
    """Scalar that multiplies the similarities."""


def pair_losses(left: Tensor, right: Tensor, scale: Tensor) -> Tensor:
    """Symmetric contrastive loss of every pair of views; matching features are those of the same sample.

    Args:
        left: (n, B, D) unit features.
        right: (m, B, D) unit features.
        scale: scalar that multiplies the similarities.

    Returns:
        (n, m) means over the batch of the cross-entropy of both directions, halved.
    """
    logits = logits_of(left, right, scale)  # (n, B, m, B)
    matches = logits.diagonal(dim1=1, dim2=3)  # (n, m, B)
    forward = logits.logsumexp(dim=3).mean(dim=1)  # (n, m)
    backward = logits.logsumexp(dim=1).mean(dim=2)
    return (forward + backward) / 2 - matches.mean(dim=2)


def logits_of(left: Tensor, right: Tensor, scale: Tensor) -> Tensor:
    """(n, b, D) and (m, B, D) features -> (n, b, m, B) scaled similarities, in float32 at least."""
    n, b, width = left.shape
    m, batch, _ = right.shape
    # In float32 whatever type the towers compute in: at a scale of 100, bfloat16 would round logits to multiples of
    # 0.5.
    dtype = torch.promote_types(torch.promote_types(left.dtype, right.dtype), torch.float32)
    left, right = left.reshape(-1, width).to(dtype), right.reshape(-1, width).to(dtype)
    with torch.autocast(left.device.type, enabled=False):
        return ((scale * left) @ right.T).reshape(n, b, m, batch)


def losses_of_pairs(terms: Sequence[Pairs], collectives: Collectives) -> list[Tensor]:
    """`pair_losses` of every term over the samples of all ranks, in one collective for all terms.

    Returns:
        (n, m) for each term: values of the whole batch, equal on all ranks, also where they are not finite; gradients
        flow through this rank's features and the gathered ones, and their mean over ranks is that of the whole batch.
    """
    if collectives.world.size == 1:
        return [pair_losses(*pairs) for pairs in terms]
    parts = [local_part(*pairs, collectives.world.rank) for pairs in terms]
    # One flat tensor for the collective: of each term the sums of its rows, then the exponentials of its columns.
    packed = [x.flatten() for part in parts for x in (part.row_sums.double(), part.exponents())]
    sums = iter(collectives.sum(torch.cat(packed)).split([len(x) for x in packed]))
    return [part.losses(next(sums), next(sums)) for part in parts]


@dataclass
class LocalPart:
    """What this rank's rows contribute to the pairs of one term, with r views in the rows and c in the columns.

    The loss of a pair is the mean over the B samples of (logsumexp of the row + logsumexp of the column) / 2 - match.
    Rows are complete on this rank; of a column it has the part that runs over its own rows.
    """

    row_sums: Tensor
    """(r, c) sums over this rank's rows of logsumexp(row) / 2 - match."""
    column_logsumexp: Tensor
    """(r, c, B) logsumexp over this rank's rows, for every column."""
    largest: Tensor
    """Scalar that no logit exceeds: the scale, since features have unit length."""
    samples: int
    """b, of this rank."""
    swapped: bool
    """Whether the term's first side is in the columns."""

    def exponents(self) -> Tensor:
        """(r, c, B) exponentials of `column_logsumexp - largest`, to be summed over ranks.

        They lie between exp(-2 * largest) and b, so float64 does not underflow for scales up to 300; temperatures are
        clamped to 100.
        """
        return (self.column_logsumexp.detach().double() - self.largest).exp()

    def losses(self, row_sums: Tensor, exponents: Tensor) -> Tensor:
        """The (n, m) losses from the sums over all ranks of `row_sums` and `exponents()`, both flat and float64."""
        totals = exponents.view(self.column_logsumexp.shape).log() + self.largest  # (r, c, B)
        value = (row_sums.view(self.row_sums.shape) + totals.sum(dim=2) / 2) / totals.shape[2]
        # Derivative of the logsumexp of the whole column with respect to this rank's part of it.
        share = (self.column_logsumexp.detach() - totals).exp().to(self.column_logsumexp.dtype)
        # `carrier` has the right gradient and `value` the right value. DDP divides by the number of ranks, and this
        # division is by b where the mean over the batch divides by B = world_size * b: the two together are the same.
        carrier = (self.row_sums + (share * self.column_logsumexp).sum(dim=2) / 2) / self.samples
        losses = value.to(carrier.dtype) + (carrier - carrier.detach())
        return losses.T if self.swapped else losses


def local_part(left: Tensor, right: Tensor, scale: Tensor, rank: int) -> LocalPart:
    """This rank's rows against all columns; the side with more samples is in the columns."""
    swapped = left.shape[1] > right.shape[1]
    rows, columns = (right, left) if swapped else (left, right)
    b = rows.shape[1]
    logits = logits_of(rows, columns, scale)  # (r, b, c, B)
    matches = logits[..., rank * b : (rank + 1) * b].diagonal(dim1=1, dim2=3)  # (r, c, b)
    return LocalPart(
        row_sums=logits.logsumexp(dim=3).sum(dim=1) / 2 - matches.sum(dim=2),
        column_logsumexp=logits.logsumexp(dim=1),
        largest=scale.detach().double().abs(),
        samples=b,
        swapped=swapped,
    )


def views_of(features: Tensor, batch_size: int) -> Tensor:
    """(n * B, D) view-major features -> (n, B, D); ValueError unless they are a whole number of views."""
    if len(features) % batch_size:
        raise ValueError(f"{len(features)} features are not a whole number of views of a batch of {batch_size}")
    return features.unflatten(0, (-1, batch_size))


def contrastive_losses(images: Tensor, texts: Tensor, scale: Tensor, collectives: Collectives) -> Losses:
    """CLIP's loss over all pairs of (n, b, D) views of images and (m, b, D) views of texts."""
    (columns,) = collectives.columns(images)
    loss = losses_of_pairs([Pairs(columns, texts, scale)], collectives)[0].mean()
    return Losses(total=loss, clip_loss=loss, distill_loss=torch.zeros_like(loss))
