"""What a step changes once its loss and gradient are known: networks, moments, averages, temperatures.

If one of both is not finite, nothing changes. A host that decides this must wait for the device, which then has nothing
to do until the next step is launched. CUDA therefore decides itself: each change is launched, and the device makes it
only if both are finite. The same kernels compute what is finite either way. Elsewhere the host decides.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cosmos_core.accumulate import TEMPERATURES
from cosmos_core.config import TrainConfig
from cosmos_core.ema import update_ema
from cosmos_core.fsdp import clip_gradients
from cosmos_core.model import COSMOS
from cosmos_core.objectives import Objective

MAX_LOG_SCALE = math.log(100)


class Update:
    """Applies the gradients of a step, and averages the student into the teacher.

    Args:
        trained: parameters of the student and of the objective that the optimizer changes.
    """

    def __init__(
        self,
        config: TrainConfig,
        student: COSMOS,
        teacher: COSMOS,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        trained: Sequence[nn.Parameter],
    ) -> None:
        self.config, self.student, self.teacher = config, student, teacher
        self.objective, self.optimizer, self.trained = objective, optimizer, trained

    @property
    def on_device(self) -> bool:
        """Whether the device can decide: fused AdamW takes a flag. What an objective averages itself is Python."""
        averages_itself = type(self.objective).update_average is not Objective.update_average
        return not averages_itself and all(group.get("fused") for group in self.optimizer.param_groups)

    def apply(self, norm: Tensor, momentum: float, scaler: torch.amp.GradScaler) -> None:
        """Make all changes: the loss and the gradient, whose norm is `norm`, are finite."""
        if self.config.ema_before_step:
            self.average(momentum)
        if self.config.grad_clip:
            clip_gradients(self.trained, self.config.grad_clip, norm)
        scaler.step(self.optimizer)
        if not self.config.ema_before_step:
            self.average(momentum)
        for network in (self.student, self.teacher):
            clamp_temperatures(network)

    def average(self, momentum: float) -> None:
        """Update the moving averages: the teacher, and whatever the objective averages itself."""
        update_ema(self.teacher, self.student, momentum)
        self.objective.update_average(momentum)

    def overflowed(self, momentum: float, buffers: Sequence[Tensor]) -> None:
        """Make the changes of a step whose gradient overflowed only because of float16's loss scaling."""
        self.restore_buffers(buffers)
        if self.config.ema_before_step:  # as in the original, which averages before the scaler looks
            self.average(momentum)

    @torch.no_grad()
    def restore_buffers(self, buffers: Sequence[Tensor], only_if: Tensor | None = None) -> None:
        """Restore the objective's buffers from before a step that is skipped: NaN would stay in them forever."""
        for value, before in zip(self.objective.buffers(), buffers, strict=True):
            value.copy_(before if only_if is None else torch.where(only_if, before, value))

    @torch.no_grad()
    def apply_where_finite(
        self, loss: Tensor, norm: Tensor, momentum: float, buffers: Sequence[Tensor], scale: Tensor | None
    ) -> None:
        """Let the device make the changes of `apply`, of `overflowed` or none; needs `on_device`.

        Args:
            loss, norm: scalars on the device; the norm is that of the whole, unscaled gradient.
            buffers: the objective's, from before the step.
            scale: the scalar by which float16's losses were multiplied; None in other precisions.
        """
        finite = loss.isfinite() & norm.isfinite()
        if self.config.ema_before_step:
            averages = finite if scale is None else finite | (loss.isfinite() & (scale > 1))
            update_ema(self.teacher, self.student, momentum, only_if=averages)
        if self.config.grad_clip:
            clip_gradients(self.trained, self.config.grad_clip, norm)
        # torch's interface for loss scaling: where it is 1, fused kernels leave parameters and moments as they are
        setattr(self.optimizer, "found_inf", (~finite).float())  # noqa: B010
        try:
            self.optimizer.step()
        finally:
            delattr(self.optimizer, "found_inf")
        if not self.config.ema_before_step:
            update_ema(self.teacher, self.student, momentum, only_if=finite)
        for network in (self.student, self.teacher):
            clamp_temperatures(network, only_if=finite)
        self.restore_buffers(buffers, only_if=~finite)


@torch.no_grad()
def clamp_temperatures(model: nn.Module, only_if: Tensor | None = None) -> None:
    """Keep both temperatures within [0, ln 100], in the log domain; `only_if` as in `cosmos_core.ema.update_ema`."""
    for name in TEMPERATURES:
        value = getattr(model, name)
        if only_if is None:
            value.clamp_(0, MAX_LOG_SCALE)
        else:
            value.copy_(torch.where(only_if, value.clamp(0, MAX_LOG_SCALE), value))
