"""SLIP (Mu et al. 2022, arXiv 2112.12750), as in the COSMOS paper's figure: contrastive on sets of two
augmentations."""

from typing import TYPE_CHECKING

from cosmos_core.loss import GLOBAL_VIEWS, Losses, Pairs, losses_of_pairs, views_of
from cosmos_core.objectives.base import Objective, Views, global_views
from cosmos_core.views import MultiCrop

if TYPE_CHECKING:
    from cosmos_core.model import Features


class Slip(Objective):
    """SLIP: both global crops against both global captions, plus the two global crops against each other.

    The first part runs at `logit_scale`. The second, SLIP's self-supervision between two augmentations of an image,
    is reported as `distill_loss` and runs at `distill_logit_scale`, a learned temperature that nothing else uses; both
    have weight 1. Departures from SLIP's own paper: its self-supervision has a projection head of three layers, a fixed
    temperature of 0.1, and the other images of the same view among its negatives; its image-text part reads a third,
    weakly augmented view and one caption. None of this is in the COSMOS paper's figure, and none of it is here.
    """

    needs_teacher = False
    cross_attention = False

    @classmethod
    def views(cls, images: MultiCrop, captions: int) -> Views:
        return Views(global_views("slip", images), max(captions, 2), kept_captions=2)

    def forward(self, student: "Features", teacher: "Features | None", batch_size: int) -> Losses:
        images, texts = (
            views_of(features, batch_size)[:GLOBAL_VIEWS]
            for features in (student.image_features, student.text_features)
        )
        (columns,) = self.collectives.columns(images)
        image_text = Pairs(columns, texts, student.logit_scale)
        image_image = Pairs(images[:1], columns[1:], student.distill_logit_scale)
        clip_loss, image_loss = (pairs.mean() for pairs in losses_of_pairs([image_text, image_image], self.collectives))
        return Losses(clip_loss + image_loss, clip_loss, image_loss, {"img_vs_img": image_loss})
