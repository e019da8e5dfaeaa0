"""Pretraining: one flat loop, from a configuration to a student, its averaged teacher and their checkpoints."""

import copy
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from cosmos_core.compilation import report_compiler_errors
from cosmos_core.config import TrainConfig
from cosmos_core.data import BrokenNotes, Loader, Sample, open_loader
from cosmos_core.data.prefetch import PrefetchedBatches
from cosmos_core.data.sources import describe_lone_end_blocks
from cosmos_core.errors import RequestError, report_dead_worker
from cosmos_core.fsdp import require_fsdp, shard_networks, whole_network
from cosmos_core.initial_weights import LoadInitial, describe_start, require_same_architecture, start_from
from cosmos_core.logs import Logs, SpeedMeter, read_metrics
from cosmos_core.memory_errors import report_out_of_memory
from cosmos_core.model import COSMOS
from cosmos_core.networks import build_optimizer
from cosmos_core.prepare import check_sizes, device_of, initial_model, initial_objective, run_length
from cosmos_core.printable import one_line
from cosmos_core.progress import Reporter, Silent
from cosmos_core.rank_agreement import agree_on_settings, agree_on_start, agree_on_weights
from cosmos_core.rank_errors import describe_nccl_error, is_lost_rank_error, is_nccl_error
from cosmos_core.signals import Interrupted, Signals, StoppedWaiting
from cosmos_core.snapshot_checks import LAST
from cosmos_core.snapshots import Snapshots
from cosmos_core.step import Run, Stepper, amp_dtype
from cosmos_core.step_reports import StepReports
from cosmos_core.tokenizer import build_tokenizer
from cosmos_core.world import World, join_world, leave_world

MEMORY_ADVICE = "lower batch_size, raise accumulate, or set grad_checkpointing=true (on several ranks also fsdp=true)"

__all__ = ["Callback", "Run", "Stepper", "TrainResult", "initial_model", "run_length", "train"]


class Callback:
    """Hooks that a training calls. A callback may read the run and evaluate its models; it must not change them.

    Every rank calls it at the same steps. Modes and random generators that it changes must be restored by it.
    """

    def on_start(self, run: Run) -> None:
        """Once, before the first step of this process, also where a run is resumed."""

    def is_due(self, step: int, ends_epoch: bool) -> bool:
        """Whether `on_step`, and at the end of an epoch `on_epoch`, are called after a step; equal on every rank.

        By default after every step. On CUDA, the next step is launched before this one ends only if no callback is
        due, so one that needs few steps should say so here.

        Args:
            step: number of steps that are then done.
            ends_epoch: whether the step ends a pass over the data.
        """
        return True

    def on_step(self, run: Run) -> None:
        """After each optimizer step that is due."""

    def on_epoch(self, run: Run) -> None:
        """After each pass over the data that is due, after `on_step`."""

    def on_end(self, run: Run) -> None:
        """Once, after the last step and its checkpoint; not if a signal stopped the run before that.

        A signal that arrives during this call is recorded only. A callback that takes long may look for it and return
        early; the run then ends as `Interrupted`.
        """


@dataclass(frozen=True)
class TrainResult:
    """Result of a training. Both models are in eval mode.

    After a training with `fsdp` they are whole, on the CPU, on the first rank only. The others, which would all need
    memory for both, have them without weights, on the meta device; `load_checkpoint(result.checkpoint)` reads them.
    """

    config: TrainConfig
    student: COSMOS
    teacher: COSMOS
    """The average of the student over the run: the model to evaluate."""
    steps: int
    seconds: float
    """Duration of the whole run, including the processes before it was resumed."""
    metrics: list[dict[str, Any]]
    """One line every `log_every` steps, and of the first and the last step."""
    skipped: dict[str, str]
    """Samples that this rank skipped: key and reason of the first thousand. The log's `skipped` counts all."""
    checkpoint: Path | None


def train(
    config: TrainConfig,
    data: Sequence[Sample] | Iterable[Sample] | None = None,
    *,
    callbacks: Sequence[Callback] = (),
    reporter: Reporter | None = None,
    overwrite: bool = False,
    initial: LoadInitial | None = None,
) -> TrainResult:
    """Pretrain a model as `config` says, alone or as one of torchrun's ranks; an unfinished run is resumed.

    On the CPU of one machine, with the same number of threads and ranks, the same configuration and data give
    bit-identical parameters, however often the run was stopped and resumed: initial weights depend on the seed, and the
    views of a sample on seed, epoch and its key. On other devices the draws are the same, but kernels sum in another
    order.

    Args:
        data: samples (key, image, record); None reads what `config.data` names.
        callbacks: called at the start, after every step and epoch, and at the end.
        reporter: shows progress; None is silent.
        overwrite: start from the beginning if `config.out` holds a training; without it an unfinished one with the same
            settings is resumed.
        initial: loads the weights that `config.init` names (`cosmos_eval.training.initial` does); not called where a
            run is resumed. `config.model` has their architecture.

    Raises:
        RequestError: no data, less than one batch, a folder with another training or a finished one, or a loss that is
            not finite (checkpoints written before are kept).
        Interrupted: a signal asked for a stop; the step in progress was finished and its checkpoint written.
    """
    world = join_world(config.device)
    try:
        with report_dead_worker("workers"):
            result = pretrain(config, data, world, callbacks, reporter or Silent(), overwrite, initial)
    except Interrupted:
        leave_world(world)
        raise
    except RuntimeError as error:
        if world.size > 1 and is_nccl_error(error):
            raise RequestError(
                f"{describe_nccl_error(error, world.rank)}; the same command resumes from the newest checkpoint"
            ) from error
        if world.size == 1 or not is_lost_rank_error(error):
            raise
        raise RequestError(
            f"another rank has ended, and its own message says why ({one_line(error)}); the same command resumes from "
            "the newest checkpoint"
        ) from error
    # Not in a `finally`: a rank that fails alone must not leave the group, since it would wait for the other ranks,
    # which wait for it in a collective.
    leave_world(world)
    return result


def pretrain(
    config: TrainConfig,
    data: Sequence[Sample] | Iterable[Sample] | None,
    world: World,
    callbacks: Sequence[Callback],
    reporter: Reporter,
    overwrite: bool,
    initial: LoadInitial | None = None,
) -> TrainResult:
    """`train` in a process group that exists."""
    if config.threads:
        torch.set_num_threads(config.threads)
    if not world.is_main:
        reporter = Silent()
    config = config.resolved()  # settings that contradict each other are refused before anything is built
    require_initial(config, initial)
    agree_on_settings(config, world)
    device = device_of(config.device, world)
    dtype = amp_dtype(config.precision, device)
    require_fsdp(config, world, device, dtype)
    with report_out_of_memory(f"building the model on {device}; free memory there, or take a smaller model"):
        student = initial_model(config.model, config.seed).train()
        if not config.fsdp:
            student.to(device)
        teacher = copy.deepcopy(student).requires_grad_(False)
        if config.fsdp:
            agree_on_weights(student, world)
            shard_networks(student, teacher, world, device, dtype)
        objective = initial_objective(config, world).to(device)
    optimizer = build_optimizer(config, student, objective)
    loader = view_loader(config, student, data, world)
    steps = run_length(config, loader.samples_per_epoch)
    run = Run(config, student, teacher, optimizer, steps, world=world, objective=objective)
    with report_out_of_memory(f"preparing the first step on {device}; free memory there, or take a smaller model"):
        stepper = Stepper(run)  # DDP allocates room for all gradients

    out = Path(config.out) if config.out else None
    logs = Logs(out, config, world, reporter.note)
    snapshots = Snapshots(out, config, world, reporter.note) if out is not None else None
    with snapshots.locked() if snapshots is not None else nullcontext():
        return train_steps(stepper, loader, logs, snapshots, callbacks, reporter, overwrite, initial)


def train_steps(
    stepper: Stepper,
    loader: Loader,
    logs: Logs,
    snapshots: Snapshots | None,
    callbacks: Sequence[Callback],
    reporter: Reporter,
    overwrite: bool,
    initial: LoadInitial | None = None,
) -> TrainResult:
    """The steps of a run, from its newest checkpoint on; the caller holds the lock of the run's folder."""
    run = stepper.run
    config, world, steps = run.config, run.world, run.steps
    checkpoint_path = snapshots.resume(overwrite) if snapshots is not None else None
    # position of every lane of the data (see cosmos_core.data.lanes); None: at the beginning
    with report_out_of_memory(f"restoring {checkpoint_path} on {stepper.device}; free memory there"):
        position = (
            snapshots.restore(run, checkpoint_path) if snapshots is not None and checkpoint_path is not None else None
        )
    if initial is not None and checkpoint_path is None:
        weights = initial()
        require_same_architecture(config.model, weights)
        run.init = start_from((run.student, run.teacher), weights)
        reporter.note(describe_start(run.init))
    if run.config.augment == "auto":
        run.config = replace(config, augment="device" if stepper.device.type == "cuda" else "cpu")
    config = run.config
    loader.change_on_device(config.augment == "device")
    agree_on_start(run, loader, position)
    plan = getattr(loader, "plan", None)
    if plan is not None and world.is_main and (line := describe_lone_end_blocks(plan.sources)):
        reporter.note(line)
    if config.compile:
        reporter.note("compile=true: torch compiles both networks in the first step, which may take minutes")
    last_line = logs.truncate(run.step)
    metrics_lines = read_metrics(logs.path) if logs.path is not None and run.step else []
    speed = SpeedMeter(stepper.device, seconds=last_line["seconds"] if last_line else 0.0)

    with Signals(world) as signals, reporter.task(f"training {config.name}", steps, "step") as advance:
        advance(run.step)
        for callback in callbacks:
            callback.on_start(run)
        stop_signal, stopped_waiting = 0, False
        batches = PrefetchedBatches(speed.count_waiting(loader.batches(position)), stepper.device, signals.waiting)
        reports = StepReports(stepper, logs, speed, metrics_lines, BrokenNotes(reporter.note), advance)
        reports.position = position

        def requests() -> list[bool]:
            """What this rank asks of all: to stop, and to save a checkpoint."""
            return [bool(signals.received), snapshots is not None and snapshots.due_by_time()]

        try:
            while run.step < steps:
                where = f"{run.step + 1} on {stepper.device}; {MEMORY_ADVICE}"
                with reports.before_errors():
                    try:
                        with report_out_of_memory(f"preparing batch {where}"):
                            batch = next(batches)
                    except StoppedWaiting:
                        stop_signal, stopped_waiting = signals.received, True
                        break
                    with report_out_of_memory(f"in step {where}"), report_compiler_errors("set compile=false"):
                        launched = stepper.launch(batch)
                asked = reports.finish()  # the step before, while this one computes
                run.step += 1
                reports.add(batch, launched)
                if run.step < steps and stepper.device.type != "cpu":
                    batches.prepare()
                due = [callback for callback in callbacks if callback.is_due(run.step, batch.ends_epoch)]
                saves = snapshots is not None and snapshots.due(run.step)
                asks = any(asked if world.size > 1 else requests())
                if stepper.is_late and run.step < steps and not (due or saves or asks):
                    reports.read_later(requests())
                    continue
                with report_out_of_memory(f"in step {where}"), report_compiler_errors("set compile=false"):
                    reports.finish()

                with speed.paused():
                    for callback in due:
                        callback.on_step(run)
                        if batch.ends_epoch:
                            callback.on_epoch(run)
                    if run.step == steps:
                        break  # a finished run needs no stop
                    stops, due_by_time = world.any_of(requests()).tolist()
                    if stops:
                        stop_signal = signals.first()
                        break
                    if snapshots is not None and (saves or due_by_time):
                        snapshots.save(run, reports.position or {})
            reports.finish()  # where the wait for data was ended
            # A rank that gave up waiting for data cannot save together with the others, which wait inside their step:
            # the newest checkpoint on disk is then the one to resume from.
            if snapshots is not None and not (stopped_waiting and world.size > 1):
                snapshots.save(run, reports.position or {}, last=True)  # does nothing if this step is saved already
        finally:
            loader.close()
            logs.close()
        checkpoint = snapshots.out / LAST if snapshots is not None else None
        if not stop_signal:
            for callback in callbacks:  # after the checkpoint: an evaluation that is cut off costs no training
                callback.on_end(run)
            stop_signal = signals.stop() if callbacks else 0
    if stop_signal:
        raise Interrupted(stop_signal, run.step, checkpoint, quiet=not world.is_main, finished=run.step == steps)
    seconds = speed.lap()["seconds"]
    student, teacher = (whole_network(each, keep=world.is_main).eval() for each in (run.student, run.teacher))
    return TrainResult(config, student, teacher, run.step, seconds, metrics_lines, dict(run.skipped), checkpoint)


def require_initial(config: TrainConfig, initial: LoadInitial | None) -> None:
    """RequestError unless weights are passed if, and only if, `config.init` names some, with an architecture."""
    if bool(config.init) != (initial is not None):
        problem = "nothing was passed for it" if config.init else "weights were passed"
        raise RequestError(
            f"init={config.init or '(empty)'} and {problem}: use cosmos_eval.training.callback.train_from, or "
            "train(config, initial=...)"
        )
    if not config.model:
        raise RequestError("model is empty: pass the architecture of the initial weights as config.model")


def view_loader(
    config: TrainConfig, model: COSMOS, data: Sequence[Sample] | Iterable[Sample] | None, world: World | None = None
) -> Loader:
    """The loader of the views that the objective needs.

    Raises:
        RequestError: no data is named, or a view is smaller than the model's patch.
    """
    if data is None and config.data in ("", "toybox"):
        raise RequestError(
            "no training data: set data=SHARDS"
            + (", or pass toybox's records to train(config, data=...)" if config.data else "")
        )
    views = config.required_views()
    check_sizes(views.images, model.patch_size, model.image_size)
    return open_loader(config, views, build_tokenizer(model.config["text_cfg"]), data, world or World())
