"""COSMOS (arXiv 2412.01814): contrastive plus cross-modality self-distillation."""

from typing import TYPE_CHECKING

import torch

from cosmos_core.loss import GLOBAL_VIEWS, Losses, Pairs, losses_of_pairs, views_of
from cosmos_core.objectives.base import Objective, Views, all_views
from cosmos_core.views import MultiCrop

if TYPE_CHECKING:
    from cosmos_core.model import Features


class CosmosLoss(Objective):
    """COSMOS: the sum of a contrastive and a cross-modality self-distillation loss (arXiv 2412.01814).

    Contrastive: the two global crops against all captions; local crops are left out on purpose, local captions are not.
    Distillation: cross-modal features of all the student's views, including local crops, against the teacher's features
    of the global crops and captions, at the student's `distill_logit_scale`; the mean of four terms.

    Args:
        world: the ranks that share the batch; each calls the loss with its own samples, equally many on each.
    """

    contrastive_views = GLOBAL_VIEWS

    @classmethod
    def views(cls, images: MultiCrop, captions: int) -> Views:
        return all_views("cosmos", images, captions)

    def forward(self, student: "Features", teacher: "Features | None", batch_size: int) -> Losses:
        """Losses of one step.

        Args:
            student: the training forward's features, cross-modal ones included.
            teacher: features of the global crops and captions; no gradient flows into them.
            batch_size: b, the samples of this rank.

        Raises:
            ValueError: cross-modal features or the teacher's are absent, or features are not a whole number of views.
            RequestError: ranks have different numbers of samples or views.
        """
        if teacher is None or student.image_cross_features is None or student.text_cross_features is None:
            raise ValueError("COSMOS's loss needs a teacher and the student's cross-modal features")
        images = views_of(student.image_features, batch_size)[: self.contrastive_views]
        texts = views_of(student.text_features, batch_size)
        cross_features = [views_of(x, batch_size) for x in (student.image_cross_features, student.text_cross_features)]
        targets = [views_of(x.detach(), batch_size) for x in (teacher.image_features, teacher.text_features)]

        columns, *target_columns = self.collectives.columns(images, *targets)
        contrastive = Pairs(columns, texts, student.logit_scale)
        distillation = Pairs(torch.cat(cross_features), torch.cat(target_columns), student.distill_logit_scale)
        clip_pairs, pairs = losses_of_pairs([contrastive, distillation], self.collectives)
        clip_loss = clip_pairs.mean()
        # `pairs` is (student views, teacher views): cut it into four blocks, images or captions of the student by
        # images or captions of the teacher.
        pairs_by_student = pairs.split([len(x) for x in cross_features])
        blocks = [block for row in pairs_by_student for block in row.split([len(x) for x in targets], dim=1)]
        names = ("img_cross_vs_t_img", "img_cross_vs_t_txt", "txt_cross_vs_t_img", "txt_cross_vs_t_txt")
        terms = {name: block.mean() for name, block in zip(names, blocks, strict=True)}
        distill_loss = torch.stack(list(terms.values())).mean()
        return Losses(
            total=distill_loss + clip_loss, clip_loss=clip_loss, distill_loss=distill_loss, distill_terms=terms
        )
