"""Defects planted in the shipped checkpoint are stopped by the gate, the normal way from file to answer; the same
checkpoint measured again is not, whatever the seeds."""

from collections.abc import Callable
from copy import deepcopy
from importlib.resources import files
from pathlib import Path

import pytest
import torch
import yaml

from cosmos_core.checkpoint import load_checkpoint, save_checkpoint
from cosmos_core.model import COSMOS
from cosmos_core.train import initial_model
from cosmos_eval.cli import main as cli
from cosmos_eval.protocol.folders import DEFINITIONS
from cosmos_eval.run.evaluate import evaluate

SHIPPED = "cosmos:toybox"
SMALL = {"retrieval": {"scenes": 60}, "classification": {"per_class": 2}}


def shipped() -> COSMOS:
    return load_checkpoint(Path(str(files("cosmos_core"))) / "assets" / "toybox.safetensors")


def block_zeroed(model: COSMOS) -> COSMOS:
    with torch.no_grad():
        for weights in model.visual.transformer.resblocks[1].parameters():
            weights.zero_()
    return model


def text_tower_shuffled(model: COSMOS) -> COSMOS:
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in model.transformer.parameters():
            weights.copy_(weights.flatten()[torch.randperm(weights.numel(), generator=rng)].view_as(weights))
    return model


def average_skipped(model: COSMOS) -> COSMOS:
    """The teacher as training makes it before the first step."""
    return initial_model(model.config, seed=0)


DEFECTS: dict[str, Callable[[COSMOS], COSMOS]] = {
    "one block's weights are zero": block_zeroed,
    "the text tower's weights are shuffled": text_tower_shuffled,
    "the teacher was never updated": average_skipped,
}


def checkpoint(path: Path, plant: Callable[[COSMOS], COSMOS]) -> str:
    """A checkpoint as a training writes it: the student has learnt, the teacher has the defect."""
    model = shipped()
    save_checkpoint(
        path,
        config=model.config,
        student=model,
        teacher=plant(deepcopy(model)),
        optimizer=None,
        epoch=0,
        name=path.stem,
        extra={"step": 1800},
    )
    return f"cosmos:{path}"


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> list[Path]:
    """Toybox, a tenth of it, without what takes longest."""
    folder = tmp_path_factory.mktemp("small")
    for task, options in SMALL.items():
        value = yaml.safe_load((DEFINITIONS / f"toybox-{task}.yaml").read_text())
        value["name"] = f"small-{task}"
        value["dataset"] = {**value["dataset"], **options}
        del value["dataset"]["expected"]
        (folder / f"small-{task}.yaml").write_text(yaml.safe_dump(value))
    return sorted(folder.glob("*.yaml"))


@pytest.fixture(scope="module")
def baseline(small, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("baseline")
    evaluate(SHIPPED, small, out=out, device="cpu")
    return out


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_planted_defect_is_caught(defect, small, baseline, tmp_path, capsys):
    evaluate(checkpoint(tmp_path / "last.pt", DEFECTS[defect]), small, out=tmp_path / "eval", device="cpu")
    assert cli.run_command(["regress", str(baseline), str(tmp_path / "eval"), "--max-drop", "1"]) == 1
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| small")]
    assert len(rows) == 3
    assert "**regression**" in rows[0], rows  # the other two, of 60 images, see the larger defects only


def test_the_same_weights_measured_again_pass_with_any_seed(small, baseline, tmp_path):
    evaluate(checkpoint(tmp_path / "last.pt", lambda model: model), small, out=tmp_path / "eval", device="cpu", seed=7)
    for seed in range(5):
        arguments = ["regress", str(baseline), str(tmp_path / "eval"), "--seed", str(seed), "--resamples", "2000"]
        assert cli.run_command(arguments) == 0


@pytest.mark.slow  # five runs of the suite, a minute each
def test_planted_defects_are_caught_on_the_whole_suite_and_an_equal_run_passes(tmp_path, capsys):
    evaluate(SHIPPED, "toybox", out=tmp_path / "old", device="cpu")
    old = ["regress", str(tmp_path / "old")]
    for number, plant in enumerate(DEFECTS.values()):
        evaluate(checkpoint(tmp_path / f"{number}.pt", plant), "toybox", out=tmp_path / f"new-{number}", device="cpu")
        assert cli.run_command([*old, str(tmp_path / f"new-{number}"), "--max-drop", "0.5"]) == 1
        assert capsys.readouterr().out.count("**regression**") == 6
    again = checkpoint(tmp_path / "again.pt", lambda model: model)
    evaluate(again, "toybox", out=tmp_path / "again", device="cpu", seed=7)
    for seed in range(5):
        assert cli.run_command([*old, str(tmp_path / "again"), "--seed", str(seed)]) == 0
