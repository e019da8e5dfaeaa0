"""Checkpoints of an objective with parameters: a run goes on with the same bits, and what does not fit is refused."""

import copy
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cosmos_core.checkpoint import load_checkpoint, read_file
from cosmos_core.config import TrainConfig
from cosmos_core.errors import RequestError
from cosmos_core.plugins import installed
from cosmos_core.run_state import read_training_config
from cosmos_core.step import Run
from cosmos_core.train import Callback, train
from tests.core.sigmoid_objective import siglip
from tests.core.test_snapshots import same
from tests.core.test_train import CONFIG
from tests.helpers.tiny_runs import coloured

pytestmark = pytest.mark.usefixtures("one_thread", "plugin")


def test_a_run_that_goes_on_has_the_bits_of_one_that_was_never_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = siglip(out=str(tmp_path / "whole"), save_every=2, keep=0, objective_options={"init_bias": -2})
    whole = train(config, coloured(8))
    content = read_file(tmp_path / "whole" / "step-00000006.pt")
    stored = content["objective"]
    assert (stored["name"], stored["distribution"], stored["version"]) == ("sigmoid", "learned-bias", "1.0")
    assert set(stored["state"]) == {"bias", "log_scale", "samples"}
    assert stored["state"]["bias"].item() not in (-2.0, -10.0)
    assert stored["state"]["samples"].item() == 24
    assert content["training"]["objective_options"] == {"init_bias": -2.0}

    part = tmp_path / "part"
    part.mkdir()
    for name in ("step-00000004.pt", "metrics.jsonl"):
        shutil.copy(tmp_path / "whole" / name, part / name)
    again = train(replace(config, out=str(part)), coloured(8))
    resumed = read_file(part / "step-00000006.pt")
    for key in ("student", "teacher", "optimizer", "objective"):
        assert same(resumed[key], content[key]), key
    assert [line["loss"] for line in again.metrics] == [line["loss"] for line in whole.metrics]

    monkeypatch.setenv("COSMOS_EVAL_PLUGINS", "0")  # weights are weights: evaluating them needs no objective
    assert load_checkpoint(part / "last.pt") is not None


def started(folder: Path) -> TrainConfig:
    """A training that was stopped after its second step."""
    config = siglip(out=str(folder), save_every=2)

    class Stop(Callback):
        def on_step(self, run: Run) -> None:
            if run.step == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, coloured(8), callbacks=[Stop()])
    return config


class Notes:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)

    def task(self, description: str, total: int, unit: str = "it") -> Any:
        return nullcontext(lambda n, text="": None)


def test_another_version_of_the_plugin_goes_on_and_says_so(tmp_path: Path, plugin: Callable[..., None]):
    config, notes = started(tmp_path / "run"), Notes()
    plugin("1.1")
    train(config, coloured(8), reporter=notes)
    said = [line for line in notes.lines if "learned-bias" in line]
    assert said == ["objective sigmoid is of learned-bias 1.1 now, and was of learned-bias 1.0 before"]
    assert read_file(tmp_path / "run" / "last.pt")["objective"]["version"] == "1.1"


def test_a_checkpoint_of_other_parameters_is_refused_and_stays(tmp_path: Path, plugin: Callable[..., None]):
    config = started(tmp_path / "run")
    before = (tmp_path / "run" / "step-00000002.pt").read_bytes()
    plugin("2.0", "sigmoid = tests.core.siglip:WiderSigLip")
    why = r"does not fit objective sigmoid: bias is \(\) of torch.float32 in the file and \(2,\) of .* here; "
    with pytest.raises(RequestError, match=why + r"install learned-bias 1\.0, which it was trained with") as refused:
        train(config, coloured(8))
    assert "\n" not in str(refused.value)
    assert (tmp_path / "run" / "step-00000002.pt").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda content: content.pop("objective"), "bias is missing from the file"),
        (lambda content: content["objective"]["state"].pop("samples"), "samples is missing from the file"),
        (lambda content: content["objective"]["state"].update(more=torch.ones(1)), "more is in the file only"),
        (lambda content: content["objective"].update(state=3), "is damaged"),
        (lambda content: content.update(objective=[1]), "is damaged"),
        (lambda content: content["objective"]["state"].update(bias="x"), "bias is missing from the file"),
    ],
)
def test_a_checkpoint_that_lacks_or_adds_something_is_refused(tmp_path: Path, change: Any, why: str):
    config = started(tmp_path / "run")
    path = tmp_path / "run" / "step-00000002.pt"
    content = copy.deepcopy(read_file(path))
    change(content)
    path.unlink()
    (tmp_path / "run" / "last.pt").unlink()
    torch.save(content, path)
    with pytest.raises(RequestError, match=why) as refused:
        train(config, coloured(8))
    assert "\n" not in str(refused.value)


def test_the_advice_to_install_the_version_of_before_leads_on(tmp_path: Path, plugin: Callable[..., None]):
    config = started(tmp_path / "run")
    plugin("2.0", "sigmoid = tests.core.siglip:WiderSigLip")
    with pytest.raises(RequestError, match=r"install learned-bias 1\.0"):
        train(config, coloured(8))
    shutil.rmtree(tmp_path / "plugins" / "2.0")
    installed.cache_clear()
    assert train(config, coloured(8)).steps == 6


@pytest.mark.parametrize("objective", ["cosmos", "clip"])
def test_objectives_of_ours_leave_no_trace_in_a_checkpoint(tmp_path: Path, objective: str):
    train(replace(CONFIG, objective=objective, out=str(tmp_path), steps=2), coloured(8))
    content = read_file(tmp_path / "last.pt")
    assert "objective" not in content
    assert "objective_options" not in content["training"]
    assert len(content["optimizer"]["param_groups"]) == 2
    assert read_training_config(content, "it").objective_options == {}
