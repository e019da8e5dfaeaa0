"""COSMOS's objective (arXiv 2412.01814), written as its formulas: a loop over pairs of views.

The loss of a pair is CLIP's symmetric cross-entropy (Radford et al. 2021). With several processes, each pair gathers
the features of all ranks, with one all-gather for each side, by one of three methods:

- `without_gradient`: as in the published training scripts. Every rank computes the loss of the whole batch, but only
its
  own features carry a gradient. So the mean over ranks is 1/size of the true gradient, except for the two temperatures.
- `with_gradient`: the same, with gradients through the all-gathers.
- `local`: with gradients through the all-gathers; a rank computes the loss of its own features only.
"""

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.nn.functional import all_gather
from torch.nn import functional as F

from cosmos_core.loss import Losses
from cosmos_core.model import Features

GATHERS = ("without_gradient", "with_gradient", "local")
GLOBAL_CROPS = 2


class PlainLoss(nn.Module):
    """The objective on one rank.

    Args:
        rank, size: of this process in the default process group.
        gather: one of `GATHERS`; has no effect with one process.
    """

    def __init__(self, rank: int = 0, size: int = 1, gather: str = "without_gradient") -> None:
        super().__init__()
        if gather not in GATHERS:
            raise ValueError(f"gather must be one of {', '.join(GATHERS)}, got {gather!r}")
        self.rank, self.size, self.gather = rank, size, gather
        self.labels: dict[int, Tensor] = {}

    def forward(self, student: Features, teacher: Features, batch_size: int) -> Losses:
        """Return the losses of unit features in view-major order, with shapes as in `cosmos_core.CosmosLoss`.

        `batch_size` is that of this rank.
        """
        assert student.image_cross_features is not None
        assert student.text_cross_features is not None
        images = student.image_features.split(batch_size)
        texts = student.text_features.split(batch_size)
        image_crosses = student.image_cross_features.split(batch_size)
        text_crosses = student.text_cross_features.split(batch_size)
        teacher_images = teacher.image_features.detach().split(batch_size)
        teacher_texts = teacher.text_features.detach().split(batch_size)

        temperature = student.distill_logit_scale
        terms = {
            "img_cross_vs_t_img": self.mean_over_pairs(image_crosses, teacher_images, temperature),
            "img_cross_vs_t_txt": self.mean_over_pairs(image_crosses, teacher_texts, temperature),
            "txt_cross_vs_t_img": self.mean_over_pairs(text_crosses, teacher_images, temperature),
            "txt_cross_vs_t_txt": self.mean_over_pairs(text_crosses, teacher_texts, temperature),
        }
        distill_loss = sum(terms.values(), torch.zeros(())) / len(terms)
        clip_loss = self.mean_over_pairs(images[:GLOBAL_CROPS], texts, student.logit_scale)
        return Losses(
            total=distill_loss + clip_loss, clip_loss=clip_loss, distill_loss=distill_loss, distill_terms=terms
        )

    def mean_over_pairs(self, firsts: tuple[Tensor, ...], seconds: tuple[Tensor, ...], scale: Tensor) -> Tensor:
        """Return the mean loss over all pairs of a view of `firsts` and a view of `seconds`, each (B, D)."""
        total, pairs = torch.zeros(()), 0
        for a in firsts:
            for b in seconds:
                total = total + self.pair(a, b, scale)
                pairs += 1
        return total / pairs

    def pair(self, first: Tensor, second: Tensor, scale: Tensor) -> Tensor:
        """Return the symmetric cross-entropy of (B, D) and (B, D) features, where row i matches row i."""
        all_first, all_second = self.of_all_ranks(first), self.of_all_ranks(second)
        if self.gather == "local" and self.size > 1:
            forward = scale * first @ all_second.T
            backward = scale * second @ all_first.T
            labels = self.labels_of(len(first)) + self.rank * len(first)
        else:
            forward = scale * all_first @ all_second.T
            backward = forward.T
            labels = self.labels_of(len(all_first))
        return (F.cross_entropy(forward, labels) + F.cross_entropy(backward, labels)) / 2

    def of_all_ranks(self, features: Tensor) -> Tensor:
        """Gather (B, D) features of every rank to (size * B, D), in the order of ranks."""
        if self.size == 1:
            return features
        if self.gather == "without_gradient":
            gathered = [torch.zeros_like(features) for _ in range(self.size)]
            dist.all_gather(gathered, features.detach().contiguous())
            gathered[self.rank] = features  # the only part that carries a gradient
            return torch.cat(gathered)
        return torch.cat(all_gather(features))

    def labels_of(self, count: int) -> Tensor:
        """Return 0 .. count - 1, created once."""
        if count not in self.labels:
            self.labels[count] = torch.arange(count)
        return self.labels[count]
