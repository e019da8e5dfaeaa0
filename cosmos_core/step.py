"""One optimizer step: schedules, forward, backward, the gradient's norm, and the update that it allows."""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from cosmos_core.accumulate import TEMPERATURES, BatchPart, backward_in_parts, split_batch
from cosmos_core.attention_kernels import without_cudnn_attention
from cosmos_core.batch_sharing import size_of_part
from cosmos_core.config import TrainConfig
from cosmos_core.data import Batch
from cosmos_core.devices import describe_device, has_bf16, send
from cosmos_core.errors import RequestError
from cosmos_core.fsdp import average_scalars, gradient_norm
from cosmos_core.loss import Losses
from cosmos_core.model import COSMOS, Features
from cosmos_core.networks import Networks, average_gradients
from cosmos_core.objectives import Objective
from cosmos_core.prepare import initial_objective
from cosmos_core.printable import printable
from cosmos_core.schedule import cosine_momentum, lr_schedule
from cosmos_core.step_numbers import StepNumbers
from cosmos_core.true_float32 import true_float32
from cosmos_core.update import Update
from cosmos_core.world import World

METRICS = ("loss", "clip_loss", "distill_loss", *TEMPERATURES, "grad_norm")
"""What the device computes of every step."""
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


@dataclass(frozen=True)
class LaunchedStep:
    """A step whose kernels are launched; `Stepper.finish` reads its numbers."""

    step: int
    """Steps done before it."""
    lr: float
    momentum: float
    numbers: StepNumbers
    norm: Tensor
    """Norm of the whole gradient before clipping, a scalar on the device."""
    buffers: list[Tensor]
    """The objective's, from before the step."""


class Stepper:
    """Does one training iteration for each call, over the networks, optimizer and ranks of a run.

    A call is `launch` and `finish`. If `is_late`, a loop may launch the next step before it finishes this one, so that
    the device never waits for the host.

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
        trained = [*run.student.parameters(), *self.objective_parameters]
        self.update = Update(config, run.student, run.teacher, self.objective, run.optimizer, trained)
        self.networks = Networks(config, run.student, run.teacher, self.objective, run.world)
        self.dtype = amp_dtype(config.precision, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype is torch.float16)
        run.scaler = self.scaler if self.scaler.is_enabled() else None
        self.gradients_checked = False
        self.first_views: tuple[Tensor, Tensor] = (torch.empty(0), torch.empty(0))
        """(B, D) detached features of this rank's first view and first caption of each sample in the last step."""

    @property
    def is_late(self) -> bool:
        """Whether `launch` does the whole step, so that its numbers may be read while the next one computes."""
        return self.update.on_device

    def __call__(self, batch: Batch) -> dict[str, float]:
        """Do one iteration and return its metrics.

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
        return self.finish(self.launch(batch))

    def launch(self, batch: Batch) -> LaunchedStep:
        """Launch one iteration after `run.step` steps: the update too, if the device decides about it (`is_late`)."""
        run = self.run
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
        norm = gradient_norm([p.grad for p in self.update.trained if p.grad is not None])
        scale = self.scaler.scale(torch.ones_like(norm)) if self.scaler.is_enabled() else None
        numbers = self.step_numbers(losses, norm, scale)
        if self.is_late:
            self.update.apply_where_finite(losses.total.detach().reshape(()), norm, momentum, buffers, scale)
            self.scaler.update()
        return LaunchedStep(run.step, lr, momentum, numbers, norm, buffers)

    def finish(self, launched: LaunchedStep) -> dict[str, float]:
        """Read the numbers of a step and return its metrics; makes the update, unless `launch` did.

        Steps are finished in the order in which they were launched, each once.

        Raises:
            RequestError: as when called.
        """
        run = self.run
        values = launched.numbers.read()
        metrics = {name: values[name] for name in METRICS} | {"lr": launched.lr, "momentum": launched.momentum}
        is_finite = math.isfinite(metrics["loss"]) and math.isfinite(metrics["grad_norm"])
        # only the gradient overflowed, due to the loss scaling; at a scale of 1 or less, scaling cannot be why
        overflowed = not is_finite and math.isfinite(metrics["loss"]) and values.get("scale", 0.0) > 1
        if not self.is_late:
            if is_finite:
                self.update.apply(launched.norm, launched.momentum, self.scaler)
            elif overflowed:
                self.update.overflowed(launched.momentum, launched.buffers)
            else:
                self.update.restore_buffers(launched.buffers)
        if is_finite:
            run.skipped_in_a_row = 0
        elif not overflowed:
            self.skip_step(launched.step, metrics)
        if not self.is_late:
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

    def step_numbers(self, losses: Losses, norm: Tensor, scale: Tensor | None) -> StepNumbers:
        """The numbers of a step, among them the temperatures before its update."""
        numbers = StepNumbers()
        values = (losses.total, losses.clip_loss, losses.distill_loss)
        temperatures = [getattr(self.run.student, name) for name in TEMPERATURES]
        named = dict(zip(METRICS, (*values, *temperatures, norm), strict=True))
        numbers.add(named if scale is None else {**named, "scale": scale})
        return numbers

    def skip_step(self, step: int, metrics: dict[str, float]) -> None:
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
            f"training stopped at step {step}: the {description} is {metrics[failed_metric]}{repeated} "
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
