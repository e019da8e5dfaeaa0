"""One training step of COSMOS, written as its formulas: one batch for each view size, no foreach, no optimisation.

The towers are the same modules as ours (open_clip's, with the same parameters), called without optimisations: every
text is encoded with its padding, the final norm is applied to every token, and the tokens for cross-attention are
repeated for every view. `forward="ours"` uses our forward instead, so that only the loss, the EMA and the optimizer
differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from benchmarks.peers.plain_loss import PlainLoss
from cosmos_core.cross_pool import CrossAttentionPool
from cosmos_core.loss import Losses
from cosmos_core.model import COSMOS, Features

LARGEST_LOG_SCALE = 4.605170185988092  # ln 100
FORWARDS = ("plain", "ours")


@dataclass(frozen=True)
class Hyperparameters:
    """Settings of the optimizer and the teacher."""

    lr: float
    weight_decay: float
    betas: tuple[float, float]
    eps: float
    momentum: float


class PlainForward(nn.Module):
    """The training forward of a COSMOS model, with the parameters of that model."""

    def __init__(self, model: COSMOS) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Sequence[Tensor], texts: Tensor, batch_size: int | None = None) -> Features:
        """Return features in view-major order, and cross-modal ones if `batch_size` is given, as `COSMOS.forward`."""
        model = self.model
        pooled_images, image_tokens = self.image_features(images)
        pooled_texts, text_tokens = model.text_tower(texts)
        features = Features(
            image_features=F.normalize(pooled_images, dim=-1),
            text_features=F.normalize(pooled_texts, dim=-1),
            logit_scale=model.logit_scale.exp(),
            distill_logit_scale=model.distill_logit_scale.exp(),
        )
        if batch_size is not None:
            features.image_cross_features = cross_features(
                model.text_attn_cross_pool, pooled_images, model.text_token_mapping(text_tokens[:batch_size])
            )
            features.text_cross_features = cross_features(
                model.visual.attn_cross_pool, pooled_texts, model.image_token_mapping(image_tokens[:batch_size])
            )
        return features

    def image_features(self, images: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return pooled features of all views, and the tokens of the first group.

        Consecutive views of the same size form a group and are encoded together.
        """
        groups: list[list[Tensor]] = []
        for view in images:
            if groups and groups[-1][0].shape[-1] == view.shape[-1]:
                groups[-1].append(view)
            else:
                groups.append([view])
        outputs = [self.model.image_tower(torch.cat(group)) for group in groups]
        return torch.cat([pooled for pooled, _ in outputs]), outputs[0][1]


def cross_features(pool: CrossAttentionPool, features: Tensor, tokens: Tensor) -> Tensor:
    """Return (n * B, D) features after cross-attention to (B, T, D) tokens, which are repeated for every view."""
    views = len(features) // len(tokens)
    attended = pool(features.unsqueeze(1), tokens.repeat(views, 1, 1)).squeeze(1)
    return F.normalize(features + attended, dim=-1)


class PlainStep:
    """Forward, backward, EMA of the teacher, AdamW, clamping: in the original's order, one parameter at a time.

    Args:
        student, teacher: updated in place; the teacher has no gradients.
        loss: has rank and size; with several ranks, the student is wrapped in DistributedDataParallel.
    """

    def __init__(
        self, student: COSMOS, teacher: COSMOS, loss: PlainLoss, hyper: Hyperparameters, forward: str = "plain"
    ) -> None:
        if forward not in FORWARDS:
            raise ValueError(f"forward must be one of {', '.join(FORWARDS)}, got {forward!r}")
        self.student, self.teacher, self.loss, self.hyper = student, teacher, loss, hyper
        self.run_student: nn.Module = PlainForward(student) if forward == "plain" else student
        self.run_teacher: nn.Module = PlainForward(teacher) if forward == "plain" else teacher
        if loss.size > 1:
            self.run_student = DistributedDataParallel(self.run_student)
        decayed: list[nn.Parameter] = []
        not_decayed: list[nn.Parameter] = []
        for name, parameter in student.named_parameters():
            exempt = parameter.ndim < 2 or any(part in name for part in ("bn", "ln", "bias", "logit_scale"))
            (not_decayed if exempt else decayed).append(parameter)
        self.optimizer = torch.optim.AdamW(
            [{"params": not_decayed, "weight_decay": 0.0}, {"params": decayed, "weight_decay": hyper.weight_decay}],
            lr=hyper.lr,
            betas=hyper.betas,
            eps=hyper.eps,
            foreach=False,
            fused=False,
        )

    def __call__(self, images: Sequence[Tensor], texts: Tensor) -> Losses:
        """Take one step on (B, 3, H, W) images, one tensor for each view, global crops first, and (B, n, L) texts."""
        batch_size = len(texts)
        ids = texts.transpose(0, 1).flatten(0, 1)  # caption-major
        self.optimizer.zero_grad()
        with torch.no_grad():
            targets = self.run_teacher(images[:2], ids[: 2 * batch_size])
        losses = self.loss(self.run_student(images, ids, batch_size), targets, batch_size)
        losses.total.backward()
        with torch.no_grad():
            for average, weight in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
                average.mul_(self.hyper.momentum).add_((1 - self.hyper.momentum) * weight)
        self.optimizer.step()
        with torch.no_grad():
            for model in (self.student, self.teacher):
                for name, parameter in model.named_parameters():
                    if name in ("logit_scale", "distill_logit_scale"):
                        parameter.clamp_(0, LARGEST_LOG_SCALE)
        for value in (losses.total, losses.clip_loss, losses.distill_loss):
            value.item()  # a training loop would log them
        return losses
