"""COSMOS without its cross-attention: the row of the paper's ablation between text views and the whole method."""

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

    The student's plain features of all views replace the cross-modal ones. Images and captions are still distilled into
    each other across modalities; only the poolers are left out.
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
