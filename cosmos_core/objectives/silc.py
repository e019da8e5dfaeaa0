"""SILC (Naeem et al. 2023, arXiv 2310.13355), as in the COSMOS paper's figure: CLIP and image self-distillation."""

from typing import TYPE_CHECKING

from cosmos_core.errors import RequestError
from cosmos_core.loss import GLOBAL_VIEWS, Losses, Pairs, losses_of_pairs, views_of
from cosmos_core.objectives.base import Objective, Views, require_two_global_crops
from cosmos_core.views import MultiCrop

if TYPE_CHECKING:
    from cosmos_core.model import Features


class Silc(Objective):
    """SILC: both global crops against one caption, and all crops of the student against the teacher's global crops.

    The contrastive part reads the first global caption: SILC's images have one text each, and views of texts are what
    COSMOS adds. Both global crops are aligned with it, as SILC's paper asks. Distillation is COSMOS's image half:
    a symmetric InfoNCE without parameters of its own, at the student's `distill_logit_scale`, over all pairs of a
    student's crop, local or global, and a teacher's global crop, the same crop included. SILC's paper instead has
    a DINO head on both networks, with centring and sharpening of the teacher's outputs. Both parts have weight 1.
    """

    needs_teacher = True
    cross_attention = False

    @classmethod
    def views(cls, images: MultiCrop, captions: int) -> Views:
        if not images.local_crops:
            raise RequestError("objective silc distils local crops: set views.local_crops to at least 1")
        return Views(require_two_global_crops("silc", images), max(captions, 2), kept_captions=1)

    def forward(self, student: "Features", teacher: "Features | None", batch_size: int) -> Losses:
        if teacher is None:
            raise ValueError("SILC's loss needs a teacher")
        images, texts = (views_of(x, batch_size) for x in (student.image_features, student.text_features))
        targets = views_of(teacher.image_features.detach(), batch_size)
        columns, target_columns = self.collectives.columns(images[:GLOBAL_VIEWS], targets)
        contrastive = Pairs(columns, texts[:1], student.logit_scale)
        distillation = Pairs(images, target_columns, student.distill_logit_scale)
        clip_loss, distill_loss = (
            pairs.mean() for pairs in losses_of_pairs([contrastive, distillation], self.collectives)
        )
        return Losses(clip_loss + distill_loss, clip_loss, distill_loss, {"img_vs_t_img": distill_loss})
