"""Failures of real machines: one line, the documented exit code, no incomplete files, and a clean resume."""

import errno
import json
import os
import signal
from pathlib import Path

import pytest
import torch

from cosmos_eval.cli.main import run_command
from cosmos_eval.results.store import read_result
from cosmos_eval.results.versions import with_checksum
from tests.helpers.fork_server import SERVER
from tests.helpers.killing import ended, start, work
from tests.helpers.processes import wait_until
from tests.helpers.worlds import captions_world, classes_world, edit_json

COLOURS = "python:tests.helpers.tiny_models:Colours"


@pytest.fixture
def refused(tmp_path, capsys):
    """A function that runs a command, which must exit with 2 and leave no incomplete files; returns its one line."""

    def check(*arguments: str, out: Path | None = None) -> str:
        out = out or tmp_path / "out"
        capsys.readouterr()
        assert run_command(["run", *arguments, "--out", str(out)]) == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("cosmos-eval: ")]
        assert len(lines) == 1
        assert "Traceback" not in lines[0]
        assert_whole(out)
        return lines[0]

    return check


def assert_whole(out: Path) -> None:
    """There are no temporary files, and every RESULT.json can be read and has its samples."""
    files = [path for path in out.rglob("*") if path.is_file()] if out.exists() else []
    assert not [path for path in files if path.suffix == ".tmp"]
    for path in files:
        if path.name == "RESULT.json":
            read_result(path)
            assert (path.parent / "samples.parquet").is_file()


def results(out: Path) -> list[str]:
    return sorted(path.parent.name for path in out.rglob("RESULT.json"))


def test_all_missing_data_is_listed_before_any_compute(refused, tmp_path):
    good = captions_world(tmp_path)
    line = refused(
        "--model", COLOURS, "--benchmark", str(good), "--benchmark", "coco-val2017-retrieval",
        "--benchmark", "flickr30k-test-retrieval", "--data-root", str(tmp_path),
    )  # fmt: skip
    assert "coco-val2017-retrieval" in line
    assert "flickr30k-test-retrieval" in line
    assert "--skip-missing" in line
    assert results(tmp_path / "out") == []


def test_skip_missing_runs_the_rest_and_records_the_others(tmp_path, capsys):
    good = captions_world(tmp_path)
    code = run_command(
        ["run", "--model", COLOURS, "--benchmark", str(good), "--benchmark", "coco-val2017-retrieval",
         "--data-root", str(tmp_path), "--out", str(tmp_path / "out"), "--skip-missing"]
    )  # fmt: skip
    assert code == 0
    assert results(tmp_path / "out") == ["pairs"]
    (record,) = (tmp_path / "out").rglob("NOT_RUN.json")
    assert record.parent.name == "coco-val2017-retrieval"


def test_half_a_dataset_is_refused_with_both_counts_and_a_name(refused, tmp_path):
    world = captions_world(tmp_path, n=6)
    for i in (1, 4, 5):
        (tmp_path / "pairs" / "images" / f"{i:012d}.jpg").unlink()
    line = refused("--model", COLOURS, "--benchmark", str(world))
    assert "000000000001.jpg" in line
    assert "3" in line
    assert "6" in line


def test_fewer_images_than_the_protocol_expects_are_refused(refused, tmp_path):
    line = refused("--model", COLOURS, "--benchmark", str(captions_world(tmp_path, n=6, expected=8)))
    assert "6" in line
    assert "8" in line


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_corrupt_jpeg_is_named(refused, tmp_path, workers):
    world = captions_world(tmp_path)
    broken = tmp_path / "pairs" / "images" / "000000000003.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    assert "000000000003.jpg" in refused("--model", COLOURS, "--benchmark", str(world), "--workers", workers)


def test_captions_of_unknown_images_are_refused(refused, tmp_path):
    world = captions_world(tmp_path)
    edit_json(tmp_path / "pairs" / "captions.json", lambda file: file["annotations"][3].update(image_id=99))
    assert "1 caption of images that are not listed" in refused("--model", COLOURS, "--benchmark", str(world))


def test_an_empty_class_is_refused_by_name(refused, tmp_path):
    world = classes_world(tmp_path)
    for path in (tmp_path / "classes" / "class1").iterdir():
        path.unlink()
    line = refused("--model", COLOURS, "--benchmark", str(world))
    assert "class1" in line or "thing 1" in line


def test_nan_weights_are_refused_and_the_first_sample_is_named(refused, tmp_path):
    from cosmos_core.checkpoint import save_checkpoint
    from cosmos_core.model import COSMOS

    model = COSMOS.from_config("toybox")
    with torch.no_grad():
        model.visual.proj[3, 3] = float("nan")
    save_checkpoint(
        tmp_path / "nan.pt", config=model.config, student=model, teacher=model, optimizer=None, epoch=0, name="nan"
    )
    line = refused("--model", f"cosmos:{tmp_path / 'nan.pt'}", "--benchmark", str(captions_world(tmp_path)))
    assert "000000000000.jpg" in line or "nan.pt" in line
    assert "finite" in line


def test_a_full_disk_loses_no_earlier_result(tmp_path, capsys, monkeypatch):
    world = captions_world(tmp_path)
    command = ["run", "--model", COLOURS, "--benchmark", str(world), "--out", str(tmp_path / "out")]
    assert run_command(command) == 0
    (path,) = (tmp_path / "out").rglob("RESULT.json")
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    capsys.readouterr()
    assert run_command([*command, "--overwrite"]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("cosmos-eval: ")]
    assert len(lines) == 1
    assert "make room" in lines[0]
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


def test_a_real_full_disk_is_one_line(refused, tmp_path, small_disk):
    world = captions_world(tmp_path)
    (small_disk / "filler").write_bytes(b"x" * 508 * 1024)
    assert "make room" in refused("--model", COLOURS, "--benchmark", str(world), out=small_disk / "out")
    assert results(small_disk) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_stopped_run_resumes(tmp_path, number, code):
    first, second = captions_world(tmp_path, "first"), captions_world(tmp_path, "second")
    mark = tmp_path / "mark"
    command = [
        "run", "--model", "python:tests.helpers.tiny_models:Slow",
        "--benchmark", str(first), "--benchmark", str(second), "--out", str(tmp_path / "out"),
    ]  # fmt: skip
    environment = {"COSMOS_TEST_MARK": str(mark), "COSMOS_TEST_SLOW": "second image 0, caption 0"}
    process = start(command, log=tmp_path / "log", environment=environment)
    wait_until(mark.exists, process)
    os.kill(process.pid, number)
    assert ended(process) == code
    assert "Traceback" not in (tmp_path / "log").read_text()
    assert results(tmp_path / "out") == ["first"]
    assert_whole(tmp_path / "out")
    (finished,) = (tmp_path / "out").rglob("RESULT.json")
    before = finished.stat().st_mtime_ns

    environment["COSMOS_TEST_SLOW"] = ""
    assert ended(start(command, log=tmp_path / "log", environment=environment)) == 0
    assert results(tmp_path / "out") == ["first", "second"]
    assert finished.stat().st_mtime_ns == before  # it was kept, not computed again


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_all_processes_of_a_run_is_reported_once(tmp_path, number, code):
    mark = tmp_path / "mark"
    command = [
        "run", "--model", "python:tests.helpers.tiny_models:SlowImages",
        "--benchmark", str(captions_world(tmp_path)), "--out", str(tmp_path / "out"), "--workers", "2",
    ]  # fmt: skip
    log = tmp_path / "log"
    process = SERVER.Process(target=work_as_group, args=(command, log, {"COSMOS_TEST_MARK": str(mark)}))
    process.start()
    wait_until(mark.exists, process)
    os.killpg(process.pid, number)
    assert ended(process) == code
    err = log.read_text()
    assert [line for line in err.splitlines() if "DataLoader" in line or "Traceback" in line or "rror" in line] == []
    assert err.count("finished work is kept") == 1


def work_as_group(arguments: list[str], log: Path, environment: dict[str, str]) -> None:
    """In a process: the command, which gets the signals of a terminal together with its workers, and nothing else."""
    os.setsid()
    # by number, not only by Python's files: what a worker writes by itself is in the log, too
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    work(arguments, None, log, environment)


def test_a_killed_worker_is_one_line(refused, tmp_path):
    world = captions_world(tmp_path)
    line = refused(
        "--model", "python:tests.helpers.tiny_models:Killed", "--benchmark", str(world), "--workers", "2", "--no-cache"
    )
    assert "a worker that decodes images died" in line
    assert "fewer --workers" in line


def test_two_definitions_with_one_name_are_refused(refused, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    worlds = [captions_world(tmp_path / folder) for folder in ("a", "b")]
    line = refused("--model", COLOURS, "--benchmark", str(worlds[0]), "--benchmark", str(worlds[1]))
    assert "two definitions are called pairs" in line


def test_a_different_result_in_the_same_folder_is_not_replaced_without_overwrite(refused, tmp_path, capsys):
    world = captions_world(tmp_path)
    command = ["--model", COLOURS, "--benchmark", str(world)]
    out = ["--out", str(tmp_path / "out")]
    assert run_command(["run", *command, *out]) == 0
    (path,) = (tmp_path / "out").rglob("RESULT.json")
    before = path.read_bytes()
    assert "all images" in refused(*command, "--limit", "2")
    assert "precision fp32" in refused(*command, "--precision", "bf16")
    edit_json(tmp_path / "pairs" / "captions.json", lambda file: file["annotations"][0].update(caption="another"))
    assert "other data" in refused(*command)
    assert path.read_bytes() == before
    assert run_command(["run", *command, *out, "--overwrite"]) == 0
    assert path.read_bytes() != before


def test_an_edited_template_is_reported_as_such_and_not_as_other_data(refused, tmp_path):
    from tests.helpers.datasets_on_disk import write_image

    for folder in ("cat", "dog"):
        write_image(tmp_path / f"im/{folder}/a.png", seed=len(folder))
    text = (
        "name: mine\nversion: 1\ntask: classification\nmetrics: {primary: top1}\n"
        "dataset: {reader: image-folder, path: im}\nprompts: {templates: ['a {c}']}\n"
    )
    (tmp_path / "mine.yaml").write_text(text)
    command = ["--model", COLOURS, "--benchmark", str(tmp_path / "mine.yaml")]
    assert run_command(["run", *command, "--out", str(tmp_path / "out")]) == 0
    (tmp_path / "mine.yaml").write_text(text.replace("a {c}", "the {c}"))
    line = refused(*command)
    assert "another definition of mine (what differs: the templates (new: 'the {c}'; 1 removed))" in line
    assert "other data" not in line
    (path,) = (tmp_path / "out").rglob("RESULT.json")
    record = json.loads(path.read_text())
    del record["benchmark"]["parts"]  # as in older results
    path.write_text(json.dumps(with_checksum(record)))
    line = refused(*command)
    assert "another definition of mine (its templates, class names, metrics or dataset options were changed)" in line


def test_a_limited_result_is_replaced_by_a_full_one(tmp_path):
    command = ["run", "--model", COLOURS, "--benchmark", str(captions_world(tmp_path)), "--out", str(tmp_path / "out")]
    assert run_command([*command, "--limit", "3"]) == 0
    (path,) = (tmp_path / "out").rglob("RESULT.json")
    assert read_result(path).limit == 3
    assert read_result(path).dataset.n["images"] == 3
    assert run_command(command) == 0
    assert read_result(path).limit is None


def test_a_training_is_not_replaced_without_overwrite(tmp_path, capsys):
    (tmp_path / "last.pt").write_bytes(b"precious")
    assert run_command(["train", "toybox", "--out", str(tmp_path)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (tmp_path / "last.pt").read_bytes() == b"precious"


def test_a_definition_beside_its_data_runs_although_data_root_lacks_the_data(tmp_path):
    world = captions_world(tmp_path)
    command = ["run", "--model", COLOURS, "--benchmark", str(world), "--data-root", str(tmp_path / "elsewhere")]
    assert run_command([*command, "--out", str(tmp_path / "out")]) == 0


def test_a_metric_that_the_data_does_not_have_is_refused_before_any_compute(refused, tmp_path, capsys):
    world = classes_world(tmp_path, classes=3)
    world.write_text(world.read_text().replace("primary: top1", "primary: top5"))
    assert run_command(["data", "check", str(world)]) == 1
    assert "top5" in capsys.readouterr().out
    assert "top5" in refused("--model", COLOURS, "--benchmark", str(world))
