"""A training by the objective of another package: resumed, evaluated on its benchmarks, watched and exported."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from cosmos_eval.results.store import located_results
from tests.cli.test_cli_train import TINY_RUN, write_shard
from tests.helpers.killing import differences, final_state
from tests.plugins.test_evaluation import command, definition

OBJECTIVE = {"objective": "sigmoid", "objective_options": {"init_bias": -3.0}}


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of four steps by SigLIP's loss."""
    folder = tmp_path_factory.mktemp("preset")
    shard = str(write_shard(folder / "colours.tar"))
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({**TINY_RUN, **OBJECTIVE, "data": shard, "save_every": 2, "keep": 0, "lr": 0.01}))
    return path


@pytest.fixture(scope="module")
def trained(target: Path, preset: Path, fruit: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run, evaluated every other step on a benchmark of the same distribution."""
    out = tmp_path_factory.mktemp("run") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(target))
        settings = {"eval_every": 2, "eval_suite": "fruit", "eval_data_root": fruit}
        words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        assert command("train", preset, "--out", out, *words) == 0
    return out


def test_its_parameters_are_trained_saved_and_resumed_to_the_bit(extras, preset, trained, tmp_path, capsys):
    whole = torch.load(trained / "last.pt", weights_only=True)
    assert whole["objective"]["distribution"] == "image-text-extras"
    assert whole["objective"]["version"] == "1.0"
    assert whole["objective"]["state"].keys() == {"bias", "log_scale"}
    assert whole["objective"]["state"]["bias"].item() != -3.0
    part = tmp_path / "part"
    part.mkdir()
    for name in ("step-00000002.pt", "metrics.jsonl"):
        shutil.copy(trained / name, part / name)
    assert command("train", preset, "--out", part) == 0
    assert "step 2" in capsys.readouterr().err
    assert differences(final_state(part), final_state(trained)) == []
    assert command("train", preset, "--out", part, "--set", "objective_options.init_bias=1") == 2
    said = capsys.readouterr().err
    assert "objective_options" in said
    assert said.count("\n") == 1


def test_evaluations_while_training_and_watch_take_its_benchmarks(extras, trained, fruit, tmp_path, capsys):
    lines = [json.loads(line) for line in (trained / "evaluations.jsonl").read_text().splitlines()]
    assert {line["benchmark"] for line in lines} == {"fruit-probe", "fruit-pairs"}
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    words = ["--benchmark", "fruit-probe", "--data-root", fruit, "--out", tmp_path / "watched", "--once"]
    assert command("watch", run, *words) == 0
    assert "probe_accuracy" in capsys.readouterr().out
    assert {one.benchmark.plugins["task"] for _, one in located_results(tmp_path / "watched")} == {
        "image-text-extras 1.0"
    }


def test_the_weights_need_no_plugin(trained, tmp_path, capsys):
    assert command("export", trained / "last.pt", tmp_path / "weights.safetensors") == 0
    assert command("export", trained / "last.pt", tmp_path / "original.pt") == 0
    toybox = {"reader": "toybox", "split": "test", "seed": 0, "scenes": 4}
    more = {"metrics": {"primary": "text_to_image_recall@1"}}
    words = ["--benchmark", definition(tmp_path, "pairs", "retrieval", more=more, **toybox), "--out", tmp_path / "out"]
    assert command("run", "--model", f"cosmos:{trained / 'last.pt'}", *words) == 0


def test_an_objective_that_needs_an_option_can_be_planned(extras, preset, tmp_path, monkeypatch, capsys):
    """Which is built only with its options, in a dry run as in a run."""
    from image_text_extras.siglip import SigLip

    class Needy(SigLip):
        """SigLIP whose bias must be given."""

        def __init__(self, world=None, *, start: float) -> None:
            super().__init__(world, init_bias=start)

    monkeypatch.setattr("image_text_extras.siglip.SigLip", Needy)
    settings = yaml.safe_load(preset.read_text())
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump({**settings, "objective_options": {"start": -1.0}}))
    assert command("train", own, "--dry-run") == 0
    own.write_text(yaml.safe_dump({**settings, "objective_options": {}}))
    assert command("train", own, "--dry-run") == 2
    assert "needs a value for objective_options.start" in capsys.readouterr().err
