"""A pattern over checkpoints: each once, by step, in one table and one plot."""

import csv
import os
import shutil

import pytest
import torch

from cosmos_core.checkpoint import load_checkpoint, read_file, save_safetensors
from cosmos_core.errors import RequestError
from cosmos_eval.cli.main import run_command
from cosmos_eval.training.sweep import expand, expand_all, is_sweep, read_checkpoint
from tests.helpers.tiny_runs import checkpoint
from tests.helpers.worlds import captions_world


def names(pattern: str) -> list[tuple[str, int]]:
    return [(one.checkpoint.path.name, one.checkpoint.step) for one in expand(pattern)]


def test_checkpoints_come_in_order_of_their_steps_as_the_files_tell_them(tmp_path):
    for name, step in (("b.pt", 30), ("step-00000004.pt", 200), ("a.pt", 100)):
        checkpoint(tmp_path / name, step)
    assert names(f"cosmos:{tmp_path}/*.pt") == [("b.pt", 30), ("a.pt", 100), ("step-00000004.pt", 200)]


def test_the_student_is_swept_when_it_is_asked_for(tmp_path):
    checkpoint(tmp_path / "step-00000004.pt", 4)
    (one,) = expand(f"cosmos:{tmp_path}/*.pt#student")
    assert (one.spec, one.network) == (f"cosmos:{tmp_path}/step-00000004.pt#student", "student")
    (one,) = expand(f"cosmos:{tmp_path}/*.pt#teacher")
    assert (one.spec, one.network) == (f"cosmos:{tmp_path}/step-00000004.pt", "teacher")


@pytest.mark.parametrize("second_name", [os.link, shutil.copyfile, os.symlink])
def test_a_file_with_two_names_is_one_checkpoint(tmp_path, second_name):
    checkpoint(tmp_path / "step-00000010.pt", 10)
    newest = checkpoint(tmp_path / "step-00000020.pt", 20)
    second_name(newest, tmp_path / "last.pt")
    assert names(f"cosmos:{tmp_path}/*.pt") == [("step-00000010.pt", 10), ("step-00000020.pt", 20)]


def test_other_weights_of_the_same_step_are_another_checkpoint(tmp_path):
    checkpoint(tmp_path / "step-00000020.pt", 20)
    checkpoint(tmp_path / "last.pt", 20, seed=7)
    assert names(f"cosmos:{tmp_path}/*.pt") == [("last.pt", 20), ("step-00000020.pt", 20)]


def test_runs_of_one_pattern_are_told_apart_by_their_folders(tmp_path):
    for run in ("x", "y"):
        for step in (2, 1):
            checkpoint(tmp_path / run / f"step-0000000{step}.pt", step)
    swept = expand(f"cosmos:{tmp_path}/*/step-*.pt")
    assert [(one.series, one.checkpoint.step) for one in swept] == [
        ("x teacher", 1), ("x teacher", 2), ("y teacher", 1), ("y teacher", 2),
    ]  # fmt: skip


def test_a_file_that_does_not_tell_its_step_tells_it_by_its_name_or_its_epoch(tmp_path):
    whole = checkpoint(tmp_path / "step-00000040.pt", 40)
    content = read_file(whole)
    bare = {key: content[key] for key in ("epoch", "name", "student", "teacher", "config")}
    torch.save(bare, tmp_path / "epoch_7.pt")
    torch.save({**bare, "epoch": 3}, tmp_path / "final.pt")
    save_safetensors(tmp_path / "exported-12.safetensors", load_checkpoint(whole))
    found = {path.name: read_checkpoint(path) for path in tmp_path.iterdir()}
    assert {name: one.step for name, one in found.items()} == {
        "step-00000040.pt": 40,
        "epoch_7.pt": 7,
        "final.pt": 3,
        "exported-12.safetensors": 12,
    }
    assert {name: one.finished for name, one in found.items()} == dict.fromkeys(found, False)
    assert read_checkpoint(checkpoint(tmp_path / "end.pt", 300, steps=300)).finished


@pytest.mark.parametrize(
    ("spec", "sweep"),
    [
        ("cosmos:runs/*.pt", True),
        ("cosmos:runs/x/step-0000?.pt#student", True),
        ("cosmos:untrained-toybox?seed=3", False),
        ("cosmos:toybox", False),
        ("cosmos:runs/x/last.pt", False),
        ("hf:some/*", False),
    ],
)
def test_only_patterns_over_files_are_sweeps(spec, sweep):
    assert is_sweep(spec) == sweep


def test_a_file_whose_name_has_brackets_is_that_file(tmp_path):
    path = checkpoint(tmp_path / "lr[1e-3].pt", 5)
    assert not is_sweep(f"cosmos:{path}")


def test_a_model_named_twice_is_measured_once(tmp_path):
    for step in (1, 2):
        checkpoint(tmp_path / f"step-0000000{step}.pt", step)
    first = f"cosmos:{tmp_path}/step-00000001.pt"
    specs, swept = expand_all([first, f"cosmos:{tmp_path}/*.pt", "cosmos:toybox"])
    assert specs == [first, f"cosmos:{tmp_path}/step-00000002.pt", "cosmos:toybox"]
    assert list(swept) == specs[:2]


def test_a_pattern_without_checkpoints_is_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    for pattern, said in (("*.pt", "matches no file"), ("*", "names that are not checkpoints")):
        assert run_command(["run", "--model", f"cosmos:{tmp_path}/{pattern}"]) == 2
        line = capsys.readouterr().err.strip()
        assert "\n" not in line
        assert said in line


def test_a_damaged_file_is_refused_before_anything_is_measured(tmp_path, capsys):
    checkpoint(tmp_path / "step-00000001.pt", 1)
    (tmp_path / "step-00000002.pt").write_bytes((tmp_path / "step-00000001.pt").read_bytes()[:3000])
    with pytest.raises(RequestError, match=r"step-00000002\.pt is truncated"):
        expand(f"cosmos:{tmp_path}/*.pt")
    assert run_command(["run", "--model", f"cosmos:{tmp_path}/*.pt", "--out", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()
    problems: dict[str, str] = {}
    specs, _ = expand_all([f"cosmos:{tmp_path}/*.pt"], problems)  # what --keep-going measures
    assert specs == [f"cosmos:{tmp_path}/step-00000001.pt"]
    assert list(problems) == [f"cosmos:{tmp_path}/step-00000002.pt"]


def test_a_folder_is_swept_into_one_table_and_one_plot(tmp_path, capsys):
    definition = captions_world(tmp_path)
    for step in (100, 200):
        newest = checkpoint(tmp_path / "x" / f"step-00000{step}.pt", step)
    os.link(newest, tmp_path / "x" / "last.pt")
    out = tmp_path / "out"
    command = ["run", "--model", f"cosmos:{tmp_path}/x/*.pt", "--benchmark", str(definition), "--out", str(out)]
    assert run_command([*command, "--dry-run"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert run_command(command) == 0
    shown = capsys.readouterr().out
    assert str(out / "sweep.md") in shown
    with (out / "sweep.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["metric"] == "text_to_image_recall@1"]
    assert [(row["step"], row["network"]) for row in rows] == [("100", "teacher"), ("200", "teacher")]
    assert all(0 <= float(row["low"]) <= float(row["value"]) <= float(row["high"]) <= 1 for row in rows)
    table = [line for line in (out / "sweep.md").read_text().splitlines() if line.startswith("| ")]
    assert [line.split("|")[1].strip() for line in table] == ["step", "100", "200"]
    assert (out / "sweep.png").read_bytes().startswith(b"\x89PNG")
    before = (out / "sweep.csv").read_bytes()
    assert run_command(command) == 0  # what is finished is kept
    assert "already done, kept" in capsys.readouterr().err
    assert (out / "sweep.csv").read_bytes() == before
