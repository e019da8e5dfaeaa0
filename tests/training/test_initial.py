"""`init`: a training that starts from other weights measures, before its first step, what these weights do."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from cosmos_core.checkpoint import load_checkpoint, read_file
from cosmos_core.config import TrainConfig, load_preset
from cosmos_core.errors import RequestError
from cosmos_core.prepare import initial_model
from cosmos_core.train import Callback, Run, train
from cosmos_core.views import MultiCrop
from cosmos_eval import evaluate
from cosmos_eval.cli.main import run_command
from cosmos_eval.progress import Silent
from cosmos_eval.report.evaluations import read_evaluations
from cosmos_eval.training.callback import records_of, train_from
from cosmos_eval.training.initial import load_initial, prepare_initial
from cosmos_eval.training.plan import plan_lines
from tests.helpers.clip_checkpoints import MODEL_CFG, PREPROCESSING, write_cosmos, write_open_clip, write_transformers
from tests.helpers.tiny_runs import same_weights

pytestmark = pytest.mark.usefixtures("one_thread")

LIMIT = 4
TASKS = ["toybox-retrieval", "toybox-classification", "toybox-segmentation", "toybox-perception"]


@pytest.fixture(autouse=True)
def no_images(monkeypatch):
    monkeypatch.setattr("cosmos_eval.report.curves.write_curve", lambda lines, folder: [])


@pytest.fixture(scope="module")
def specs(tmp_path_factory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("weights")
    cosmos = write_cosmos(root / "cosmos.pt")
    return {
        "open_clip": f"open_clip:local-dir:{write_open_clip(root / 'open_clip')}",
        "quick_gelu": f"open_clip:local-dir:{write_open_clip(root / 'quick', quick_gelu=True)}",
        "own text tower": f"open_clip:local-dir:{write_open_clip(root / 'custom', custom_text=True)}",
        "hf": f"hf:{write_transformers(root / 'hf')}",
        "teacher": f"cosmos:{cosmos}",
        "student": f"cosmos:{cosmos}#student",
    }


def configured(init: str, out: Path | None = None, **changes: Any) -> TrainConfig:
    settings: dict[str, Any] = {
        "init": init, "model": "", "out": str(out or ""), "data": "toybox", "samples": 8, "batch_size": 4, "steps": 2,
        "warmup": 1, "captions": 2, "shuffle": 4, "device": "cpu", "objective": "clip", "log_every": 1,
        "views": MultiCrop(global_crops=2, local_crops=0, global_size=32),
    }  # fmt: skip
    return TrainConfig(**{**settings, **changes})


class Notes(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)


class AtTheStart(Callback):
    """Evaluates the teacher before the first step."""

    tasks: list[str]

    def on_start(self, run: Run) -> None:
        assert run.step == 0
        assert same_weights(run.student, run.teacher)
        self.results = evaluate(run.teacher, self.tasks, limit=LIMIT)


@pytest.mark.parametrize(
    ("kind", "tasks"),
    [("open_clip", TASKS), ("hf", TASKS[::2]), ("student", TASKS[:2])],
    ids=lambda value: str(value)[:9],
)
def test_step_0_evaluates_like_the_weights_themselves(specs, kind: str, tasks: list[str]):
    config, initial = prepare_initial(configured(specs[kind], steps=1))
    measuring = AtTheStart()
    measuring.tasks = tasks
    train(config, records_of(config), callbacks=[measuring], initial=initial)
    expected = evaluate(specs[kind], tasks, limit=LIMIT)
    assert len(expected) == len(tasks)
    for ours, theirs in zip(measuring.results, expected, strict=True):
        assert ours.benchmark.name == theirs.benchmark.name
        for name, metric in theirs.metrics.items():
            assert ours.metrics[name].value == pytest.approx(metric.value, abs=1e-4, nan_ok=True), name


def test_evaluation_while_training_begins_with_step_0(specs, tmp_path: Path):
    suite = {"eval_every": 1, "eval_suite": TASKS[0], "eval_limit": LIMIT, "eval_networks": "student"}
    train_from(configured(specs["student"], tmp_path, steps=1, **suite))
    lines = read_evaluations(tmp_path / "evaluations.jsonl")
    assert [line["step"] for line in lines] == [0, 1]
    (expected,) = evaluate(specs["student"], TASKS[0], limit=LIMIT)
    assert lines[0]["metrics"].keys() == expected.metrics.keys()
    assert all(line["value"] == expected.metrics[name].value for name, line in lines[0]["metrics"].items())


@pytest.mark.parametrize("kind", ["quick_gelu", "own text tower", "teacher"])
def test_other_kinds_embed_alike(specs, kind: str):
    # `load_initial` compares features of images and texts, to 1e-4
    initial = load_initial(specs[kind])
    assert initial.config.get("quick_gelu", False) == (kind == "quick_gelu")
    assert initial.has_poolers == (kind == "teacher")


def test_new_poolers_are_said_and_have_the_weights_of_the_seed(specs, tmp_path: Path):
    notes = Notes()
    config = configured(specs["open_clip"], tmp_path / "run", objective="cosmos", lr=0.0, momentum_teacher=1.0, seed=7)
    result = train_from(config, notes)
    said = next(line for line in notes.lines if line.startswith("starting from"))
    assert said.endswith(
        "these are not in it and begin with random weights: distill_logit_scale, "
        "visual.attn_cross_pool, text_attn_cross_pool, image_token_mapping, text_token_mapping"
    )
    fresh, weights = initial_model(result.config.model, 7).state_dict(), load_initial(specs["open_clip"]).state
    for network in (result.student, result.teacher):  # at a learning rate of 0 they stay where they began
        for name, value in network.state_dict().items():
            torch.testing.assert_close(value, weights[name] if name in weights else fresh[name], msg=name)
    content = read_file(tmp_path / "run" / "last.pt")
    assert content["training"]["init"] == "open_clip:local-dir:open_clip"  # without folders of this machine
    assert content["config"]["embed_dim"] == MODEL_CFG["embed_dim"]


def test_a_resume_needs_the_same_spec_but_not_the_weights(tmp_path: Path):
    source = write_cosmos(tmp_path / "cosmos.pt")
    settings: dict[str, Any] = {"steps": 4, "save_every": 2, "keep": 0}
    whole = train_from(configured(f"cosmos:{source}", tmp_path / "whole", **settings))
    (tmp_path / "again").mkdir()
    (tmp_path / "whole" / "step-00000002.pt").rename(tmp_path / "again" / "step-00000002.pt")
    source.rename(tmp_path / "gone.pt")
    with pytest.raises(RequestError, match=r"init 'cosmos:cosmos.pt' there and 'cosmos:gone.pt' here"):
        train_from(configured(f"cosmos:{tmp_path / 'gone.pt'}", tmp_path / "again", **settings))
    again = train_from(configured(f"cosmos:{source}", tmp_path / "again", **settings))
    for name, value in whole.student.state_dict().items():
        assert torch.equal(value, again.student.state_dict()[name]), name
    contents = [read_file(tmp_path / run / "last.pt") for run in ("whole", "again")]
    assert contents[0]["init"] == contents[1]["init"]


def test_runs_without_it_leave_no_trace(tmp_path: Path):
    train_from(configured("", tmp_path, model=MODEL_CFG, steps=1))
    content = read_file(tmp_path / "last.pt")
    assert "init" not in content
    assert not {"init", "freeze", "layer_decay"} & content["training"].keys()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"text_cfg": {**MODEL_CFG["text_cfg"], "no_causal_mask": True}}, "its text attention is not causal"),
        ({"text_cfg": {**MODEL_CFG["text_cfg"], "width": 32}}, "its text width 32 is not its embed_dim 16"),
        ({"vision_cfg": {**MODEL_CFG["vision_cfg"], "pool_type": "avg"}}, "pools by 'avg', not 'tok'"),
        (
            {"vision_cfg": {**MODEL_CFG["vision_cfg"], "layers": [1, 1, 1, 1], "width": 16}, "embed_dim": 16},
            "is a ResNet",
        ),
        (
            {"preprocessing": {**PREPROCESSING, "mean": [0.5] * 3, "std": [0.5] * 3}},
            r"embed images otherwise .*mean \[",
        ),
    ],
)
def test_towers_that_a_cosmos_cannot_have_are_refused_with_the_reason(changes: dict, why: str, tmp_path: Path):
    folder = write_open_clip(tmp_path / "weights", **changes)
    with pytest.raises(RequestError, match=why) as refused:
        load_initial(f"open_clip:local-dir:{folder}")
    assert "\n" not in str(refused.value)
    assert str(refused.value).count(str(folder)) == 1  # not once for the setting and once for the model


@pytest.mark.parametrize(
    ("text", "why"),
    [({"hidden_act": "gelu"}, "its activations are quick_gelu and gelu"), ({"hidden_act": "relu"}, "and relu; COSMOS")],
)
def test_clips_of_transformers_with_other_activations_are_refused(text: dict, why: str, tmp_path: Path):
    with pytest.raises(RequestError, match=why):
        load_initial(f"hf:{write_transformers(tmp_path / 'hf', **text)}")


def test_other_families_of_transformers_are_refused(tmp_path: Path):
    from cosmos_core.transformers_layout import find_problem

    assert "pools by attention (a MAP head)" in find_problem({"model_type": "siglip"}, 100)
    assert "those of 'altclip'" in find_problem({"model_type": "altclip"}, 100)


def test_a_model_of_another_architecture_is_refused_with_the_first_differences(specs):
    model = {**MODEL_CFG, "vision_cfg": {**MODEL_CFG["vision_cfg"], "layers": 3}}
    why = r"another architecture than model: vision_cfg.layers 3 in the model and 2 in init; set model= \(empty\)"
    with pytest.raises(RequestError, match=why):
        train_from(configured(specs["open_clip"], model=model))
    why = "quick_gelu False in the model and True in init"
    with pytest.raises(RequestError, match=why):
        train_from(configured(specs["quick_gelu"], model=MODEL_CFG))
    train_from(configured(specs["open_clip"], model=MODEL_CFG, steps=1))


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(RequestError, match="model is empty, which takes the architecture of init"):
        load_preset("toybox", ["model="])
    with pytest.raises(RequestError, match="init=cosmos:toybox and nothing was passed for it"):
        train(replace(configured("cosmos:toybox"), model="toybox"))
    with pytest.raises(RequestError, match=r"^init=nothing:x: model spec 'nothing:x' is of an unknown kind"):
        train_from(configured("nothing:x"))
    for start in (train_from, partial(plan_lines, ranks=1)):
        with pytest.raises(RequestError, match=r"^init=cosmos:gone\.pt: checkpoint gone\.pt does not exist"):
            start(configured("cosmos:gone.pt"))


def test_a_settings_file_without_a_model_takes_that_of_init(tmp_path: Path, capsys):
    settings = tmp_path / "mine.yaml"
    settings.write_text("init: cosmos:toybox\ndata: toybox\nsamples: 8\nbatch_size: 4\nsteps: 1\n"
                        "views: {global_size: 64, local_size: 32}\n")  # fmt: skip
    assert load_preset(settings).model == ""
    assert run_command(["train", str(settings), "--dry-run"]) == 0
    assert "parameters:" in capsys.readouterr().out
    assert run_command(["train", str(settings), "--out", str(tmp_path / "run"), "--set", "objective=clip"]) == 0
    assert load_checkpoint(tmp_path / "run" / "last.pt").config == load_checkpoint_of_toybox()
    settings.write_text(json.dumps({"preset": "cc3m", "init": "cosmos:toybox"}))
    assert load_preset(settings).model == "ViT-B-16"
    assert run_command(["train", str(settings), "--dry-run"]) == 2
    assert "another architecture than model" in capsys.readouterr().err


def load_checkpoint_of_toybox() -> dict[str, Any]:
    return load_initial("cosmos:toybox").config
