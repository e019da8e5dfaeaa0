"""Evaluation while training: it changes no bit of the training, repeats nothing that stands, and never stops a run."""

import json
import os
import random
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cosmos_core.checkpoint import load_checkpoint
from cosmos_core.config import TrainConfig
from cosmos_core.errors import RequestError
from cosmos_core.signals import Interrupted, Signals
from cosmos_core.step import Run
from cosmos_core.train import Callback, initial_model, pretrain, train
from cosmos_core.world import World
from cosmos_eval import evaluate
from cosmos_eval.models.cosmos import CosmosModel
from cosmos_eval.progress import Silent
from cosmos_eval.report.evaluations import Evaluations, read_evaluations
from cosmos_eval.results.store import read_results
from cosmos_eval.training.callback import train_from
from cosmos_eval.training.evaluator import EvaluateEvery, evaluation_mode
from tests.core.gloo_ranks import on_ranks
from tests.helpers.tiny_runs import CONFIG, TINY, StopAfter, coloured, same_weights
from tests.helpers.worlds import captions_world, classes_world

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def no_images(request, monkeypatch):
    """Drawing takes longer than these trainings do; one test draws."""
    if "curve" not in request.node.name:
        monkeypatch.setattr("cosmos_eval.report.curves.write_curve", lambda lines, folder: [])


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("world")
    captions_world(root)
    classes_world(root)
    return root


def configured(world: Path, out: Path | None = None, **changes: Any) -> TrainConfig:
    suite = f"{world / 'pairs.yaml'}, {world / 'classes.yaml'}"
    return replace(CONFIG, out=str(out or ""), eval_every=2, eval_suite=suite, eval_data_root=str(world), **changes)


class Notes(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)


class Mode(Callback):
    """Notes the networks' modes and the global generators after each step."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_step(self, run: Run) -> None:
        modes = [module.training for network in (run.student, run.teacher) for module in network.modules()]
        self.seen.append((modes, random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()))


def figures(metrics: list[dict[str, float]]) -> list[dict[str, float]]:
    """What a step computed, without what a clock told."""
    kept = ("step", "epoch", "loss", "clip_loss", "distill_loss", "lr", "momentum", "logit_scale")
    return [{key: value for key, value in line.items() if key in kept} for line in metrics]


def test_the_training_is_the_same_to_the_bit_with_and_without_evaluation(world, tmp_path):
    config = configured(world, tmp_path, eval_networks="both")
    after, alone = Mode(), Mode()
    watched = train(config, coloured(8), callbacks=[EvaluateEvery(config), after])
    plain = train(replace(config, out="", eval_every=0), coloured(8), callbacks=[alone])
    assert same_weights(watched.student, plain.student)
    assert same_weights(watched.teacher, plain.teacher)
    assert figures(watched.metrics) == figures(plain.metrics)
    assert after.seen == alone.seen


def test_every_evaluation_leaves_lines_results_and_the_curve(world, tmp_path):
    config = configured(world, tmp_path, steps=3, eval_networks="both")
    notes = Notes()
    trained = train(config, coloured(8), callbacks=[EvaluateEvery(config, notes)])
    lines = read_evaluations(tmp_path / "evaluations.jsonl")
    steps = (2, 3)  # every second one, and the end
    assert [(line["step"], line["network"], line["benchmark"]) for line in lines] == [
        (step, network, benchmark)
        for step in steps
        for network in ("teacher", "student")
        for benchmark in ("pairs", "classes")
    ]
    for line in lines:
        folder = tmp_path / "evaluations" / f"step-{line['step']:08d}-{line['network']}"
        (result,) = [one for one in read_results(folder) if one.benchmark.name == line["benchmark"]]
        assert {name: (m.value, m.low, m.high) for name, m in result.metrics.items()} == {
            name: (m["value"], m["low"], m["high"]) for name, m in line["metrics"].items()
        }
    assert (tmp_path / "evaluations" / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert "| 3" in (tmp_path / "evaluations" / "curve.md").read_text()
    assert len(notes.lines) == len(steps) * 2
    assert notes.lines[0].startswith("step 2, teacher: pairs I→T R@1 ")
    # the networks in memory are measured as the command measures the checkpoint that they are written to
    for network in ("teacher", "student"):
        again = evaluate(f"cosmos:{trained.checkpoint}#{network}", [world / "pairs.yaml"], world)
        last = next(one for one in lines if (one["step"], one["network"]) == (3, network))
        assert again[0].model.digest == last["digest"]
        assert again[0].metrics["text_to_image_recall@1"].value == last["metrics"]["text_to_image_recall@1"]["value"]


def test_a_limit_is_marked_in_the_line_and_the_note(world, tmp_path):
    config = configured(world, tmp_path, steps=2, eval_limit=3)
    notes = Notes()
    train(config, coloured(8), callbacks=[EvaluateEvery(config, notes)])
    assert {line["limit"] for line in read_evaluations(tmp_path / "evaluations.jsonl")} == {3}
    assert "pairs (first 3) I→T R@1 " in notes.lines[0]


def test_missing_data_refuses_before_the_first_step(world, tmp_path):
    config = configured(world, tmp_path / "run")
    (tmp_path / "pairs.yaml").write_text((world / "pairs.yaml").read_text())
    elsewhere = replace(config, eval_suite=str(tmp_path / "pairs.yaml"), eval_data_root=str(tmp_path), data="toybox")
    for bad, why in (
        (elsewhere, "captions.json.*eval_data_root"),
        (replace(config, eval_suite="toybx", data="toybox"), "toybx"),
        (replace(config, eval_suite=" , ", data="toybox"), "eval_suite is empty"),
    ):
        with pytest.raises(RequestError, match=why) as caught:
            train_from(bad)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def in_progress(config: TrainConfig, step: int, seed: int = 0) -> Run:
    student = initial_model(TINY, seed).train()
    return Run(
        config, student, initial_model(TINY, seed + 1), torch.optim.SGD(student.parameters()), config.steps, step=step
    )


def test_a_run_that_goes_on_repeats_nothing_that_stands(world, tmp_path, monkeypatch):
    config = configured(world, tmp_path)
    first = EvaluateEvery(config)
    for step in (1, 2, 3, 4):
        first.on_step(in_progress(config, step, seed=step))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("RESULT.json")}
    assert len(before) == 4

    def never(*args: Any, **options: Any) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr("cosmos_eval.run.session.tasks.run", never)
    resumed = EvaluateEvery(config)  # from the checkpoint of step 3
    resumed.on_step(in_progress(config, 4, seed=4))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("RESULT.json")} == before
    assert [line["step"] for line in resumed.lines] == [2, 2, 4, 4]


def test_other_weights_at_a_step_replace_what_stood_there(world, tmp_path):
    config = configured(world, tmp_path)
    EvaluateEvery(config).on_step(in_progress(config, 4, seed=4))
    (line, _) = read_evaluations(tmp_path / "evaluations.jsonl")
    EvaluateEvery(config).on_step(in_progress(config, 4, seed=40))
    lines = read_evaluations(tmp_path / "evaluations.jsonl")
    assert [one["step"] for one in lines] == [4, 4]
    assert line["digest"] not in {one["digest"] for one in lines}
    assert len(list((tmp_path / "evaluations" / "step-00000004-teacher").iterdir())) == 1


def test_a_run_that_starts_anew_leaves_nothing_of_the_one_before(world, tmp_path):
    config = configured(world, tmp_path)
    EvaluateEvery(config).on_step(in_progress(config, 4))
    fresh = EvaluateEvery(config)
    fresh.on_step(in_progress(config, 1))
    assert read_evaluations(tmp_path / "evaluations.jsonl") == []
    assert list((tmp_path / "evaluations").glob("step-*")) == []


def test_a_start_from_a_step_whose_evaluation_was_given_up_makes_it_first(world, tmp_path):
    config = configured(world, tmp_path)
    evaluation = EvaluateEvery(config)
    evaluation.on_start(in_progress(config, 0))
    assert evaluation.lines == []
    evaluation.on_start(in_progress(config, 2, seed=2))  # goes on, and step 2 has no line
    assert [line["step"] for line in evaluation.lines] == [2, 2]
    evaluation.measured = -1
    evaluation.on_start(in_progress(config, 2, seed=2))
    assert evaluation.measured == -1  # it stands


def test_an_evaluation_that_fails_is_noted_and_the_training_goes_on(tmp_path):
    world = tmp_path / "world"
    world.mkdir()
    captions_world(world)
    classes_world(world)
    config = configured(world, tmp_path / "run", steps=4)
    notes = Notes()
    evaluation = EvaluateEvery(config, notes)
    shutil.rmtree(world / "pairs" / "images")
    assert train(config, coloured(8), callbacks=[evaluation]).steps == 4
    assert [line.split("(")[0] for line in notes.lines] == ["step 2: evaluation failed ", "step 4: evaluation failed "]
    assert all("\n" not in line for line in notes.lines)


def test_an_evaluation_that_runs_out_of_memory_costs_no_training(world, tmp_path, monkeypatch):
    def full(*arguments: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 3 GiB")

    monkeypatch.setattr("cosmos_eval.training.evaluator.measure_step", full)
    config = configured(world, tmp_path, steps=3)
    notes = Notes()
    assert train(config, coloured(8), callbacks=[EvaluateEvery(config, notes)]).steps == 3
    said = "evaluation failed (CUDA out of memory. Tried to allocate 3 GiB); the training continues"
    assert notes.lines == [f"step 2: {said}", f"step 3: {said}"]


def test_a_signal_ends_the_evaluation_and_not_the_training(world, tmp_path):
    config = configured(world, tmp_path)
    notes = Notes()

    class Arrives(Notes):
        """A signal comes while images are encoded."""

        def task(self, description: str, total: int, unit: str = "it") -> Any:
            signal.raise_signal(signal.SIGUSR1)
            return super().task(description, total, unit)

    with Signals(World()) as signals:
        evaluation = EvaluateEvery(config, arrives := Arrives())
        evaluation.on_step(in_progress(config, 2))
        assert signals.received == signal.SIGUSR1
        assert arrives.lines == ["step 2: the evaluation was stopped, since the run was asked to stop"]
        EvaluateEvery(config, notes).on_end(in_progress(config, 3))
        assert notes.lines == ["step 3: the evaluation was stopped, since the run was asked to stop"]
    assert evaluation.lines == []
    resumed = EvaluateEvery(config, notes)
    resumed.on_start(in_progress(config, 2))
    assert [line["step"] for line in resumed.lines] == [2, 2]


@pytest.mark.parametrize("stopped", [3, 4])
def test_a_run_that_was_stopped_and_goes_on_has_every_line_once_and_the_same_weights(world, tmp_path, stopped):
    config = configured(world, tmp_path)
    # asked before the evaluation of step 4, which is then made when the run goes on
    with pytest.raises(Interrupted):
        train(config, coloured(8), callbacks=[StopAfter(stopped, signal.SIGUSR1), EvaluateEvery(config)])
    assert [line["step"] for line in read_evaluations(tmp_path / "evaluations.jsonl")] == [2, 2]
    stood = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("RESULT.json")}
    resumed = train(config, coloured(8), callbacks=[EvaluateEvery(config)])
    lines = read_evaluations(tmp_path / "evaluations.jsonl")
    assert [line["step"] for line in lines] == [2, 2, 4, 4, 6, 6]
    assert {path: path.stat().st_mtime_ns for path in stood} == stood
    plain = train(replace(config, out="", eval_every=0), coloured(8))
    assert same_weights(resumed.teacher, plain.teacher)
    assert same_weights(resumed.student, plain.student)


def trained_on_ranks(ranks: World, world: str, out: str, fsdp: bool) -> dict[str, Any]:
    """Parameters of a training with evaluation and of one without; the first rank alone has the data."""
    os.environ["RANK"], os.environ["WORLD_SIZE"] = str(ranks.rank), str(ranks.size)
    config = configured(Path(world), Path(out), steps=2, fsdp=fsdp)
    if ranks.rank:
        config = replace(config, eval_data_root="/nonexistent", eval_suite="coco-val2017-retrieval")
    evaluation = EvaluateEvery(config)
    data = coloured(8)
    watched = pretrain(config, data, ranks, [evaluation], Silent(), False)
    plain = pretrain(replace(config, out="", eval_every=0), data, ranks, [], Silent(), False)
    whole = not config.fsdp or ranks.is_main  # of split networks only the first rank has the weights at the end
    return {
        "same": not whole
        or (same_weights(watched.student, plain.student) and same_weights(watched.teacher, plain.teacher)),
        "steps": [line["step"] for line in evaluation.lines],
        "measured": evaluation.measured,
    }


@pytest.mark.parametrize("fsdp", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_first_rank_evaluates_while_the_others_wait(world, tmp_path, fsdp):
    (tmp_path / "meet").mkdir()
    both = on_ranks(trained_on_ranks, [2], tmp_path / "meet", str(world), str(tmp_path / "run"), fsdp)[2]
    assert [found["same"] for found in both] == [True, True]
    assert [found["measured"] for found in both] == [2, 2]
    assert [found["steps"] for found in both] == [[2, 2], []]
    lines = read_evaluations(tmp_path / "run" / "evaluations.jsonl")
    assert [line["step"] for line in lines] == [2, 2]
    if fsdp:  # the weights that were gathered are those of the checkpoint
        model = CosmosModel(load_checkpoint(tmp_path / "run" / "last.pt"))
        assert [line["digest"] for line in lines] == [model.digest] * 2


def test_modes_and_generators_are_put_back_whatever_happens_inside():
    model = initial_model(TINY, 0).train()
    model.visual.eval()
    modes = [module.training for module in model.modules()]
    state = random.getstate(), torch.get_rng_state()

    def fail() -> None:
        with evaluation_mode(model):
            assert not any(module.training for module in model.modules())
            random.random()
            np.random.rand()
            torch.rand(3)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [module.training for module in model.modules()] == modes
    assert random.getstate() == state[0]
    assert torch.equal(torch.get_rng_state(), state[1])


def test_lines_are_replaced_by_step_network_and_benchmark_and_half_lines_are_left_out(tmp_path):
    def line(step: int, value: float) -> dict[str, Any]:
        metrics = {"top1": {"value": value, "low": 0.0, "high": 1.0, "n": 4}}
        return {"step": step, "network": "teacher", "benchmark": "b", "primary": "top1", "metrics": metrics}

    path = tmp_path / "evaluations.jsonl"
    written = Evaluations(path)
    written.put([line(20, 0.5)])
    written.put([line(10, 0.25), line(20, 0.75)])
    assert [json.loads(text) for text in path.read_text().splitlines()] == [line(10, 0.25), line(20, 0.75)]
    path.write_text(path.read_text() + '{"step": 30, "netw')
    again = Evaluations(path)
    assert again.lines == [line(10, 0.25), line(20, 0.75)]
    again.cut(10)
    assert read_evaluations(path) == [line(10, 0.25)]
    assert read_evaluations(tmp_path / "absent.jsonl") == []


def test_train_from_evaluates_when_the_configuration_asks_for_it(world, tmp_path, monkeypatch):
    config = configured(world, tmp_path, data="toybox", samples=8, steps=2)
    notes = Notes()
    train_from(config, notes)
    assert [line["step"] for line in read_evaluations(tmp_path / "evaluations.jsonl")] == [2, 2]
    assert any(line.startswith("step 2, teacher: ") for line in notes.lines)
