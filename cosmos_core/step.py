"""One optimizer step: schedules, forward, backward, teacher average, clipping, AdamW, clamped temperatures."""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from cosmos_core.accumulate import TEMPERATURES, BatchPart, backward_in_parts, split_batch
from cosmos_core.attention_kernels import without_cudnn_attention
from cosmos_core.batch_sharing import size_of_part
from cosmos_core.config import TrainConfig
from cosmos_core.data import Batch
from cosmos_core.devices import describe_device, has_bf16, send
from cosmos_core.ema import update_ema
from cosmos_core.errors import RequestError
from cosmos_core.fsdp import average_scalars, clip_gradients, gradient_norm
from cosmos_core.loss import Losses
from cosmos_core.model import COSMOS, Features
from cosmos_core.networks import Networks, average_gradients
from cosmos_core.objectives import Objective
from cosmos_core.prepare import initial_objective
from cosmos_core.printable import printable
from cosmos_core.schedule import cosine_momentum, lr_schedule
from cosmos_core.true_float32 import true_float32
from cosmos_core.world import World

MAX_LOG_SCALE = math.log(100)
MAX_SKIPPED_IN_A_ROW = 10
MAX_SKIPPED_SAMPLES = 1000
"""Skipped samples that are remembered by name."""


@dataclass
class Run:
    """A training in progress, as callbacks see it."""

    config: TrainConfig
    student: COSMOS
    teacher: COSMOS
    optimizer: torch.optim.Optimizer
    steps: int
    """Length of the whole run."""
    step: int = 0
    """Optimizer steps done, including skipped ones."""
    epoch: int = 0
    """Epochs completed."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Of the last step."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Samples that this rank skipped: key and reason, of the first `MAX_SKIPPED_SAMPLES`; saved in every checkpoint."""
    world: World = field(default_factory=World)
    """The ranks that train together."""
    scaler: torch.amp.GradScaler | None = None
    """Loss scaling of float16; None in other precisions."""
    skipped_steps: int = 0
    """Steps skipped because their loss or gradient was not finite (`non_finite=skip`)."""
    skipped_in_a_row: int = 0
    """How many of the last steps in a row were skipped."""
    objective: Objective | None = None
    """The loss, on the student's device; the optimizer holds its parameters. None: the stepper builds it."""
    init: dict[str, Any] = field(default_factory=dict)
    """What the run started from (`cosmos_core.initial_weights.start_from`); empty: from random weights."""

    def record_skipped(self, broken: Mapping[str, str]) -> None:
        """Remember why samples were skipped, up to `MAX_SKIPPED_SAMPLES`."""
        for key, reason in broken.items():
            if len(self.skipped) >= MAX_SKIPPED_SAMPLES and key not in self.skipped:
                break
            self.skipped[key] = reason


class Stepper:
    """Does one training iteration for each call, over the networks, optimizer and ranks of a run.

    Args:
        run: its networks stay unwrapped; their parameters that the objective does not use are frozen here.

    Raises:
        RequestError: `accumulate` does not divide a rank's share of the batch, or the objective cannot be built.
        ValueError: the optimizer lacks a parameter of the objective, which would never be trained.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        config = run.config
        size_of_part(config.batch_size // run.world.size, config.accumulate)
        self.lr = lr_schedule(
            config.lr_schedule,
            config.lr,
            config.warmup,
            run.steps,
            config.lr_cooldown_steps,
            config.lr_cooldown_power,
            config.lr_cooldown_end,
        )
        self.momentum = (
            (lambda step: config.momentum_teacher)
            if config.fix_momentum
            else cosine_momentum(config.momentum_teacher, 1.0, run.steps)
        )
        self.device = next(run.student.parameters()).device
        if run.objective is None:
            run.objective = initial_objective(config, run.world).to(self.device)
        self.objective: Objective = run.objective
        self.objective_parameters = [parameter for parameter in self.objective.parameters() if parameter.requires_grad]
        """The objective's own trained parameters, such as SigLIP's bias."""
        optimizer_parameters = {id(parameter) for group in run.optimizer.param_groups for parameter in group["params"]}
        if any(id(parameter) not in optimizer_parameters for parameter in self.objective_parameters):
            raise ValueError("the optimizer lacks parameters of the objective: give it to build_optimizer")
        self.networks = Networks(config, run.student, run.teacher, self.objective, run.world)
        self.dtype = amp_dtype(config.precision, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype is torch.float16)
        run.scaler = self.scaler if self.scaler.is_enabled() else None
        self.gradients_checked = False
        self.first_views: tuple[Tensor, Tensor] = (torch.empty(0), torch.empty(0))
        """(B, D) detached features of this rank's first view and first caption of each sample in the last step."""

    def __call__(self, batch: Batch, while_computing: Callable[[], None] | None = None) -> dict[str, float]:
        """Do one iteration and return its metrics.

        `while_computing` is called once the backward pass is launched, before the host waits for its numbers.

        Temperatures are logarithms, from before the step; `grad_norm` is the norm of the whole gradient before
        clipping.
        A step whose loss or gradient is not finite changes neither network nor objective: it stops the run, or is
        skipped where `non_finite` is `skip`. A gradient that overflows only because of float16's loss scaling is
        skipped too but does not count as a failure; if the teacher is averaged before the step, it is averaged all the
        same, as in the original.

        Raises:
            RequestError: the loss or the gradient is not finite, for the tenth time in a row where steps are skipped;
                `accumulate` does not divide the batch; or, on several ranks, a trained parameter gets no gradient.
        """
        run, config = self.run, self.run.config
        lr, momentum = self.lr(run.step), self.momentum(run.step)
        for group in run.optimizer.param_groups:
            group["lr"] = lr * group.get("lr_scale", 1.0)
        run.optimizer.zero_grad(set_to_none=True)

        buffers = [value.clone() for value in self.objective.buffers()]
        losses = self.backward(batch)
        if not self.gradients_checked:
            self.gradients_checked = True
            self.require_gradients()
        average_scalars(run.student, run.world)
        average_gradients(self.objective_parameters, run.world)
        self.scaler.unscale_(run.optimizer)
        trained = [*run.student.parameters(), *self.objective_parameters]
        norm = gradient_norm([p.grad for p in trained if p.grad is not None])
        if while_computing is not None:
            while_computing()
        metrics = {**self.step_metrics(losses, norm), "lr": lr, "momentum": momentum}

        if math.isfinite(metrics["loss"]) and math.isfinite(metrics["grad_norm"]):
            run.skipped_in_a_row = 0
            if config.ema_before_step:
                self.update_averages(momentum)
            if config.grad_clip:
                clip_gradients(trained, config.grad_clip, norm)
            self.scaler.step(run.optimizer)
            if not config.ema_before_step:
                self.update_averages(momentum)
            for model in (run.student, run.teacher):
                clamp_temperatures(model)
        elif self.is_scale_overflow(metrics):
            self.restore_buffers(buffers)
            if config.ema_before_step:  # as in the original, which averages before the scaler looks
                self.update_averages(momentum)
        else:
            self.restore_buffers(buffers)
            self.skip_step(metrics)
        self.scaler.update()
        return {**metrics, "skipped_steps": run.skipped_steps}

    def require_gradients(self) -> None:
        """Check, after the first backward pass, that every trained parameter of the student has a gradient.

        On several ranks DDP waits for all of them: gradients of the same bucket would not be averaged in this step, and
        torch would refuse the next one. In one process it is only a warning.

        Raises:
            RequestError: one has none, on several ranks.
        """
        named = self.run.student.named_parameters()
        idle = [name for name, parameter in named if parameter.requires_grad and parameter.grad is None]
        if idle:
            others = f" and {len(idle) - 1} more" if len(idle) > 1 else ""
            message = (
                f"objective {printable(self.run.config.objective)} gives the student's {idle[0]}{others} no gradient, "
                "which several ranks need: let its classmethod `unused` return True for such a name"
            )
            if self.run.world.size > 1:
                error = RequestError(message)
                error.quiet = not self.run.world.is_main
                raise error
            warnings.warn(message, stacklevel=2)

    def update_averages(self, momentum: float) -> None:
        """Update the moving averages: the teacher, and whatever the objective averages itself."""
        update_ema(self.run.teacher, self.run.student, momentum)
        self.objective.update_average(momentum)

    @torch.no_grad()
    def restore_buffers(self, buffers: Sequence[Tensor]) -> None:
        """Restore the objective's buffers from before a step that is skipped: NaN would stay in them forever."""
        for value, before in zip(self.objective.buffers(), buffers, strict=True):
            value.copy_(before)

    def backward(self, batch: Batch) -> Losses:
        """Compute the losses of a batch and the gradients of student and objective, multiplied by the scaler's scale.

        DDP or FSDP averages the student's gradients over ranks in the backward pass; the objective's are still this
        rank's own.
        """
        images = [send(view, self.device) for view in batch.images]
        parts = split_batch(images, send(batch.texts, self.device), self.run.config.accumulate)
        if self.networks.groups_texts:
            parts = [
                replace(part, student_groups=groups[0], teacher_groups=groups[1])
                for part, on_host in zip(parts, split_batch([], batch.texts, len(parts)), strict=True)
                for groups in [self.networks.group_texts(on_host.texts, part.size)]
            ]
        with self.kernels():
            return self.backward_of_parts(parts, len(batch.texts))

    def backward_of_parts(self, parts: Sequence[BatchPart], size: int) -> Losses:
        """As `backward`, of a batch of `size` samples that is on the device."""
        if len(parts) > 1:
            losses, student = backward_in_parts(self.networks, self.objective, parts, self.autocast, self.scaler.scale)
            self.keep_first_views(student, size)
            return losses
        part = parts[0]
        inputs = (part.images, part.texts, part.size)
        with self.autocast():
            targets = self.networks.teacher(*inputs, part.teacher_groups) if self.objective.needs_teacher else None
            student = self.networks.student(*inputs, part.student_groups)
            losses = self.objective(student, targets, part.size)
        self.scaler.scale(losses.total).backward()
        self.keep_first_views(student, size)
        return losses

    def keep_first_views(self, student: Features, size: int) -> None:
        """Keep the features from which the log's alignment and uniformity are computed."""
        self.first_views = (student.image_features[:size].detach(), student.text_features[:size].detach())

    def autocast(self) -> AbstractContextManager:
        """The context of mixed precision; none in float32."""
        return nullcontext() if self.dtype is None else torch.autocast(self.device.type, self.dtype)

    @contextmanager
    def kernels(self) -> Iterator[None]:
        """The context of a step: no cuDNN attention; in float32 also no TF32, which torch allows on GPUs."""
        with without_cudnn_attention(), true_float32() if self.dtype is None else nullcontext():
            yield

    def step_metrics(self, losses: Losses, norm: Tensor) -> dict[str, float]:
        """The numbers of a step, copied from the device in one transfer: each transfer waits for all kernels."""
        values = {
            "loss": losses.total,
            "clip_loss": losses.clip_loss,
            "distill_loss": losses.distill_loss,
            **{name: getattr(self.run.student, name) for name in TEMPERATURES},
            "grad_norm": norm,
        }
        numbers = torch.stack([value.detach().reshape(()) for value in values.values()]).tolist()
        return dict(zip(values, numbers, strict=True))

    def is_scale_overflow(self, metrics: dict[str, float]) -> bool:
        """Whether only the gradient overflowed, due to the loss scaling; at a scale of 1 or less, scaling cannot be
        why."""
        return self.scaler.is_enabled() and math.isfinite(metrics["loss"]) and self.scaler.get_scale() > 1

    def skip_step(self, metrics: dict[str, float]) -> None:
        """Count a step that failed; RequestError if that ends the run. All ranks decide alike: their metrics are
        equal."""
        run = self.run
        run.skipped_steps += 1
        run.skipped_in_a_row += 1
        skips = run.config.non_finite == "skip"
        if skips and run.skipped_in_a_row < MAX_SKIPPED_IN_A_ROW:
            return
        failed_metric = "grad_norm" if math.isfinite(metrics["loss"]) else "loss"
        description = {"loss": "loss", "grad_norm": "norm of the gradient"}[failed_metric]
        repeated = f", and {MAX_SKIPPED_IN_A_ROW} steps in a row were not finite" if skips else ""
        raise RequestError(
            f"training stopped at step {run.step}: the {description} is {metrics[failed_metric]}{repeated} "
            f"(lr {metrics['lr']:.3g}, logit_scale {math.exp(metrics['logit_scale']):.3g}); lower lr, set grad_clip, "
            "or use precision=fp32"
        )


def amp_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """The type of mixed precision; None for float32, and on a CPU always.

    `auto` is bfloat16 on GPUs that compute in it, else float16, which needs loss scaling.
    """
    if device.type != "cuda" or precision == "fp32":
        return None
    if precision == "auto":
        return torch.bfloat16 if has_bf16(device) else torch.float16
    if precision == "amp_bf16" and not has_bf16(device):
        raise RequestError(f"{describe_device(device)} does not compute in bfloat16; set precision=auto, amp or fp32")
    return torch.bfloat16 if precision == "amp_bf16" else torch.float16


@torch.no_grad()
def clamp_temperatures(model: nn.Module) -> None:
    """Keep both temperatures within [0, ln 100], in the log domain."""
    for name in TEMPERATURES:
        getattr(model, name).clamp_(0, MAX_LOG_SCALE)
