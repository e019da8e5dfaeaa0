"""Gradient accumulation for contrastive losses: a batch that does not fit in memory, with its exact gradients.

The loss of a sample depends on all others, so the losses of parts of a batch do not add up to the loss of the batch.
Gradient caching (Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", RepL4NLP 2021,
arXiv 2101.06983) is exact, since nothing in the networks is random. First, the features of all parts are computed
without keeping activations. Second, the loss of the whole batch gives the gradient with respect to every feature.
Third, each part passes the towers again, and the gradients of its features are propagated through it. Activations take
the memory of one part, at the price of a second forward.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from cosmos_core.batch_sharing import size_of_part
from cosmos_core.loss import Losses
from cosmos_core.model import Features
from cosmos_core.networks import Networks
from cosmos_core.objectives import Objective
from cosmos_core.text_groups import TextGroups

TEMPERATURES = ("logit_scale", "distill_logit_scale")
FEATURES = ("image_features", "text_features", "image_cross_features", "text_cross_features")


@dataclass(frozen=True)
class BatchPart:
    """Samples that pass the towers together."""

    images: list[Tensor]
    """One (b, 3, H, W) tensor for each view."""
    texts: Tensor
    """(n * b, L) token ids, caption-major: every sample's first caption, then every sample's second, ..."""
    size: int
    """b, the number of samples."""
    student_groups: TextGroups | None = None
    """Of the texts, for the student (`Networks.group_texts`)."""
    teacher_groups: TextGroups | None = None


def split_batch(images: Sequence[Tensor], texts: Tensor, parts: int) -> list[BatchPart]:
    """Split a rank's share of a batch into equal parts, in order.

    Args:
        images: one (B, 3, H, W) tensor for each view.
        texts: (B, n, L) token ids.
        parts: number of parts; it divides B.

    Raises:
        RequestError: `parts` does not divide B.
    """
    size = size_of_part(len(texts), parts)
    views = [view.split(size) for view in images]
    return [BatchPart([view[i] for view in views], caption_major(ids), size) for i, ids in enumerate(texts.split(size))]


def caption_major(texts: Tensor) -> Tensor:
    """(B, n, L) -> (n * B, L): every sample's first caption, then every sample's second, ..."""
    return texts.transpose(0, 1).flatten(0, 1)


def join_features(parts: Sequence[Features], size: int) -> Features:
    """Features of the whole batch from those of its parts, (n * size, D) each; all are view-major.

    The result, (n * size * len(parts), D), is detached and has the temperatures of the first part.
    """
    features: dict[str, Tensor] = {}
    for name in FEATURES:
        part_values = [getattr(part, name) for part in parts]
        if part_values[0] is not None:
            views = [x.detach().unflatten(0, (-1, size)) for x in part_values]  # (n, size, D)
            features[name] = torch.cat(views, dim=1).flatten(0, 1)
    return Features(**features, **{name: getattr(parts[0], name).detach() for name in TEMPERATURES})


def part_features(features: Tensor, index: int, parts: int, size: int) -> Tensor:
    """(n * B, D) features of the whole batch -> (n * size, D) features of part `index`; both are view-major."""
    return features.unflatten(0, (-1, parts, size))[:, index].flatten(0, 1)


def backward_in_parts(
    networks: Networks,
    objective: Objective,
    parts: Sequence[BatchPart],
    autocast: Callable[[], AbstractContextManager],
    scale_loss: Callable[[Tensor], Tensor],
) -> tuple[Losses, Features]:
    """Losses and features of the whole batch; adds to the student's gradients what a single pass would add.

    Args:
        networks: the student is called twice for each part, the teacher once.
        objective: called once, so that its collectives happen once in a step.
        parts: of equal size.
        autocast: makes the context of mixed precision. Each pass enters a new one: autocast caches the weights it has
            cast, and those cast under `no_grad` would give the second pass no gradient.
        scale_loss: multiplies a loss before the backward pass (float16's loss scaling).
    """
    size = parts[0].size
    targets = None
    if objective.needs_teacher:
        with autocast():
            targets = join_features(
                [networks.teacher(part.images, part.texts, size, part.teacher_groups) for part in parts], size
            )
    with torch.no_grad(), autocast():
        part_values = [networks.student(part.images, part.texts, size, part.student_groups) for part in parts]
    batch_features = join_features(part_values, size)
    inputs = {name: value.requires_grad_() for name, value in vars(batch_features).items() if value is not None}
    with autocast():
        losses = objective(batch_features, targets, size * len(parts))
    scale_loss(losses.total).backward()

    gradients = {name: value.grad for name, value in inputs.items() if value.grad is not None}
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        with autocast():
            features = networks.student(part.images, part.texts, size, part.student_groups, sync=last)
        part_gradients = {
            name: part_features(gradients[name], index, len(parts), size) for name in FEATURES if name in gradients
        }
        if last:  # temperatures once, in the pass in which DDP synchronises all parameters
            part_gradients |= {name: gradients[name] for name in TEMPERATURES if name in gradients}
        # a tower that is frozen as a whole gives features without a graph
        trained = [name for name in part_gradients if getattr(features, name).requires_grad]
        if trained:
            torch.autograd.backward(
                [getattr(features, name) for name in trained], [part_gradients[name] for name in trained]
            )
    return losses, batch_features
