"""CLIP (Radford et al. 2021): contrastive on one image and one caption of every sample."""

from dataclasses import replace
from typing import TYPE_CHECKING

from cosmos_core.loss import Losses, contrastive_losses, views_of
from cosmos_core.objectives.base import Objective, Views
from cosmos_core.views import MultiCrop

if TYPE_CHECKING:
    from cosmos_core.model import Features


class Clip(Objective):
    """CLIP: one mild global view against one global caption; the teacher is not used."""

    needs_teacher = False
    cross_attention = False
    second_temperature = False

    @classmethod
    def views(cls, images: MultiCrop, captions: int) -> Views:
        return Views(mild_view(images), max(captions, 2), kept_captions=1)

    def forward(self, student: "Features", teacher: "Features | None", batch_size: int) -> Losses:
        """Losses of one step, of the first image and the first caption; `distill_loss` is zero."""
        images, texts = (views_of(x, batch_size)[:1] for x in (student.image_features, student.text_features))
        return contrastive_losses(images, texts, student.logit_scale, self.collectives)


def mild_view(images: MultiCrop) -> MultiCrop:
    """One global view, with the mild augmentation."""
    # that of the second global view: the first is always blurred in the published settings
    mild = (images.blur[1], images.blur[1], 0.0)
    return replace(images, global_crops=1, local_crops=0, blur=mild)
