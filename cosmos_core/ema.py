"""The teacher: an exponential moving average of the student's parameters."""

import torch
from torch import Tensor, nn


@torch.no_grad()
def average(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """teacher <- momentum * teacher + (1 - momentum) * student, parameter by parameter, in place.

    Parameters only, both temperatures among them; buffers stay. Two rounded operations an element, a product and then
    a sum, as a loop over the parameters would do them: the bits are those of that loop (`tests/core/test_step.py`),
    while on a GPU a few kernels do the work of hundreds.

    Args:
        teacher, student: networks of one architecture on one device.
        momentum: share of the teacher that stays, in [0, 1].

    Raises:
        ValueError: the networks have different numbers of parameters.
    """
    theirs: list[Tensor] = list(teacher.parameters())
    ours: list[Tensor] = list(student.parameters())
    if len(theirs) != len(ours):
        raise ValueError(f"a teacher of {len(theirs)} parameters for a student of {len(ours)}")
    torch._foreach_mul_(theirs, momentum)
    torch._foreach_add_(theirs, ours, alpha=1 - momentum)
