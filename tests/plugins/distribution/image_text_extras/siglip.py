"""An objective with parameters of its own: SigLIP (Zhai et al. 2023), whose temperature and bias are learned."""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from cosmos_core.loss import Losses, logits_of, views_of
from cosmos_core.objectives import Objective, Views


class SigLip(Objective):
    """SigLIP: a sigmoid for every pair of an image and a caption, with a learned temperature and bias."""

    needs_teacher = False
    cross_attention = False
    second_temperature = False

    def __init__(self, world: Any = None, *, init_bias: float = -10.0, init_scale: float = 10.0) -> None:
        super().__init__(world)
        self.bias = nn.Parameter(torch.tensor(init_bias))
        self.log_scale = nn.Parameter(torch.tensor(math.log(init_scale)))

    @classmethod
    def unused(cls, name: str) -> bool:
        return name == "logit_scale" or super().unused(name)

    @classmethod
    def views(cls, images: Any, captions: int) -> Views:
        return Views(replace(images, global_crops=1, local_crops=0), max(captions, 2), kept_captions=1)

    def forward(self, student: Any, teacher: Any, batch_size: int) -> Losses:
        texts = views_of(student.text_features, batch_size)  # (1, b, D)
        (images,) = self.collectives.columns(views_of(student.image_features, batch_size))  # (1, B, D) of all ranks
        logits = (logits_of(texts, images, self.log_scale.exp()) + self.bias)[0, :, 0]  # (b, B)
        signs = -torch.ones_like(logits)
        signs[range(batch_size), range(self.world.rank * batch_size, (self.world.rank + 1) * batch_size)] = 1
        loss = self.collectives.mean(-F.logsigmoid(signs * logits).sum(dim=1).mean())
        return Losses(loss, loss, torch.zeros_like(loss))
