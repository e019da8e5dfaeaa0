"""Objectives of a plug-in in tests: SigLIP with its learned bias and temperature, and one with a projection head."""

import copy
import math
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cosmos_core.ema import update_ema
from cosmos_core.loss import Losses, logits_of, views_of
from cosmos_core.model import Features
from cosmos_core.objectives.base import Objective, Views
from cosmos_core.views import MultiCrop
from cosmos_core.world import World

NAME = "learned-bias"
"""Of the distribution."""


def put_distribution(folder: Path, entries: str, version: str = "1.0", name: str = NAME) -> Path:
    """The metadata of an installed distribution in a folder for `sys.path`."""
    information = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (information / "entry_points.txt").write_text(f"[cosmos_core.objectives]\n{entries}\n")
    return folder


class SigLip(Objective):
    """SigLIP (Zhai et al. 2023): a sigmoid for every pair, with a temperature and a bias that are learned."""

    needs_teacher = False
    cross_attention = False
    second_temperature = False

    def __init__(self, world: World | None = None, *, init_bias: float = -10.0, init_scale: float = 10.0) -> None:
        super().__init__(world)
        self.bias = nn.Parameter(torch.tensor(init_bias))
        self.log_scale = nn.Parameter(torch.tensor(math.log(init_scale)))
        self.register_buffer("samples", torch.zeros((), dtype=torch.long))

    @classmethod
    def unused(cls, name: str) -> bool:
        return name == "logit_scale" or super().unused(name)

    @classmethod
    def views(cls, images: MultiCrop, captions: int) -> Views:
        return Views(replace(images, global_crops=1, local_crops=0), max(captions, 2), kept_captions=1)

    def forward(self, student: Features, teacher: Features | None, batch_size: int) -> Losses:
        texts = views_of(student.text_features, batch_size)  # (1, b, D)
        (images,) = self.collectives.columns(views_of(student.image_features, batch_size))  # (1, B, D)
        logits = (logits_of(texts, images, self.log_scale.exp()) + self.bias)[0, :, 0]  # (b, B)
        signs = -torch.ones_like(logits)
        signs[range(batch_size), range(self.world.rank * batch_size, (self.world.rank + 1) * batch_size)] = 1
        loss = self.collectives.mean(-F.logsigmoid(signs * logits).sum(dim=1).mean())
        self.samples += logits.shape[1]
        return Losses(loss, loss, torch.zeros_like(loss))


class WiderSigLip(SigLip):
    """What another version of the plug-in has: a bias for each direction."""

    def __init__(self, world: World | None = None, *, init_bias: float = -10.0, init_scale: float = 10.0) -> None:
        super().__init__(world, init_scale=init_scale)
        self.bias = nn.Parameter(torch.full((2,), init_bias))


class Projected(SigLip):
    """SigLIP behind a projection head, and a loss against the averaged head of the averaged teacher."""

    needs_teacher = True

    def __init__(self, world: World | None = None, *, width: int) -> None:
        super().__init__(world)
        self.head = nn.Linear(width, width)
        self.teacher_head = copy.deepcopy(self.head).requires_grad_(False)

    @classmethod
    def views(cls, images: MultiCrop, captions: int) -> Views:
        return Views(replace(images, local_crops=0), captions, kept_captions=2)

    def forward(self, student: Features, teacher: Features | None, batch_size: int) -> Losses:
        assert teacher is not None
        ours, theirs = self.head(student.image_features), self.teacher_head(teacher.image_features)
        apart: Tensor = self.collectives.mean((ours - theirs.detach()).square().sum(dim=1).mean())
        one = Features(
            student.image_features[:batch_size], student.text_features[:batch_size], *[student.logit_scale] * 2
        )
        losses = super().forward(one, None, batch_size)
        return Losses(losses.total + apart, losses.clip_loss, apart)

    def update_average(self, momentum: float) -> None:
        update_ema(self.teacher_head, self.head, momentum)


class Forgetful(SigLip):
    """Which does not say that the student's temperature gets no gradient."""

    @classmethod
    def unused(cls, name: str) -> bool:
        return Objective.unused.__func__(cls, name)  # type: ignore[attr-defined]


class InstanceViews(SigLip):
    """Whose views cannot be asked of the class."""

    def views(self, images: MultiCrop, captions: int) -> Views:  # type: ignore[override]
        return Views(images, captions)
