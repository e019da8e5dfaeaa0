"""One optimizer step: schedules, forward, backward, teacher average, clipping, AdamW, clamped temperatures."""

import math
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from cosmos_core.accumulate import TEMPERATURES, backward_in_parts, part_size, parts_of
from cosmos_core.config import TrainConfig
from cosmos_core.data import Batch
from cosmos_core.ema import average
from cosmos_core.errors import RequestError
from cosmos_core.loss import Losses
from cosmos_core.model import COSMOS, Features
from cosmos_core.networks import Networks, average_gradients
from cosmos_core.objectives import Objective
from cosmos_core.prepare import initial_objective
from cosmos_core.printable import printable
from cosmos_core.schedule import cosine_momentum, lr_schedule
from cosmos_core.world import World

LARGEST_LOG_SCALE = math.log(100)
MOST_SKIPPED_IN_A_ROW = 10
MOST_NAMED = 1000


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
    """Optimizer steps done, skipped ones among them."""
    epoch: int = 0
    """Epochs completed."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Of the last step."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Samples that this rank left out: key and reason, of the first `MOST_NAMED`; every checkpoint carries them."""
    world: World = field(default_factory=World)
    """The ranks that train together."""
    scaler: torch.amp.GradScaler | None = None
    """Loss scaling of float16, where it is used."""
    skipped_steps: int = 0
    """Steps left out since their loss or gradient was not finite (`non_finite=skip`)."""
    skipped_in_a_row: int = 0
    """How many of them were the last ones."""
    objective: Objective | None = None
    """What is minimised, on the student's device; the optimizer holds its parameters. None: the stepper builds one."""

    def leave_out(self, broken: Mapping[str, str]) -> None:
        """Remember why samples were left out, as long as there is room."""
        for key, reason in broken.items():
            if len(self.skipped) >= MOST_NAMED and key not in self.skipped:
                break
            self.skipped[key] = reason


class Stepper:
    """One iteration at a time, over the networks, optimizer and ranks of a run.

    Args:
        run: its networks stay the plain modules; parameters that the objective does not use are frozen here.

    Raises:
        RequestError: `accumulate` does not divide a rank's share of the batch, or the objective cannot be built.
        ValueError: the optimizer lacks a parameter of the objective, which would never be trained.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        config = run.config
        part_size(config.batch_size // run.world.size, config.accumulate)
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
        self.own = [parameter for parameter in self.objective.parameters() if parameter.requires_grad]
        """Parameters of the objective that are trained."""
        held = {id(parameter) for group in run.optimizer.param_groups for parameter in group["params"]}
        if any(id(parameter) not in held for parameter in self.own):
            raise ValueError("the optimizer lacks parameters of the objective: give it to build_optimizer")
        self.networks = Networks(config, run.student, run.teacher, self.objective, run.world)
        self.dtype = amp_dtype(config.precision, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype is torch.float16)
        run.scaler = self.scaler if self.scaler.is_enabled() else None
        self.looked_at_gradients = False
        self.first_views: tuple[Tensor, Tensor] = (torch.empty(0), torch.empty(0))
        """(B, D) features of this rank's first pictures and first captions in the last step, without history."""

    def __call__(self, batch: Batch) -> dict[str, float]:
        """Do one iteration and return what it measured.

        Temperatures are log-domain values from before the step; `grad_norm` is that of the whole gradient before it is
        clipped. A step whose loss or gradient is not finite changes neither network nor objective: it stops the run, or
        is left out where `non_finite` is `skip`. A gradient that only float16's scaling made overflow is left out too,
        but is no failure; a teacher average that precedes the step is done all the same, as in the original.

        Raises:
            RequestError: the loss or the gradient is not finite, for the tenth time in a row where steps are skipped;
                `accumulate` does not divide the batch; or the objective leaves a parameter idle that ranks wait for.
        """
        run, config = self.run, self.run.config
        lr, momentum = self.lr(run.step), self.momentum(run.step)
        for group in run.optimizer.param_groups:
            group["lr"] = lr
        run.optimizer.zero_grad(set_to_none=True)

        buffers = [value.clone() for value in self.objective.buffers()]
        losses = self.backward(batch)
        if not self.looked_at_gradients:
            self.looked_at_gradients = True
            self.refuse_idle_parameters()
        average_gradients(self.own, run.world)
        self.scaler.unscale_(run.optimizer)
        trained = [*run.student.parameters(), *self.own]
        norm = nn.utils.get_total_norm([p.grad for p in trained if p.grad is not None])
        metrics = {**self.measured(losses, norm), "lr": lr, "momentum": momentum}

        if math.isfinite(metrics["loss"]) and math.isfinite(metrics["grad_norm"]):
            run.skipped_in_a_row = 0
            if config.ema_before_step:
                self.average(momentum)
            if config.grad_clip:
                nn.utils.clip_grads_with_norm_(trained, config.grad_clip, norm)
            self.scaler.step(run.optimizer)
            if not config.ema_before_step:
                self.average(momentum)
            for model in (run.student, run.teacher):
                clamp_temperatures(model)
        elif self.a_smaller_scale_will_do(metrics):
            self.put_back(buffers)
            if config.ema_before_step:  # as in the original, whose average comes before the scaler's verdict
                self.average(momentum)
        else:
            self.put_back(buffers)
            self.leave_out(metrics)
        self.scaler.update()
        return {**metrics, "skipped_steps": run.skipped_steps}

    def refuse_idle_parameters(self) -> None:
        """Look once whether every parameter of the student that is trained has a gradient.

        On several ranks DDP waits for all of them: gradients of their neighbours would not be averaged in this step,
        and torch would refuse the next one. In one process nothing depends on it, and it is a warning.

        Raises:
            RequestError: one has none, on several ranks.
        """
        named = self.run.student.named_parameters()
        idle = [name for name, one in named if one.requires_grad and one.grad is None]
        if idle:
            more = f" and {len(idle) - 1} more" if len(idle) > 1 else ""
            line = (
                f"objective {printable(self.run.config.objective)} gives the student's {idle[0]}{more} no gradient, "
                "which several ranks need: let its classmethod `unused` return True for such a name"
            )
            if self.run.world.size > 1:
                error = RequestError(line)
                error.quiet = not self.run.world.is_main
                raise error
            warnings.warn(line, stacklevel=2)

    def average(self, momentum: float) -> None:
        """Move the teacher, and what the objective averages of its own, towards what is trained."""
        average(self.run.teacher, self.run.student, momentum)
        self.objective.update_average(momentum)

    @torch.no_grad()
    def put_back(self, buffers: Sequence[Tensor]) -> None:
        """The objective's buffers as they were before a step that is left out: NaN would stay in them for ever."""
        for value, before in zip(self.objective.buffers(), buffers, strict=True):
            value.copy_(before)

    def backward(self, batch: Batch) -> Losses:
        """Losses of a batch, whose gradients, times the scaler's scale, are the `.grad` of student and objective; the
        objective's are this rank's, not averaged yet."""
        images = [view.to(self.device, non_blocking=True) for view in batch.images]
        parts = parts_of(images, batch.texts.to(self.device, non_blocking=True), self.run.config.accumulate)
        if len(parts) > 1:
            losses, student = backward_in_parts(self.networks, self.objective, parts, self.autocast, self.scaler.scale)
            self.keep_first_views(student, len(batch.texts))
            return losses
        inputs = (parts[0].images, parts[0].texts, parts[0].size)
        with self.autocast():
            targets = self.networks.teacher(*inputs) if self.objective.needs_teacher else None
            student = self.networks.student(*inputs)
            losses = self.objective(student, targets, parts[0].size)
        self.scaler.scale(losses.total).backward()
        self.keep_first_views(student, len(batch.texts))
        return losses

    def keep_first_views(self, student: Features, size: int) -> None:
        """For whoever watches the embeddings."""
        self.first_views = (student.image_features[:size].detach(), student.text_features[:size].detach())

    def autocast(self) -> AbstractContextManager:
        """The context of mixed precision; none in float32."""
        return nullcontext() if self.dtype is None else torch.autocast(self.device.type, self.dtype)

    def measured(self, losses: Losses, norm: Tensor) -> dict[str, float]:
        """What this side reads of a step; it leaves the device in one transfer, for each one waits for all kernels."""
        values = {
            "loss": losses.total,
            "clip_loss": losses.clip_loss,
            "distill_loss": losses.distill_loss,
            **{name: getattr(self.run.student, name) for name in TEMPERATURES},
            "grad_norm": norm,
        }
        numbers = torch.stack([value.detach().reshape(()) for value in values.values()]).tolist()
        return dict(zip(values, numbers, strict=True))

    def a_smaller_scale_will_do(self, metrics: dict[str, float]) -> bool:
        """Whether only the gradient overflowed, and by the scaling: below a scale of 1 it is the gradient itself."""
        return self.scaler.is_enabled() and math.isfinite(metrics["loss"]) and self.scaler.get_scale() > 1

    def leave_out(self, metrics: dict[str, float]) -> None:
        """Count a step that failed; RequestError where that ends the run. Every rank has the same numbers."""
        run = self.run
        run.skipped_steps += 1
        run.skipped_in_a_row += 1
        skips = run.config.non_finite == "skip"
        if skips and run.skipped_in_a_row < MOST_SKIPPED_IN_A_ROW:
            return
        failed = "grad_norm" if math.isfinite(metrics["loss"]) else "loss"
        what = {"loss": "loss", "grad_norm": "norm of the gradient"}[failed]
        again = f", and {MOST_SKIPPED_IN_A_ROW} steps in a row were not finite" if skips else ""
        raise RequestError(
            f"training stopped at step {run.step}: the {what} is {metrics[failed]}{again} (lr {metrics['lr']:.3g}, "
            f"logit_scale {math.exp(metrics['logit_scale']):.3g}); lower lr, set grad_clip, or use precision=fp32"
        )


def amp_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """The type of mixed precision, None for float32: on a CPU always.

    `auto` takes bfloat16 from a card that computes in it, and float16, which needs its loss scaled, from an older one.
    """
    if device.type != "cuda" or precision == "fp32":
        return None
    if precision == "auto":
        computes = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if computes else torch.float16
    return torch.bfloat16 if precision == "amp_bf16" else torch.float16


@torch.no_grad()
def clamp_temperatures(model: nn.Module) -> None:
    """Keep both temperatures within [0, ln 100], in the log domain."""
    for name in TEMPERATURES:
        getattr(model, name).clamp_(0, LARGEST_LOG_SCALE)
