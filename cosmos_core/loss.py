"""The objectives: contrastive, and COSMOS's contrastive plus cross-modality self-distillation.

Every pair of views contributes the symmetric InfoNCE loss (CLIP, Radford et al. 2021). All pairs of a term come from
one matrix product; `tests/oracles/cosmos_loss.py` is the same with a loop over the pairs.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from cosmos_core.model import Features


@dataclass
class Losses:
    """Scalars of one step; `total` is what is minimised."""

    total: Tensor
    clip_loss: Tensor
    distill_loss: Tensor
    distill_terms: dict[str, Tensor] = field(default_factory=dict)
    """The four terms whose mean is `distill_loss`: student's cross-modal features against the teacher's features."""


def pair_losses(ours: Tensor, theirs: Tensor, scale: Tensor) -> Tensor:
    """Symmetric contrastive loss of every pair of views; the match of a row is the row of the same sample.

    Args:
        ours: (n, B, D) unit rows.
        theirs: (m, B, D) unit rows.
        scale: scalar that multiplies the similarities.

    Returns:
        (n, m) means over the batch of the cross-entropy of both directions, halved.
    """
    n, batch, width = ours.shape
    m = len(theirs)
    # In float32 whatever the towers run in: at a scale of 100, bfloat16 would round the logits to halves.
    dtype = torch.promote_types(torch.promote_types(ours.dtype, theirs.dtype), torch.float32)
    ours, theirs = ours.reshape(-1, width).to(dtype), theirs.reshape(-1, width).to(dtype)
    with torch.autocast(ours.device.type, enabled=False):
        logits = ((scale * ours) @ theirs.T).reshape(n, batch, m, batch)
    matches = logits.diagonal(dim1=1, dim2=3)  # (n, m, B)
    forward = logits.logsumexp(dim=3).mean(dim=1)  # (n, m)
    backward = logits.logsumexp(dim=1).mean(dim=2)
    return (forward + backward) / 2 - matches.mean(dim=2)


def views_of(features: Tensor, batch_size: int) -> Tensor:
    """(n * B, D) view-major rows -> (n, B, D); ValueError where the rows are no whole number of views."""
    if len(features) % batch_size:
        raise ValueError(f"{len(features)} rows are no whole number of views of a batch of {batch_size}")
    return features.unflatten(0, (-1, batch_size))


class ContrastiveLoss(nn.Module):
    """CLIP's objective on the first picture and the first caption of every sample; the teacher is not used."""

    def forward(self, student: Features, teacher: Features | None, batch_size: int) -> Losses:
        """Losses of one step; `distill_loss` is zero."""
        images, texts = (views_of(x, batch_size)[:1] for x in (student.image_features, student.text_features))
        loss = pair_losses(images, texts, student.logit_scale).mean()
        return Losses(total=loss, clip_loss=loss, distill_loss=torch.zeros_like(loss))


class CosmosLoss(nn.Module):
    """COSMOS's objective: the sum of a contrastive and a cross-modality self-distillation loss (arXiv 2412.01814).

    Contrastive: the two global crops against all captions; local crops are left out on purpose, local captions are not.
    Distillation: cross-modal features of all the student's views, local crops included, against the teacher's features
    of the global crops and captions, at the student's own `distill_logit_scale`; the mean of four terms.
    """

    contrastive_views = 2

    def forward(self, student: Features, teacher: Features | None, batch_size: int) -> Losses:
        """Losses of one step.

        Args:
            student: the training forward's features, cross-modal ones included.
            teacher: features of the global crops and captions; no gradient flows into them.
            batch_size: B.

        Raises:
            ValueError: cross-modal features or the teacher's are absent, or rows are no whole number of views.
        """
        if teacher is None or student.image_cross_features is None or student.text_cross_features is None:
            raise ValueError("COSMOS's loss needs a teacher and the student's cross-modal features")
        images = views_of(student.image_features, batch_size)[: self.contrastive_views]
        clip_loss = pair_losses(images, views_of(student.text_features, batch_size), student.logit_scale).mean()

        crosses = [views_of(x, batch_size) for x in (student.image_cross_features, student.text_cross_features)]
        targets = [views_of(x.detach(), batch_size) for x in (teacher.image_features, teacher.text_features)]
        pairs = pair_losses(torch.cat(crosses), torch.cat(targets), student.distill_logit_scale)
        # blocks of the (views, teacher views) table: pictures or captions of the student, of the teacher
        rows = pairs.split([len(x) for x in crosses])
        blocks = [block for row in rows for block in row.split([len(x) for x in targets], dim=1)]
        names = ("img_cross_vs_t_img", "img_cross_vs_t_txt", "txt_cross_vs_t_img", "txt_cross_vs_t_txt")
        terms = {name: block.mean() for name, block in zip(names, blocks, strict=True)}
        distill_loss = torch.stack(list(terms.values())).mean()
        return Losses(
            total=distill_loss + clip_loss, clip_loss=clip_loss, distill_loss=distill_loss, distill_terms=terms
        )
