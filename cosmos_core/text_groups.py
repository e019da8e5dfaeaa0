"""Which texts of a training batch pass the text tower together: groups of similar length, cut behind their longest.

Attention is causal and a text is pooled at its end token, so that padding changes no pooled feature
(`cosmos_core.text_tower`); a training caption is mostly padding. The groups are planned in main memory: for texts that
are on a GPU already the host would have to wait.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from cosmos_core.byte_pairs import PADDING
from cosmos_core.devices import send

GROUPS = 4
"""More would leave out little more padding, and smaller products use a device less well."""
LENGTH_STEP = 8
"""Off the CPU, lengths are multiples of this: kernels are chosen, and memory is kept, for each new length."""


@dataclass(frozen=True)
class TextGroups:
    """The plan for N texts."""

    order: Tensor
    """(N,) int64, on the device of the tower: the texts, the shortest first."""
    places: Tensor
    """(N,) int64, there too: where in that order each text is."""
    counts: tuple[int, ...]
    """Texts of each group."""
    lengths: tuple[int, ...]
    """Tokens that a group's texts are cut to."""


def group_texts(ids: Tensor, device: torch.device) -> TextGroups:
    """Plan groups of (N, L) ids, which are in main memory; the plan is sent to a device without waiting for it."""
    context = ids.shape[1]
    lengths = ((ids != PADDING) * torch.arange(1, context + 1)).amax(dim=1)
    order = lengths.argsort(stable=True)
    groups = [group for group in order.chunk(GROUPS) if len(group)]
    step = 1 if device.type == "cpu" else LENGTH_STEP
    longest = [int(lengths[group[-1]]) for group in groups]
    return TextGroups(
        send(order, device),
        send(order.argsort(), device),
        tuple(map(len, groups)),
        tuple(min(context, -(-length // step) * step) for length in longest),
    )
