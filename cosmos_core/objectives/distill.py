"""COSMOS without its cross-attention: the step of the paper's ablation between text views and the whole."""

from dataclasses import replace
from typing import TYPE_CHECKING

from cosmos_core.loss import Losses
from cosmos_core.objectives.base import Views, all_views
from cosmos_core.objectives.cosmos import CosmosLoss
from cosmos_core.views import MultiCrop

if TYPE_CHECKING:
    from cosmos_core.model import Features


class Distill(CosmosLoss):
    """COSMOS without its cross-attention.

    The student's plain features of all views stand for the cross-modal ones in both losses.
    Images and captions are distilled into each other across modalities too; only the poolers are left out.
    """

    cross_attention = False

    @classmethod
    def views(cls, images: MultiCrop, captions: int) -> Views:
        return all_views("distill", images, captions)

    def forward(self, student: "Features", teacher: "Features | None", batch_size: int) -> Losses:
        plain = replace(student, image_cross_features=student.image_features, text_cross_features=student.text_features)
        losses = super().forward(plain, teacher, batch_size)
        terms = {name.replace("_cross", ""): term for name, term in losses.distill_terms.items()}
        return replace(losses, distill_terms=terms)
