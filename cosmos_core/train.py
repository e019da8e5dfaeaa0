"""Pretraining: one process, one loop, from a configuration to a student, its averaged teacher and their checkpoint."""

import copy
import json
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from cosmos_core.checkpoint import save_checkpoint
from cosmos_core.config import TrainConfig
from cosmos_core.data import Batch, Sample, Shards, ViewLoader
from cosmos_core.errors import RequestError
from cosmos_core.loss import ContrastiveLoss, CosmosLoss, Losses
from cosmos_core.model import COSMOS
from cosmos_core.schedule import cosine_momentum, lr_schedule, parameter_groups
from cosmos_core.seeds import derive_seed
from cosmos_core.tokenizer import build_tokenizer
from cosmos_core.views import MultiCrop, TextCrop

LARGEST_LOG_SCALE = math.log(100)
TEMPERATURES = ("logit_scale", "distill_logit_scale")


class Reporter(Protocol):
    """Shows how far the training has come; `cosmos_eval.progress.Reporter` is one."""

    def task(self, description: str, total: int, unit: str = "it") -> Any: ...


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
    """Optimizer steps done."""
    epoch: int = 0
    """Epochs completed."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Of the last step."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Samples left out so far: key and reason."""
    scaler: torch.amp.GradScaler | None = None
    """Loss scaling of float16, where it is used."""


class Callback:
    """Something done along the way; it may read the run and evaluate its models, not change them."""

    def on_step(self, run: Run) -> None:
        """After each optimizer step."""

    def on_epoch(self, run: Run) -> None:
        """After each pass over the data."""

    def on_end(self, run: Run) -> None:
        """Once, after the last step and before the last checkpoint."""


@dataclass(frozen=True)
class TrainResult:
    """What a training leaves behind. Both models are in eval mode."""

    config: TrainConfig
    student: COSMOS
    teacher: COSMOS
    """The average of the student over the run: the model to evaluate."""
    steps: int
    seconds: float
    metrics: list[dict[str, float]]
    """One line each `log_every` steps, the first and the last step among them."""
    skipped: dict[str, str]
    checkpoint: Path | None


def train(
    config: TrainConfig,
    data: Sequence[Sample] | Iterable[Sample] | None = None,
    *,
    callbacks: Sequence[Callback] = (),
    reporter: Reporter | None = None,
) -> TrainResult:
    """Pretrain a model as `config` says.

    On the CPU of one machine with one number of threads, the same configuration and data give bit-identical parameters:
    initial weights come from the seed, and what is drawn for a sample from seed, epoch and its key. On other devices
    draws are the same, but kernels add in an order of their own.

    Args:
        data: samples (key, picture, record); None reads the shards that `config.data` names.
        callbacks: called after every step and epoch.
        reporter: shows progress; None is silent.

    Raises:
        RequestError: no data, no whole batch, or a loss that is not finite (checkpoints written before stay).
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    student = initial_model(config.model, config.seed).to(device_of(config.device)).train()
    teacher = copy.deepcopy(student).requires_grad_(False)
    optimizer = torch.optim.AdamW(
        parameter_groups(student, config.weight_decay), lr=config.lr, betas=(config.beta1, config.beta2), eps=config.eps
    )
    loader = view_loader(config, student, data)
    check_sizes(loader.views, student)
    run = Run(config, student, teacher, optimizer, run_length(config, loader.data), skipped=loader.skipped)
    stepper = Stepper(run)
    log: list[dict[str, float]] = []
    out = Path(config.out) if config.out else None
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "metrics.jsonl").write_text("")
    started = time.perf_counter()
    task = reporter.task(f"training {config.name}", run.steps, "step") if reporter else nullcontext(lambda n: None)
    with task as advance:
        for batch in endless(loader, run, callbacks):
            run.metrics = stepper(batch)
            run.step += 1
            advance(1)
            if run.step % config.log_every == 0 or run.step in (1, run.steps):
                seconds = time.perf_counter() - started
                line = {"step": run.step, "epoch": run.epoch, **run.metrics, "seconds": round(seconds, 3)}
                log.append(line)
                if out is not None:
                    with (out / "metrics.jsonl").open("a") as file:
                        file.write(json.dumps(line) + "\n")
            for callback in callbacks:
                callback.on_step(run)
            if out is not None and config.save_every and run.step % config.save_every == 0 and run.step < run.steps:
                write(run, out / "last.pt")
            if run.step == run.steps:
                break
    for callback in callbacks:
        callback.on_end(run)
    seconds = time.perf_counter() - started
    checkpoint = write(run, out / "last.pt") if out is not None else None
    return TrainResult(config, student.eval(), teacher.eval(), run.step, seconds, log, dict(loader.skipped), checkpoint)


def device_of(name: str) -> torch.device:
    """The torch device called `name`; RequestError where this machine has none such."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise RequestError(f"device {name!r} cannot be used here: {str(error).splitlines()[0]}") from error
    return device


def initial_model(config: Any, seed: int) -> COSMOS:
    """A model whose initial weights depend on `seed` alone; torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "weights"))
        return COSMOS.from_config(config)


def view_loader(config: TrainConfig, model: COSMOS, data: Sequence[Sample] | Iterable[Sample] | None) -> ViewLoader:
    """The loader that the objective wants: all views, or for `clip` one global view and one global caption."""
    if data is None:
        if config.data in ("", "toybox"):
            raise RequestError(
                "no training data: set data=SHARDS"
                + (", or hand toybox's records to train(config, data=...)" if config.data else "")
            )
        data = Shards.find(config.data)
    views, kept = config.views, None
    if config.objective == "clip":
        # the second kind of global view is the mild one: the first is always blurred in the published setting
        mild = (config.views.blur[1], config.views.blur[1], 0.0)
        views, kept = replace(config.views, global_crops=1, local_crops=0, blur=mild), 1
    return ViewLoader(
        data=data,
        views=views,
        captions=TextCrop(config.captions, config.caption_mode),
        tokenizer=build_tokenizer(model.config["text_cfg"]),
        batch_size=config.batch_size,
        seed=config.seed,
        kept_captions=kept,
    )


def check_sizes(views: MultiCrop, model: COSMOS) -> None:
    """RequestError where a view is too small to hold one patch of the model."""
    sizes = {"global_size": views.global_size, **({"local_size": views.local_size} if views.local_crops else {})}
    for name, size in sizes.items():
        if size < max(model.patch_size):
            raise RequestError(
                f"views.{name}={size} is below the model's patch of {' x '.join(map(str, model.patch_size))} pixels; "
                f"its pictures are {' x '.join(map(str, model.image_size))}"
            )


def run_length(config: TrainConfig, data: Sequence[Sample] | Iterable[Sample]) -> int:
    """Optimizer steps of the run.

    Raises:
        RequestError: neither the configuration nor the data say how long an epoch is, or it is shorter than a batch.
    """
    if config.steps:
        return config.steps
    samples = config.samples or (len(data) if isinstance(data, Sequence) else 0)
    if samples < config.batch_size:
        raise RequestError(
            f"an epoch has {samples or 'an unknown number of'} samples for a batch_size of {config.batch_size}: "
            "set steps, or samples and epochs"
        )
    return config.epochs * (samples // config.batch_size)


def endless(loader: ViewLoader, run: Run, callbacks: Sequence[Callback]) -> Iterator[Batch]:
    """Batches of one epoch after the other; the consumer ends it."""
    while True:
        yield from loader.epoch(run.epoch)
        run.epoch += 1
        for callback in callbacks:
            callback.on_epoch(run)


class Stepper:
    """One iteration at a time: schedules, forward, backward, teacher average, optimizer step, clamped temperatures."""

    def __init__(self, run: Run) -> None:
        self.run = run
        config = run.config
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
        self.loss: nn.Module = CosmosLoss() if config.objective == "cosmos" else ContrastiveLoss()
        self.device = next(run.student.parameters()).device
        self.dtype = amp_dtype(config.precision, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype is torch.float16)
        run.scaler = self.scaler if self.scaler.is_enabled() else None

    def __call__(self, batch: Batch) -> dict[str, float]:
        """Do one iteration and return what it measured; temperatures are log-domain values from before the step.

        Raises:
            RequestError: the loss is not finite.
        """
        run, config = self.run, self.run.config
        lr, momentum = self.lr(run.step), self.momentum(run.step)
        for group in run.optimizer.param_groups:
            group["lr"] = lr
        scales = {name: getattr(run.student, name).item() for name in TEMPERATURES}

        run.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, self.dtype) if self.dtype is not None else nullcontext():
            losses = self.losses(batch)
        total = losses.total.item()
        if not math.isfinite(total):
            raise RequestError(
                f"training stopped at step {run.step}: the loss is {total} (lr {lr:.3g}, logit_scale "
                f"{math.exp(scales['logit_scale']):.3g}); lower lr, set grad_clip, or use precision=fp32"
            )
        self.scaler.scale(losses.total).backward()
        if config.ema_before_step:
            average(run.teacher, run.student, momentum)
        if config.grad_clip:
            self.scaler.unscale_(run.optimizer)
            nn.utils.clip_grad_norm_(run.student.parameters(), config.grad_clip)
        self.scaler.step(run.optimizer)
        self.scaler.update()
        if not config.ema_before_step:
            average(run.teacher, run.student, momentum)
        for model in (run.student, run.teacher):
            clamp_temperatures(model)
        return {
            "loss": total,
            "clip_loss": losses.clip_loss.item(),
            "distill_loss": losses.distill_loss.item(),
            "lr": lr,
            "momentum": momentum,
            **scales,
        }

    def losses(self, batch: Batch) -> Losses:
        """Forward of student and teacher. The teacher sees the two global crops and the two global captions."""
        run = self.run
        images = [view.to(self.device, non_blocking=True) for view in batch.images]
        texts = caption_major(batch.texts).to(self.device, non_blocking=True)
        size = len(batch.texts)
        if run.config.objective == "clip":
            return self.loss(run.student(images, texts), None, size)
        with torch.no_grad():
            targets = run.teacher(images[:2], texts[: 2 * size])
        return self.loss(run.student(images, texts, size), targets, size)


def caption_major(texts: Tensor) -> Tensor:
    """(B, n, L) -> (n * B, L): every sample's first caption, then every sample's second, ..."""
    return texts.transpose(0, 1).flatten(0, 1)


def amp_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """The type of mixed precision, None for float32: on a CPU always."""
    if device.type != "cuda" or precision == "fp32":
        return None
    return torch.bfloat16 if precision == "amp_bf16" else torch.float16


@torch.no_grad()
def average(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Move the teacher towards the student: parameters only, both temperatures among them; buffers stay."""
    for theirs, ours in zip(teacher.parameters(), student.parameters(), strict=True):
        theirs.mul_(momentum).add_(ours, alpha=1 - momentum)


@torch.no_grad()
def clamp_temperatures(model: nn.Module) -> None:
    """Keep both temperatures within [0, ln 100], in the log domain."""
    for name in TEMPERATURES:
        getattr(model, name).clamp_(0, LARGEST_LOG_SCALE)


def write(run: Run, path: Path) -> Path:
    """Write student, teacher, optimizer and, where losses are scaled, the scaler, whole or not at all."""
    scaler = {} if run.scaler is None else {"scaler": run.scaler.state_dict()}
    save_checkpoint(
        path,
        config=run.student.config,
        student=run.student,
        teacher=run.teacher,
        optimizer=run.optimizer,
        epoch=run.epoch,
        name=run.config.name,
        extra={"step": run.step, "training": run.config.to_dict(), **scaler},
    )
    return path
