"""Pretraining: one flat loop, from a configuration to a student, its averaged teacher and their checkpoints."""

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from cosmos_core.agreement import agree_on_settings, agree_on_start
from cosmos_core.collapse import embedding_metrics
from cosmos_core.config import TrainConfig
from cosmos_core.data import Batch, BrokenNotes, Loader, Sample, open_loader
from cosmos_core.data.sources import lone_ends_of
from cosmos_core.errors import RequestError
from cosmos_core.logs import Logs, Pace, brief, read_metrics
from cosmos_core.model import COSMOS
from cosmos_core.networks import build_optimizer
from cosmos_core.prepare import check_sizes, device_of, initial_model, initial_objective, run_length
from cosmos_core.printable import one_line
from cosmos_core.signals import Interrupted, Signals, StoppedWaiting
from cosmos_core.snapshots import LAST, Snapshots
from cosmos_core.step import Run, Stepper
from cosmos_core.tokenizer import build_tokenizer
from cosmos_core.world import World, join_world, leave_world, lost_rank

__all__ = ["Callback", "Run", "Stepper", "TrainResult", "initial_model", "run_length", "train"]


class Reporter(Protocol):
    """Shows how far the training has come; `cosmos_eval.progress.Reporter` is one."""

    def task(self, description: str, total: int, unit: str = "it") -> AbstractContextManager[Any]: ...

    def note(self, line: str) -> None: ...


class Silent:
    """Shows nothing."""

    @contextmanager
    def task(self, description: str, total: int, unit: str = "it") -> Iterator[Any]:
        yield lambda n, text="": None

    def note(self, line: str) -> None:
        pass


class Callback:
    """Something done along the way; it may read the run and evaluate its models, not change them.

    Every rank calls it at the same steps. What it changes on the way (modes, random generators) it puts back.
    """

    def on_start(self, run: Run) -> None:
        """Once, before the first step, or before the next one of a run that goes on."""

    def on_step(self, run: Run) -> None:
        """After each optimizer step."""

    def on_epoch(self, run: Run) -> None:
        """After each pass over the data."""

    def on_end(self, run: Run) -> None:
        """Once, after the last step and its checkpoint; not where a signal stopped the run before.

        A signal that comes now is heard and not acted on: it is the callback that stops early, and the run then ends
        as `Interrupted`.
        """


@dataclass(frozen=True)
class TrainResult:
    """What a training leaves behind. Both models are in eval mode."""

    config: TrainConfig
    student: COSMOS
    teacher: COSMOS
    """The average of the student over the run: the model to evaluate."""
    steps: int
    seconds: float
    """Of the whole run, those before it was stopped and went on among them."""
    metrics: list[dict[str, Any]]
    """One line each `log_every` steps, the first and the last step among them."""
    skipped: dict[str, str]
    """Samples that this rank left out: key and reason, of the first thousand. The log's `skipped` counts all."""
    checkpoint: Path | None


def train(
    config: TrainConfig,
    data: Sequence[Sample] | Iterable[Sample] | None = None,
    *,
    callbacks: Sequence[Callback] = (),
    reporter: Reporter | None = None,
    overwrite: bool = False,
) -> TrainResult:
    """Pretrain a model as `config` says, alone or as one of torchrun's ranks; a run that was stopped goes on.

    On the CPU of one machine with one number of threads and ranks, the same configuration and data give bit-identical
    parameters, however often the run was stopped on the way: initial weights come from the seed, and what is drawn for
    a sample from seed, epoch and its key. On other devices draws are the same, but kernels add in their own order.

    Args:
        data: samples (key, picture, record); None reads what `config.data` names.
        callbacks: called after every step and epoch.
        reporter: shows progress; None is silent.
        overwrite: start anew where `config.out` holds a training; without it an unfinished one with the same settings
            goes on.

    Raises:
        RequestError: no data, no whole batch, a folder with another training or a finished one, or a loss that is not
            finite (checkpoints written before stay).
        Interrupted: a signal asked for a stop; the step in progress was finished and its checkpoint written.
    """
    world = join_world(config.device)
    try:
        result = pretrain(config, data, world, callbacks, reporter or Silent(), overwrite)
    except Interrupted:
        leave_world(world)
        raise
    except RuntimeError as error:
        if world.size == 1 or not lost_rank(error):
            raise
        raise RequestError(
            f"another rank is gone, and its own message says why ({one_line(error)}); the same command goes on from "
            "the newest checkpoint"
        ) from error
    # A rank that fails alone does not leave the group: it would wait for the others, which wait for it.
    leave_world(world)
    return result


def pretrain(
    config: TrainConfig,
    data: Sequence[Sample] | Iterable[Sample] | None,
    world: World,
    callbacks: Sequence[Callback],
    reporter: Reporter,
    overwrite: bool,
) -> TrainResult:
    """`train` in a world that stands."""
    if config.threads:
        torch.set_num_threads(config.threads)
    if not world.is_main:
        reporter = Silent()
    config = config.settled()  # what does not go together is refused before anything is built
    agree_on_settings(config, world)
    device = device_of(config.device, world)
    student = initial_model(config.model, config.seed).to(device).train()
    teacher = copy.deepcopy(student).requires_grad_(False)
    objective = initial_objective(config, world).to(device)
    optimizer = build_optimizer(config, student, objective)
    loader = view_loader(config, student, data, world)
    steps = run_length(config, loader.samples_per_epoch)
    run = Run(config, student, teacher, optimizer, steps, world=world, objective=objective)
    stepper = Stepper(run)

    out = Path(config.out) if config.out else None
    logs = Logs(out, config, world, reporter.note)
    snapshots = Snapshots(out, config, world, reporter.note) if out is not None else None
    with snapshots.locked() if snapshots is not None else nullcontext():
        return train_steps(stepper, loader, logs, snapshots, callbacks, reporter, overwrite)


def train_steps(
    stepper: Stepper,
    loader: Loader,
    logs: Logs,
    snapshots: Snapshots | None,
    callbacks: Sequence[Callback],
    reporter: Reporter,
    overwrite: bool,
) -> TrainResult:
    """The steps of a run whose folder is held, from its newest checkpoint on."""
    run = stepper.run
    config, world, steps = run.config, run.world, run.steps
    found = snapshots.resume(overwrite) if snapshots is not None else None
    position = snapshots.restore(run, found) if snapshots is not None and found is not None else None
    agree_on_start(run, loader, position)
    plan = getattr(loader, "plan", None)
    if plan is not None and world.is_main and (line := lone_ends_of(plan.sources)):
        reporter.note(line)
    before = logs.cut(run.step)
    lines = read_metrics(logs.path) if logs.path is not None and run.step else []
    note_broken = BrokenNotes(reporter.note)
    pace = Pace(stepper.device, seconds=before["seconds"] if before else 0.0)

    with Signals(world) as signals, reporter.task(f"training {config.name}", steps, "step") as advance:
        advance(run.step)
        for callback in callbacks:
            callback.on_start(run)
        asked, gave_up = 0, False
        batches = pace.waits(loader.batches(position))
        try:
            while run.step < steps:
                try:
                    with signals.waiting():
                        batch = next(batches)
                except StoppedWaiting:
                    asked, gave_up = signals.received, True
                    break
                run.metrics = stepper(batch)
                run.step += 1
                run.epoch = batch.epoch + batch.ends_epoch
                run.leave_out(batch.broken)
                note_broken(batch.broken)
                pace.count(config.batch_size)
                position = batch.state
                text = ""
                if run.step % config.log_every == 0 or run.step in (1, steps):
                    lines.append(metrics_line(run, batch, stepper, pace))
                    logs.write(lines[-1])
                    text = brief(lines[-1])
                advance(1, text)

                with pace.paused():
                    for callback in callbacks:
                        callback.on_step(run)
                        if batch.ends_epoch:
                            callback.on_epoch(run)
                    asked = signals.stop() if run.step < steps else 0  # a run that is done needs no stop
                    if asked:
                        break
                    if snapshots is not None and run.step < steps and snapshots.due(run):
                        snapshots.save(run, position)
            # One that gave up waiting for data cannot meet other ranks, which wait in their step: what stands counts.
            if snapshots is not None and not (gave_up and world.size > 1):
                snapshots.save(run, position or {}, last=True)  # already there where a run goes on from its last step
        finally:
            loader.close()
            logs.close()
        checkpoint = snapshots.out / LAST if snapshots is not None else None
        if not asked:
            for callback in callbacks:  # after the checkpoint: an evaluation that is cut off costs no training
                callback.on_end(run)
            asked = signals.stop() if callbacks else 0
    if asked:
        raise Interrupted(asked, run.step, checkpoint, quiet=not world.is_main, finished=run.step == steps)
    seconds = pace.lap()["seconds"]
    networks = run.student.eval(), run.teacher.eval()
    return TrainResult(config, *networks, run.step, seconds, lines, dict(run.skipped), checkpoint)


def view_loader(
    config: TrainConfig, model: COSMOS, data: Sequence[Sample] | Iterable[Sample] | None, world: World | None = None
) -> Loader:
    """The loader of the views that the objective wants.

    Raises:
        RequestError: no data is named, or a view is smaller than the model's patch.
    """
    if data is None and config.data in ("", "toybox"):
        raise RequestError(
            "no training data: set data=SHARDS"
            + (", or hand toybox's records to train(config, data=...)" if config.data else "")
        )
    views = config.wanted_views()
    check_sizes(views.images, model.patch_size, model.image_size)
    return open_loader(config, views, build_tokenizer(model.config["text_cfg"]), data, world or World())


def metrics_line(run: Run, batch: Batch, stepper: Stepper, pace: Pace) -> dict[str, Any]:
    """A line of the log; figures that ranks measure on their own samples are means over them, counts are sums."""
    own = {**embedding_metrics(*stepper.first_views), "skipped": float(batch.left_out)}
    shared = dict(zip(own, run.world.mean(list(own.values())), strict=True))
    shared["skipped"] = round(shared["skipped"] * run.world.size)
    return {"step": run.step, "epoch": batch.epoch, **run.metrics, **shared, **pace.lap()}
