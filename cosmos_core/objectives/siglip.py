"""SigLIP (Zhai et al. 2023, arXiv 2303.15343): a sigmoid for every pair of an image and a caption."""

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from cosmos_core.loss import Losses, logits_of, views_of
from cosmos_core.objectives.base import Objective, Views
from cosmos_core.objectives.clip import mild_view
from cosmos_core.views import MultiCrop
from cosmos_core.world import World

if TYPE_CHECKING:
    from cosmos_core.model import Features


class SigLip(Objective):
    """SigLIP: each pair is a match or not, by itself; one mild global view against one caption, without a teacher.

    The paper's algorithm 1, whose temperature is the student's `logit_scale`: it is in the network's checkpoint, and
    is clamped to 100 as for every objective. The bias is the objective's own. The temperature starts where the network
    has it (1 / 0.07 in a new one), which is not the paper's 10.
    """

    needs_teacher = False
    cross_attention = False
    second_temperature = False
    logit_bias = "bias"

    def __init__(self, world: World | None = None, *, init_bias: float = -10.0) -> None:
        super().__init__(world)
        self.bias = nn.Parameter(torch.tensor(init_bias))

    @classmethod
    def views(cls, images: MultiCrop, captions: int) -> Views:
        return Views(mild_view(images), max(captions, 2), kept_captions=1)

    def forward(self, student: "Features", teacher: "Features | None", batch_size: int) -> Losses:
        """Losses of one step, of the first image and the first caption; `distill_loss` is zero.

        The sum over all pairs of the whole batch, divided by its samples. On several ranks a rank has the texts of its
        b samples and the images of all B; no second collective is needed, since pairs do not share a denominator.
        """
        texts = views_of(student.text_features, batch_size)[:1]  # (1, b, D)
        (images,) = self.collectives.columns(views_of(student.image_features, batch_size)[:1])  # (1, B, D)
        logits = logits_of(texts, images, student.logit_scale)[0, :, 0] + self.bias  # (b, B)
        matches = torch.arange(batch_size, device=logits.device) + self.world.rank * batch_size
        signs = 2 * F.one_hot(matches, logits.shape[1]).to(logits.dtype) - 1
        loss = self.collectives.mean(-F.logsigmoid(signs * logits).sum(dim=1).mean())
        return Losses(loss, loss, torch.zeros_like(loss))
