"""`cosmos-eval export`: files that the original's loaders take, and safetensors that anything reads."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from cosmos_core.checkpoint import load_checkpoint, read_file, save_checkpoint
from cosmos_core.model import COSMOS
from cosmos_core.schedule import parameter_groups
from cosmos_core.train import train
from cosmos_eval.cli.main import run_command
from tests.core.siglip import put_distribution
from tests.core.test_train import CONFIG
from tests.helpers.tiny_runs import TINY, coloured


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A checkpoint as a run leaves it: fused momenta, a scaler, prefixes of wrappers, and what resuming needs."""
    torch.manual_seed(0)
    student, teacher = COSMOS.from_config(TINY), COSMOS.from_config(TINY)
    optimizer = torch.optim.AdamW(parameter_groups(student, 0.5), betas=(0.9, 0.98), fused=True)
    sum(parameter.square().sum() for parameter in student.parameters()).backward()
    optimizer.step()
    save_checkpoint(
        tmp_path / "last.pt", config=student.config, epoch=7, name="tiny", optimizer=optimizer, teacher=teacher,
        student={f"module.{key}": value for key, value in student.state_dict().items()},
        extra={"step": 70, "steps": 90, "data_state": {}, "scaler": torch.amp.GradScaler("cpu").state_dict()},
    )  # fmt: skip
    return tmp_path / "last.pt"


def exported(checkpoint: Path, out: Path, *options: str) -> Any:
    assert run_command(["export", str(checkpoint), str(out), *options]) == 0
    assert not list(out.parent.glob(".*.tmp"))
    return load_file(out) if out.suffix == ".safetensors" else torch.load(out, weights_only=True)


def test_the_originals_layout_has_its_keys_and_no_others(trained: Path, tmp_path: Path):
    content, source = exported(trained, tmp_path / "original.pt"), read_file(trained)
    assert list(content) == ["epoch", "name", "student", "teacher", "optimizer", "scaler"]
    assert (content["epoch"], content["name"], content["scaler"]) == (7, "tiny", source["scaler"])
    for name in ("student", "teacher"):
        model = COSMOS.from_config(TINY)
        model.load_state_dict(content[name])  # strict, as the original loads: no prefix, no key too many
        assert all(torch.equal(value, source[name][key]) for key, value in content[name].items())


def test_the_exported_optimizer_goes_into_the_originals_adamw(trained: Path, tmp_path: Path):
    content, source = exported(trained, tmp_path / "original.pt"), read_file(trained)
    model = COSMOS.from_config(TINY)
    theirs = torch.optim.AdamW(parameter_groups(model, 0.5), betas=(0.9, 0.98))
    theirs.load_state_dict(content["optimizer"])
    assert [group["fused"] for group in theirs.param_groups] == [None, None]
    momenta = theirs.state_dict()["state"]
    assert len(momenta) == len(list(model.parameters()))
    for place, kept in source["optimizer"]["state"].items():
        assert all(torch.equal(momenta[place][key], kept[key]) for key in ("step", "exp_avg", "exp_avg_sq"))


def test_parameters_of_an_objective_stay_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(put_distribution(tmp_path / "plugin", "sigmoid = tests.core.siglip:SigLip")))
    config = replace(CONFIG, objective="sigmoid", steps=2, out=str(tmp_path))
    train(config, coloured(8))
    assert len(read_file(tmp_path / "last.pt")["optimizer"]["param_groups"]) == 3
    content = exported(tmp_path / "last.pt", tmp_path / "original.pt")
    assert "objective" not in content
    theirs = torch.optim.AdamW(parameter_groups(COSMOS.from_config(TINY), 0.5), betas=(0.9, 0.98))
    theirs.load_state_dict(content["optimizer"])
    assert {len(group["params"]) for group in theirs.param_groups} == {
        len(group["params"]) for group in parameter_groups(COSMOS.from_config(TINY), 0.5)
    }
    assert max(content["optimizer"]["state"]) < sum(len(group["params"]) for group in theirs.param_groups)


def test_a_file_of_the_original_comes_out_as_it_went_in(parity_dir: Path, tmp_path: Path):
    theirs = parity_dir / "checkpoint" / "train_format.pt"
    config = parity_dir / "model" / "config.json"
    before = torch.load(theirs, weights_only=True)
    with_config = tmp_path / "with_config.pt"  # theirs carries no architecture, and the pack's has no preset
    torch.save({**before, "config": json.loads(config.read_text())}, with_config)
    after = exported(with_config, tmp_path / "out.pt")
    assert list(after) == list(before)
    for name in ("student", "teacher"):
        assert list(after[name]) == list(before[name])
        assert all(torch.equal(after[name][key], before[name][key]) for key in before[name])
    assert after["optimizer"]["param_groups"] == before["optimizer"]["param_groups"]
    assert after["optimizer"]["state"].keys() == before["optimizer"]["state"].keys()


def test_without_the_optimizer_the_file_can_still_be_evaluated(trained: Path, tmp_path: Path):
    content = exported(trained, tmp_path / "original.pt", "--no-optimizer")
    assert list(content) == ["epoch", "name", "student", "teacher"]


@pytest.mark.parametrize("weights", ["teacher", "student"])
def test_safetensors_hold_one_network_and_say_which(trained: Path, tmp_path: Path, weights: str, capsys):
    out = tmp_path / f"{weights}.safetensors"
    content = exported(trained, out, *(["--weights", weights] if weights == "student" else []))
    assert weights in capsys.readouterr().out
    source = load_checkpoint(trained, weights).state_dict()
    assert content.keys() == source.keys()
    assert all(torch.equal(content[key], source[key]) for key in source)
    assert load_checkpoint(out, weights).config == TINY


@pytest.mark.parametrize("name", ["half.pt", "half.safetensors"])
def test_half_halves_the_matrices_alone(trained: Path, tmp_path: Path, name: str):
    content = exported(trained, tmp_path / name, "--half")
    state = content if name.endswith("safetensors") else content["teacher"]
    source = load_checkpoint(trained).state_dict()
    for key, value in state.items():
        assert value.dtype == (torch.float16 if value.ndim > 1 else torch.float32)
        assert torch.equal(value.float(), source[key].half().float() if value.ndim > 1 else source[key])


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["{trained}", "{tmp}/taken.pt"], "exists already"),
        (["{trained}", "{trained}"], "exists already"),
        (["{tmp}/absent.pt", "{tmp}/out.pt"], "does not exist"),
        (["{trained}", "{tmp}/out.pt", "--weights", "student"], "holds both networks"),
        (["{trained}", "{tmp}/out.pt", "--format", "hf"], "--format hf writes a folder, and"),
        (["{trained}", "{tmp}/out", "--format", "clip"], "Invalid value for '--format': 'clip' is not one of"),
        (["{tmp}/one.safetensors", "{tmp}/out.pt"], "needs both; --format safetensors"),
        (["{tmp}/one.safetensors", "{tmp}/out.safetensors", "--weights", "student"], "holds the teacher only"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_one_line(trained, tmp_path, capsys, arguments: list[str], why: str):
    (tmp_path / "taken.pt").write_bytes(b"precious")
    exported(trained, tmp_path / "one.safetensors")
    before = trained.read_bytes()
    capsys.readouterr()
    assert run_command(["export", *(one.format(trained=trained, tmp=tmp_path) for one in arguments)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert why in line
    assert (tmp_path / "taken.pt").read_bytes() == b"precious"
    assert trained.read_bytes() == before
    assert not (tmp_path / "out.pt").exists()


def test_a_disk_that_is_full_leaves_what_was_there(trained: Path, small_disk: Path, capsys):
    (small_disk / "out.pt").write_bytes(b"precious")
    (small_disk / "filler").write_bytes(b"x" * 500 * 1024)
    assert run_command(["export", str(trained), str(small_disk / "out.pt"), "--overwrite"]) == 2
    assert "make room" in capsys.readouterr().err
    assert sorted(path.name for path in small_disk.iterdir()) == ["filler", "out.pt"]
    assert (small_disk / "out.pt").read_bytes() == b"precious"
