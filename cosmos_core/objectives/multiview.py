"""The contrastive half of COSMOS (arXiv 2412.01814): the image and text views without distillation."""

from typing import TYPE_CHECKING

from cosmos_core.loss import Losses, contrastive_losses, views_of
from cosmos_core.objectives.base import Objective, Views, global_views
from cosmos_core.views import MultiCrop

if TYPE_CHECKING:
    from cosmos_core.model import Features


class MultiView(Objective):
    """The contrastive half of COSMOS: both global crops against all captions of the sample.

    Two rows of the ablation table: with `captions=1` image views are added to CLIP, with all captions text views too.
    Local crops are not made, since COSMOS's contrastive term leaves them out. Global views are drawn as in COSMOS.
    """

    needs_teacher = False
    cross_attention = False
    second_temperature = False

    @classmethod
    def views(cls, images: MultiCrop, captions: int) -> Views:
        # TextCrop draws at least two captions; those kept are the ones that a run with more captions would draw first
        return Views(global_views("multiview", images), max(captions, 2), kept_captions=captions)

    def forward(self, student: "Features", teacher: "Features | None", batch_size: int) -> Losses:
        images, texts = views_of(student.image_features, batch_size), views_of(student.text_features, batch_size)
        return contrastive_losses(images, texts, student.logit_scale, self.collectives)
