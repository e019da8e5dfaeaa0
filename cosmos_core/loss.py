"""What objectives are made of: contrastive losses over all pairs of views, on any ranks.

Every pair of views contributes the symmetric InfoNCE loss (CLIP, Radford et al. 2021). All pairs of a term come from
one matrix product; `tests/oracles/cosmos_loss.py` is the same with a loop over the pairs.

On several ranks the rows of every product are this rank's b samples, the columns all ranks' B = world * b samples. Only
the side with few views is gathered: the student's two global crops and the teacher's features, in one collective.
Logits of n by m views are (n * b) x (m * B): memory grows with the batch times the local batch, by n * m. What a column
needs of the other ranks' rows is one number for each pair of views and sample, in a second collective that carries the
loss too, so that all ranks report the loss of the whole batch. The mean over ranks of the gradients, which DDP forms,
is the gradient of one process with the whole batch. (Gathering without gradients, as the published scripts do, gives
1 / world of that, except for both temperatures, which get all of it; that is not offered.)
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
    """Scalars of one step, of the whole batch on every rank; `total` is what is minimised."""

    total: Tensor
    """Its gradient is that of this rank's samples: the mean over ranks is the gradient of the whole batch."""
    clip_loss: Tensor
    distill_loss: Tensor
    """What is added to the contrastive loss of pictures and texts: distillation, or SLIP's self-supervision."""
    distill_terms: dict[str, Tensor] = field(default_factory=dict)
    """What `distill_loss` is the mean of; for COSMOS the student's cross-modal features against the teacher's."""


class Pairs(NamedTuple):
    """All pairs of a view of one side and a view of the other; the match of a row is the row of the same sample.

    On several ranks one side, either, has been through `Collectives.columns` and holds the samples of all ranks.
    """

    ours: Tensor
    """(n, b, D) unit rows, or (n, B, D)."""
    theirs: Tensor
    """(m, b, D) unit rows, or (m, B, D)."""
    scale: Tensor
    """Scalar that multiplies the similarities."""


def pair_losses(ours: Tensor, theirs: Tensor, scale: Tensor) -> Tensor:
    """Symmetric contrastive loss of every pair of views; the match of a row is the row of the same sample.

    Args:
        ours: (n, B, D) unit rows.
        theirs: (m, B, D) unit rows.
        scale: scalar that multiplies the similarities.

    Returns:
        (n, m) means over the batch of the cross-entropy of both directions, halved.
    """
    logits = logits_of(ours, theirs, scale)  # (n, B, m, B)
    matches = logits.diagonal(dim1=1, dim2=3)  # (n, m, B)
    forward = logits.logsumexp(dim=3).mean(dim=1)  # (n, m)
    backward = logits.logsumexp(dim=1).mean(dim=2)
    return (forward + backward) / 2 - matches.mean(dim=2)


def logits_of(ours: Tensor, theirs: Tensor, scale: Tensor) -> Tensor:
    """(n, b, D) and (m, B, D) rows -> (n, b, m, B) scaled similarities, in float32 at least."""
    n, b, width = ours.shape
    m, batch, _ = theirs.shape
    # In float32 whatever the towers run in: at a scale of 100, bfloat16 would round the logits to halves.
    dtype = torch.promote_types(torch.promote_types(ours.dtype, theirs.dtype), torch.float32)
    ours, theirs = ours.reshape(-1, width).to(dtype), theirs.reshape(-1, width).to(dtype)
    with torch.autocast(ours.device.type, enabled=False):
        return ((scale * ours) @ theirs.T).reshape(n, b, m, batch)


def losses_of_pairs(terms: Sequence[Pairs], collectives: Collectives) -> list[Tensor]:
    """`pair_losses` of every term over the samples of all ranks, in one collective for all terms.

    Returns:
        (n, m) for each term: values of the whole batch, equal on all ranks, also where they are not finite; gradients
        through this rank's rows and the gathered columns, such that their mean over ranks is the whole batch's.
    """
    if collectives.world.size == 1:
        return [pair_losses(*pairs) for pairs in terms]
    parts = [local_part(*pairs, collectives.world.rank) for pairs in terms]
    packed = [x.flatten() for part in parts for x in (part.own.double(), part.exponents())]
    sums = iter(collectives.sum(torch.cat(packed)).split([len(x) for x in packed]))
    return [part.losses(next(sums), next(sums)) for part in parts]


@dataclass
class LocalPart:
    """What this rank's rows contribute to the pairs of one term; r views in rows, c in columns."""

    own: Tensor
    """(r, c) sums over this rank's rows: halves of their logarithms of summed exponentials, less the matches."""
    columns: Tensor
    """(r, c, B) logarithms of the exponentials' sums over this rank's rows, for every column."""
    largest: Tensor
    """Scalar that no logit exceeds."""
    samples: int
    """b, of this rank."""
    swapped: bool
    """Whether the term's first side is in the columns."""

    def exponents(self) -> Tensor:
        """(r, c, B) of `columns`, to be summed over ranks. In float64: below 1 by up to twice the largest logit's
        exponential, so that scales up to 300 cannot underflow; temperatures are clamped to 100."""
        return (self.columns.detach().double() - self.largest).exp()

    def losses(self, own: Tensor, exponents: Tensor) -> Tensor:
        """The (n, m) losses from what was summed over all ranks, as flat float64 rows."""
        totals = exponents.view(self.columns.shape).log() + self.largest  # (r, c, B)
        value = (own.view(self.own.shape) + totals.sum(dim=2) / 2) / totals.shape[2]
        # d log(sum of exp) of a whole column by this rank's part of it, which is all that this rank can propagate
        share = (self.columns.detach() - totals).exp().to(self.columns.dtype)
        # samples / world is what the mean over ranks takes out again
        carrier = (self.own + (share * self.columns).sum(dim=2) / 2) / self.samples
        losses = value.to(carrier.dtype) + (carrier - carrier.detach())
        return losses.T if self.swapped else losses


def local_part(ours: Tensor, theirs: Tensor, scale: Tensor, rank: int) -> LocalPart:
    """This rank's rows against all columns; the side with more samples is in the columns."""
    swapped = ours.shape[1] > theirs.shape[1]
    rows, columns = (theirs, ours) if swapped else (ours, theirs)
    b = rows.shape[1]
    logits = logits_of(rows, columns, scale)  # (r, b, c, B)
    matches = logits[..., rank * b : (rank + 1) * b].diagonal(dim1=1, dim2=3)  # (r, c, b)
    return LocalPart(
        own=logits.logsumexp(dim=3).sum(dim=1) / 2 - matches.sum(dim=2),
        columns=logits.logsumexp(dim=1),
        largest=scale.detach().double().abs(),
        samples=b,
        swapped=swapped,
    )


def views_of(features: Tensor, batch_size: int) -> Tensor:
    """(n * B, D) view-major rows -> (n, B, D); ValueError where the rows are no whole number of views."""
    if len(features) % batch_size:
        raise ValueError(f"{len(features)} rows are no whole number of views of a batch of {batch_size}")
    return features.unflatten(0, (-1, batch_size))


def contrastive_losses(images: Tensor, texts: Tensor, scale: Tensor, collectives: Collectives) -> Losses:
    """CLIP's loss over all pairs of (n, b, D) views of pictures and (m, b, D) views of texts."""
    (columns,) = collectives.columns(images)
    loss = losses_of_pairs([Pairs(columns, texts, scale)], collectives)[0].mean()
    return Losses(total=loss, clip_loss=loss, distill_loss=torch.zeros_like(loss))
