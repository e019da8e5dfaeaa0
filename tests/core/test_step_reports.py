"""Steps whose numbers are read late: the files, the messages and what callbacks see are those of a run that waits.

The late runs here are on the CPU, with the fused optimizer that makes a run on CUDA late.
"""

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import distributed as dist
from torch import nn

from cosmos_core import snapshots, train
from cosmos_core.checkpoint import read_file
from cosmos_core.config import TrainConfig
from cosmos_core.errors import RequestError
from cosmos_core.networks import average_gradients
from cosmos_core.progress import Silent
from cosmos_core.signals import Interrupted
from cosmos_core.step import LaunchedStep, Run, Stepper
from cosmos_core.train import Callback, TrainResult, pretrain
from cosmos_core.update import Update
from cosmos_core.world import World, leave_world
from tests.core.test_snapshots import same
from tests.helpers.fork_server import run_ranks
from tests.helpers.tiny_runs import CONFIG, coloured

pytestmark = pytest.mark.usefixtures("one_thread")
LOGGED = replace(CONFIG, steps=5, log_every=1)
MEASURED = ("samples_per_second", "data_wait", "memory", "seconds")


class Loop:
    """A training whose order of events is noted, and in which something may happen when a step is launched."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, late: bool, at: dict[int, Callable[[Run], None]]) -> None:
        self.events: list[str] = []
        launch, finish, save, build = Stepper.launch, Stepper.finish, snapshots.Snapshots.write, train.build_optimizer

        def noted_launch(stepper: Stepper, batch: Any) -> LaunchedStep:
            self.events.append(f"launch {stepper.run.step + 1}")
            at.get(stepper.run.step + 1, lambda run: None)(stepper.run)
            return launch(stepper, batch)

        def noted_finish(stepper: Stepper, launched: LaunchedStep) -> dict[str, float]:
            self.events.append(f"finish {launched.step + 1}")
            return finish(stepper, launched)

        def noted_save(saved: Any, run: Run, *rest: Any) -> str:
            self.events.append(f"save {run.step}")
            return save(saved, run, *rest)

        def fused(*arguments: Any) -> torch.optim.Optimizer:
            optimizer = build(*arguments)
            for group in optimizer.param_groups:
                group["fused"] = True
            return optimizer

        monkeypatch.setattr(Stepper, "launch", noted_launch)
        monkeypatch.setattr(Stepper, "finish", noted_finish)
        monkeypatch.setattr(snapshots.Snapshots, "write", noted_save)
        monkeypatch.setattr(train, "build_optimizer", fused)
        if not late:
            monkeypatch.setattr(Update, "on_device", False)

    def run(self, config: TrainConfig, *callbacks: Callback, world: World | None = None) -> TrainResult:
        return pretrain(config, coloured(8), world or World(), callbacks, Silent(), False)


def lines(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics without what is measured."""
    texts = (folder / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(text).items() if key not in MEASURED} for text in texts]


def outcome(
    config: TrainConfig, late: bool, at: dict[int, Callable[[Run], None]], *callbacks: Callback
) -> tuple[list[str], str, list[dict[str, Any]], dict[str, Any]]:
    """Events, message, lines and checkpoints of a run."""
    folder, message = Path(config.out) / f"late={late}", ""
    with pytest.MonkeyPatch.context() as patch:
        loop = Loop(patch, late, at)
        try:
            loop.run(replace(config, out=str(folder)), *callbacks)
        except (RequestError, Interrupted, ZeroDivisionError) as error:
            message = f"{type(error).__name__}: {error}".replace(str(folder), "OUT")
    files = {path.name: read_file(path) for path in folder.glob("*.pt")}
    for content in files.values():
        del content["training"]["out"]
    return loop.events, message, lines(folder), files


def outcomes(config: TrainConfig, at: dict[int, Callable[[Run], None]], *callbacks: Callback) -> tuple[Any, list[str]]:
    """Message, lines and checkpoints, which are the same whether a run is late or waits, and the late one's events."""
    _, *expected = outcome(config, False, at, *callbacks)
    events, *found = outcome(config, True, at, *callbacks)
    assert found[:2] == expected[:2]
    assert same(found[2], expected[2])
    return found, events


def spoil(run: Run) -> None:
    with torch.no_grad():
        run.student.text_projection.fill_(float("nan"))


def fail(run: Run) -> None:
    raise ZeroDivisionError


def ask_to_stop(run: Run) -> None:
    signal.raise_signal(signal.SIGTERM)


def test_files_are_those_of_a_run_that_waits_and_a_checkpoint_waits_for_the_record_of_its_step(tmp_path: Path):
    found, events = outcomes(replace(LOGGED, out=str(tmp_path), save_every=3), {})
    assert events == [
        *("launch 1", "launch 2", "finish 1", "launch 3", "finish 2", "finish 3", "save 3"),
        *("launch 4", "launch 5", "finish 4", "finish 5", "save 5"),
    ]
    assert [line["step"] for line in found[1]] == [1, 2, 3, 4, 5]
    assert [found[2]["step-00000003.pt"]["step"], found[2]["last.pt"]["step"]] == [3, 5]


@pytest.mark.parametrize("save_every", [3, 4])
def test_a_loss_that_is_not_finite_is_refused_by_its_step_and_no_checkpoint_has_it(tmp_path: Path, save_every: int):
    config = replace(LOGGED, out=str(tmp_path), save_every=save_every)
    (message, found, files), events = outcomes(config, {3: spoil})
    assert message.startswith("RequestError: training stopped at step 2: the loss is nan")
    assert [line["step"] for line in found] == [1, 2]
    assert not files
    assert events[-2:] == (["finish 2", "finish 3"] if save_every == 3 else ["launch 4", "finish 3"])


@pytest.mark.parametrize("spoiled", [False, True])
def test_an_error_in_the_next_step_comes_after_the_record_of_the_one_before(tmp_path: Path, spoiled: bool):
    at = {3: spoil, 4: fail} if spoiled else {4: fail}
    (message, found, _), _ = outcomes(replace(LOGGED, out=str(tmp_path)), at)
    assert message.partition(" ")[0] == ("RequestError:" if spoiled else "ZeroDivisionError:")
    assert [line["step"] for line in found] == [1, 2, 3][: 2 if spoiled else 3]


def test_a_signal_stops_after_the_step_that_was_launched(tmp_path: Path):
    (message, found, files), events = outcomes(replace(LOGGED, out=str(tmp_path)), {3: ask_to_stop})
    assert message.startswith("Interrupted: stopped by SIGTERM after step 3; OUT/last.pt holds it")
    assert len(found) == files["last.pt"]["step"] == 3
    assert events[-2:] == ["finish 3", "save 3"]


class Seldom(Callback):
    """What a callback sees that is due at the third step and at the end of the second epoch, which is the fourth."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def is_due(self, step: int, ends_epoch: bool) -> bool:
        return step == 3 or (ends_epoch and step == 4)

    def note(self, run: Run) -> None:
        self.seen.append([run.step, run.epoch, dict(run.metrics), run.student.text_projection.detach().clone()])

    on_step = on_epoch = note


def test_a_callback_that_is_due_sees_the_run_as_it_is_after_its_step(tmp_path: Path):
    early, late = Seldom(), Seldom()
    config = replace(LOGGED, out=str(tmp_path))
    outcome(config, False, {}, early)
    events, *_ = outcome(config, True, {}, late)
    assert [(step, epoch) for step, epoch, *_ in late.seen] == [(3, 1), (4, 2), (4, 2)]
    assert same(late.seen, early.seen)
    assert events[2:8] == ["finish 1", "launch 3", "finish 2", "finish 3", "launch 4", "finish 4"]


# --- ranks ------------------------------------------------------------------------------------------------------------


def averaged(world: World) -> list[Any]:
    """Gradients after averaging, where the first is on both ranks, the second on one and the third on none."""
    parameters = [nn.Parameter(torch.zeros(2)) for _ in range(3)]
    parameters[0].grad = torch.full((2,), 1.0 + world.rank)
    if world.is_main:
        parameters[1].grad = torch.full((2,), 4.0)
    average_gradients(parameters, world)
    average_gradients(parameters[:1], world)  # nothing lacks a gradient
    return [None if parameter.grad is None else parameter.grad.tolist() for parameter in parameters]


def work(rank: int, size: int, folder: str) -> None:
    torch.set_num_threads(1)
    timeout = timedelta(seconds=300)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=size, timeout=timeout)
    world, found = World(rank, size, rank), {}
    with pytest.MonkeyPatch.context() as patch:
        found["waits"] = lines_of(Loop(patch, False, {}).run(LOGGED, world=world))
    with pytest.MonkeyPatch.context() as patch:  # the second rank is asked to stop
        loop = Loop(patch, True, {3: ask_to_stop} if rank else {})
        with pytest.raises(Interrupted) as stopped:
            loop.run(replace(LOGGED, out=f"{folder}/stopped"), world=world)
        found["stopped"] = [str(stopped.value).partition(";")[0], loop.events]
    with pytest.MonkeyPatch.context() as patch:  # a minute passes on the first rank
        clock = [0.0]
        patch.setattr(snapshots, "time", SimpleNamespace(monotonic=lambda: clock[0]))
        loop = Loop(patch, True, {} if rank else {2: lambda run: clock.append(clock.pop() + 60)})
        result = loop.run(replace(LOGGED, out=f"{folder}/saved", save_minutes=1.0), world=world)
        found["saved"] = [loop.events, lines_of(result)]
    found["averaged"] = averaged(world)
    torch.save(found, f"{folder}/{rank}.pt")
    leave_world(world)


def lines_of(result: TrainResult) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key not in MEASURED} for line in result.metrics]


def test_ranks_stop_and_save_after_the_same_step_which_is_the_one_after_they_were_asked(tmp_path: Path):
    first, second = run_ranks(work, 2, tmp_path)
    without_saves = [event for event in first["saved"][0] if not event.startswith("save")]
    assert without_saves == second["saved"][0]
    assert [event for event in first["saved"][0] if event.startswith("save")] == ["save 3", "save 5"]
    assert first["saved"][0][:8] == [
        *("launch 1", "launch 2", "finish 1", "launch 3", "finish 2", "finish 3", "save 3", "launch 4")
    ]
    assert first["saved"][1] == second["saved"][1] == first["waits"] == second["waits"]
    assert first["stopped"][0] == second["stopped"][0] == "stopped by SIGTERM after step 4"
    assert first["stopped"][1] == [*second["stopped"][1], "save 4"]
    assert first["averaged"] == second["averaged"] == [[1.5, 1.5], [2.0, 2.0], None]
