"""--keep-going: what fails on the way stops nothing else, and the exit code and the last line tell it."""

import pytest

from cosmos_eval.cli.main import run_command
from tests.helpers.worlds import captions_world, classes_world

MODELS = """
import torch
from tests.helpers.tiny_models import Colours

class NotFinite(Colours):
    digest = "not-finite"
    def encode_image(self, x):
        return super().encode_image(x) * float("nan")

class TooLarge(Colours):
    digest = "too-large"
    def encode_text(self, texts):
        raise torch.OutOfMemoryError("CUDA out of memory")

class Absent(Colours):
    def __init__(self):
        raise OSError(5, "Input/output error", "weights.pt")
"""
GOOD = "python:tests.helpers.tiny_models:Colours"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    (tmp_path / "failing_models.py").write_text(MODELS)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    worlds = [str(captions_world(tmp_path / "one")), str(classes_world(tmp_path / "two"))]

    def command(*models: str, keep_going: bool = True) -> tuple[int, str, list[str]]:
        words = [*(word for model in models for word in ("--model", model))]
        words += [word for world in worlds for word in ("--benchmark", world)]
        words += ["--keep-going"] * keep_going
        code = run_command(["run", *words, "--out", str(tmp_path / "out")])
        captured = capsys.readouterr()
        return code, captured.out, [line for line in captured.err.splitlines() if line.startswith("cosmos-eval: ")]

    command.out = tmp_path / "out"
    return command


@pytest.mark.parametrize("failing", ["NotFinite", "TooLarge", "Absent"])
def test_the_others_are_measured_and_the_end_tells(run, failing):
    code, out, (line,) = run(f"python:failing_models:{failing}", GOOD)
    assert code == 2
    assert failing in line
    assert f"{1 if failing == 'Absent' else 2} failed, 2 measured" in line
    assert "Colours" in out  # the table of what was measured
    assert len(list(run.out.rglob("RESULT.json"))) == 2


def test_what_failed_is_recorded_beside_the_results(run):
    run("python:failing_models:NotFinite", GOOD)
    records = [path.read_text() for path in run.out.rglob("NOT_RUN.json")]
    assert len(records) == 2
    assert all("failed: " in record for record in records)


def test_without_it_the_first_failure_ends_the_run(run):
    code, out, _ = run("python:failing_models:NotFinite", GOOD, keep_going=False)
    assert code == 2
    assert "Colours" not in out
    assert not list(run.out.rglob("RESULT.json"))


@pytest.mark.parametrize("bad", ["cosmos:nope/last.pt", "cosmos:nope/*.pt", "colours", "python:nomodule:build"])
def test_what_is_bad_from_the_start_stops_the_others_only_without_it(run, bad):
    code, _, (line,) = run(bad, GOOD, keep_going=False)
    assert code == 2
    assert not list(run.out.rglob("RESULT.json"))
    assert "--keep-going measures the other 1" in line
    code, _, (line,) = run(bad, GOOD)
    assert code == 2
    assert "1 failed, 2 measured" in line
    assert bad in line
    assert len(list(run.out.rglob("RESULT.json"))) == 2


def test_where_nothing_fails_it_changes_nothing(run):
    assert run(GOOD)[0] == 0


def test_ranks_are_refused(monkeypatch, capsys):
    monkeypatch.setattr("cosmos_eval.rank_environment.read_world_size", lambda: 2)
    monkeypatch.setattr(
        "cosmos_eval.engine.rank_group.join_rank_group", lambda reporter: type("Two", (), {"is_main": True})()
    )
    assert run_command(["run", "--keep-going"]) == 2
    assert "leave torchrun out" in capsys.readouterr().err
