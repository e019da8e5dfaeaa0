"""A training that is killed at a file operation and started again ends as one that nobody disturbed; a sample of the
operations that `benchmarks/kills.py` goes through one by one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks.crash_chains import kill_at_points
from benchmarks.crash_points import run_to_point
from benchmarks.crash_training import SCENARIOS, find_problems, import_training


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Before processes are forked from this one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    import_training()
    yield
    torch.set_num_threads(before)


def write_and_rename() -> None:
    Path("new").write_bytes(b"12345678")
    Path("new").replace("whole")


def test_each_operation_is_a_point_and_the_process_dies_before_it(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_to_point(write_and_rename, tmp_path) == ["open new", "write new", "replace whole"]
    (tmp_path / "whole").unlink()
    for kill_at, left in ((1, {}), (2, {"new": b"1234"}), (3, {"new": b"12345678"})):
        assert run_to_point(write_and_rename, tmp_path, kill_at) == -9
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == left


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_trainings_that_are_killed_anywhere_end_alike(scenario, tmp_path: Path):
    tally = kill_at_points(scenario, tmp_path, most=2, several=1, seed=13)
    assert tally.points > 100
    assert tally.kills >= 3
    assert tally.faults() == []


def test_the_harness_sees_a_last_pt_that_is_not_the_newest(tmp_path: Path):
    (tmp_path / "run").mkdir()
    for name, step in (("step-00000002.pt", 2), ("last.pt", 1)):
        torch.save({"student": {}, "step": step}, tmp_path / "run" / name)
    assert "last.pt is of step 1, and there is step 2" in find_problems(tmp_path)
