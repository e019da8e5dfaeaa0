"""The teacher: an exponential moving average of the student's parameters."""

import torch
from torch import Tensor, nn

from cosmos_core.fsdp import local_parts

TENSORS_AT_ONCE = 32
"""How many averages are computed beside the present ones, where a device decides which of both stay."""


@torch.no_grad()
def update_ema(teacher: nn.Module, student: nn.Module, momentum: float, only_if: Tensor | None = None) -> None:
    """teacher <- momentum * teacher + (1 - momentum) * student, parameter by parameter, in place.

    Parameters only, including both temperatures; buffers stay. Each element is multiplied and then added to, which
    gives the same bits as a loop over the parameters (`tests/core/test_step.py`) with far fewer kernels on a GPU.

    Args:
        teacher, student: networks of one architecture on one device, both or neither split over ranks.
        momentum: share of the teacher that stays, in [0, 1].
        only_if: a boolean scalar on the networks' device; if it is false there, nothing changes. The host does not
            read it. None: true.

    Raises:
        ValueError: the networks have different numbers of parameters.
    """
    teacher_parameters: list[Tensor] = local_parts(teacher.parameters())
    student_parameters: list[Tensor] = local_parts(student.parameters())
    if len(teacher_parameters) != len(student_parameters):
        raise ValueError(
            f"a teacher of {len(teacher_parameters)} parameters for a student of {len(student_parameters)}"
        )
    if only_if is None:
        torch._foreach_mul_(teacher_parameters, momentum)
        torch._foreach_add_(teacher_parameters, student_parameters, alpha=1 - momentum)
        return
    for start in range(0, len(teacher_parameters), TENSORS_AT_ONCE):
        present = teacher_parameters[start : start + TENSORS_AT_ONCE]
        averaged = torch._foreach_mul(present, momentum)
        torch._foreach_add_(averaged, student_parameters[start : start + TENSORS_AT_ONCE], alpha=1 - momentum)
        for before, after in zip(present, averaged, strict=True):
            torch.where(only_if, after, before, out=before)
