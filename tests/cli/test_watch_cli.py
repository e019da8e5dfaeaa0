"""Watching a folder: each checkpoint once as it appears, resumable, unharmed by files that go or are not whole."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from cosmos_core.errors import RequestError
from cosmos_eval.cli.main import run_command
from cosmos_eval.progress import Silent
from cosmos_eval.report.evaluations import read_evaluations
from cosmos_eval.run.options import RunOptions
from cosmos_eval.run.plan import make_plan
from cosmos_eval.run.session import Session
from cosmos_eval.training.watch import Watcher
from tests.helpers.processes import hear_ctrl_c
from tests.helpers.tiny_runs import checkpoint
from tests.helpers.worlds import captions_world

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def no_images(request, monkeypatch):
    """Drawing takes longer than measuring does here; some tests draw."""
    if not any(word in request.node.name for word in ("appear", "drawn", "command")):
        monkeypatch.setattr("cosmos_eval.training.watch.write_curve", lambda lines, folder: [])


class Notes(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def run_dir(tmp_path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


def watcher(run_dir: Path, **options: Any) -> Watcher:
    definition = captions_world(run_dir.parent)
    reporter = options.pop("reporter", Notes())
    session = Session(None, RunOptions(device="cpu"), reporter)
    return Watcher(run_dir, make_plan([definition]), session, run_dir / "watch", reporter=reporter, **options)


def steps(lines: list[dict[str, Any]]) -> list[int]:
    return [line["step"] for line in lines]


def test_checkpoints_are_evaluated_as_they_appear_until_the_run_is_finished(run_dir):
    checkpoint(run_dir / "step-00000100.pt", 100)
    appear = iter([200, 300])
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        step = next(appear)
        newest = checkpoint(run_dir / f"step-{step:08d}.pt", step)
        (run_dir / "last.pt").unlink(missing_ok=True)
        os.link(newest, run_dir / "last.pt")

    notes = Notes()
    lines = watcher(run_dir, reporter=notes).run(once=False, interval=2.5, sleep=sleep)
    assert steps(lines) == [100, 200, 300]
    assert slept == [2.5, 2.5]
    assert read_evaluations(run_dir / "watch" / "evaluations.jsonl") == lines
    said = [line for line in notes.lines if line.startswith("step ")]
    assert [line.split(":")[0] for line in said] == ["step 100, teacher", "step 200, teacher", "step 300, teacher"]
    assert (run_dir / "watch" / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert "| 300" in (run_dir / "watch" / "curve.md").read_text()


def test_a_watch_that_is_started_again_measures_only_what_is_new(run_dir, monkeypatch):
    from cosmos_eval import tasks

    measured: list[str] = []
    run = tasks.run
    monkeypatch.setattr("cosmos_eval.run.session.tasks.run", lambda *a, **k: measured.append("once") or run(*a, **k))
    newest = checkpoint(run_dir / "step-00000100.pt", 100)
    shutil.copyfile(newest, run_dir / "last.pt")  # a file system without hard links
    first = watcher(run_dir)
    assert first.scan() == 2
    assert first.scan() == 0
    checkpoint(run_dir / "step-00000200.pt", 200)
    lines = watcher(run_dir).run(once=True, interval=1)
    assert steps(lines) == [100, 200]
    assert len(measured) == 2


def test_both_networks_are_measured_when_asked(run_dir):
    checkpoint(run_dir / "last.pt", 50)
    lines = watcher(run_dir, networks=("teacher", "student")).run(once=True, interval=1)
    assert [(line["step"], line["network"]) for line in lines] == [(50, "teacher"), (50, "student")]
    assert lines[0]["digest"] != lines[1]["digest"]
    assert "run-step-00000050-student" in next((run_dir / "watch" / "step-00000050-student").iterdir()).name


def test_a_file_that_is_not_whole_is_left_out_and_tried_again_when_it_has_changed(run_dir):
    whole = checkpoint(run_dir.parent / "whole.pt", 200)
    checkpoint(run_dir / "step-00000100.pt", 100)
    half = run_dir / "step-00000200.pt"
    half.write_bytes(whole.read_bytes()[:5000])
    (run_dir / ".step-00000300.pt.abc.tmp").write_bytes(b"being written")
    notes = Notes()
    watching = watcher(run_dir, reporter=notes)
    watching.scan()
    watching.scan()
    assert steps(watching.lines) == [100]
    assert [line for line in notes.lines if "left out" in line] == [
        f"step-00000200.pt is left out: {half} is truncated: its end is missing; copy or download it again"
    ]
    shutil.copyfile(whole, half)
    watching.scan()
    assert steps(watching.lines) == [100, 200]


def test_a_checkpoint_that_goes_while_it_is_looked_at_is_no_error(run_dir, monkeypatch):
    from cosmos_eval.training import watch as module

    for step in (100, 200, 300):
        checkpoint(run_dir / f"step-{step:08d}.pt", step)
    read, load = module.read_checkpoint, module.load_checkpoint

    def read_late(path: Path) -> Any:
        if "00100" in path.name:
            path.unlink()
        return read(path)

    def load_late(path: Path, **options: Any) -> Any:
        if "00200" in path.name:
            path.unlink()
        return load(path, **options)

    monkeypatch.setattr(module, "read_checkpoint", read_late)
    monkeypatch.setattr(module, "load_checkpoint", load_late)
    notes = Notes()
    lines = watcher(run_dir, reporter=notes).run(once=False, interval=1, sleep=pytest.fail)
    assert steps(lines) == [300]
    assert not [line for line in notes.lines if "left out" in line]


def test_weights_that_cannot_be_measured_are_left_out_and_the_rest_is_done(run_dir):
    from cosmos_core.checkpoint import read_file, save_checkpoint

    checkpoint(run_dir / "step-00000200.pt", 200)
    content = dict(read_file(checkpoint(run_dir.parent / "broken.pt", 100)))
    teacher = {key: value.clone() for key, value in content["teacher"].items()}
    teacher["text_projection"].fill_(float("nan"))
    save_checkpoint(
        run_dir / "step-00000100.pt", config=content["config"], student=content["student"], teacher=teacher,
        optimizer=None, epoch=0, name="x", extra={"step": 100, "steps": 300},
    )  # fmt: skip
    notes = Notes()
    assert steps(watcher(run_dir, reporter=notes).run(once=True, interval=1)) == [200]
    assert "text_projection holds NaN" in next(line for line in notes.lines if "left out" in line)


def test_the_run_s_own_log_is_drawn_beside_the_curve(run_dir):
    checkpoint(run_dir / "last.pt", 10)
    rows = [{"step": step, "loss": 3.0 / step, "lr": 1e-3, "uniformity_image": -1.0} for step in (1, 5, 10)]
    (run_dir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 1')
    watcher(run_dir).run(once=True, interval=1)
    assert (run_dir / "watch" / "training.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_to_evaluate_is_refused_in_one_line(run_dir):
    with pytest.raises(RequestError, match="no checkpoint in"):
        watcher(run_dir).run(once=True, interval=1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--network", "aunt"], "--network 'aunt' is not one of teacher, student, both"),
        (["--suite", "toybx"], "toybx"),
        (["--interval", "0"], "--interval"),
        (["--benchmark", "coco-val2017-retrieval", "--data-root", "/nonexistent"], "coco-val2017-retrieval"),
    ],
)
def test_a_bad_request_is_one_line_and_exit_2(run_dir, arguments, said, capsys):
    assert run_command(["watch", str(run_dir), *arguments]) == 2
    line = capsys.readouterr().err.strip()
    assert "\n" not in line
    assert said in line


def test_a_folder_that_is_not_there_is_refused(tmp_path, capsys):
    assert run_command(["watch", str(tmp_path / "nowhere")]) == 2
    assert "nowhere; give the --out folder of a training" in capsys.readouterr().err


def test_the_command_prints_the_table_and_leaves_with_0_when_the_run_is_finished(run_dir, capsys):
    definition = captions_world(run_dir.parent)
    checkpoint(run_dir / "step-00000300.pt", 300)
    out = run_dir.parent / "curves"
    arguments = ["--benchmark", str(definition), "--out", str(out), "--network", "both", "--device", "cpu"]
    assert run_command(["watch", str(run_dir), *arguments]) == 0
    shown = capsys.readouterr().out
    assert "| 300" in shown
    assert (out / "curve.csv").is_file()
    assert not (run_dir / "watch").exists()


def test_ctrl_c_ends_the_waiting_with_130_and_what_is_done_is_kept(run_dir):
    definition = captions_world(run_dir.parent)
    checkpoint(run_dir / "step-00000100.pt", 100)
    command = [sys.executable, "-m", "cosmos_eval", "watch", str(run_dir), "--benchmark", str(definition)]
    with subprocess.Popen(
        [*command, "--device", "cpu"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=hear_ctrl_c, env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:  # fmt: skip
        late = threading.Timer(300, process.kill)
        late.start()
        for line in process.stderr:
            if line.startswith("waiting for checkpoints"):
                break
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=300)
        late.cancel()
    assert process.returncode == 130
    assert len(err.strip().splitlines()) == 1
    assert steps(read_evaluations(run_dir / "watch" / "evaluations.jsonl")) == [100]
