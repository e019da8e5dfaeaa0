"""A training that is killed at any moment and started again ends with bit-identical weights and logs."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cosmos_core.checkpoint import read_file
from tests.helpers.killing import (
    SAVING,
    Kill,
    differences,
    ended,
    final_state,
    metrics,
    start,
    start_ranks,
    write_preset,
    write_shards,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    write_shards(folder)
    write_preset(folder)
    return folder


@pytest.fixture(scope="module")
def whole(world: Path, tmp_path_factory) -> Path:
    """A run that is not killed."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert ended(start(command(world, out))) == 0
    return out


def command(world: Path, out: Path, *changes: str) -> list[str]:
    sets = [part for change in changes for part in ("--set", change)]
    return ["train", str(world / "tiny.yaml"), "--out", str(out), *sets]


def assert_equal(ours: Path, theirs: Path) -> None:
    """Parameters of student and teacher, momenta, counters, the position in the data and the log are bit-identical."""
    assert differences(final_state(ours), final_state(theirs)) == []
    assert differences(metrics(ours), metrics(theirs)) == []
    assert not list(ours.glob("*.tmp")) + list(ours.glob(".*.tmp"))


def test_two_runs_of_one_command_are_bit_identical(world: Path, whole: Path, tmp_path: Path):
    assert ended(start(command(world, tmp_path / "run"))) == 0
    assert_equal(tmp_path / "run", whole)
    lines = metrics(whole)
    assert [line["step"] for line in lines] == list(range(1, 25))
    assert len({line["loss"] for line in lines}) == 24  # it does learn, so equality is not trivial
    assert lines[-1]["epoch"] == 1
    assert [len(one) for one in read_file(whole / "last.pt")["skipped"]] == [3]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_killed_at_random_moments_ends_bit_identical(world: Path, whole: Path, tmp_path: Path, workers: int):
    draw, out, kills, saved = random.Random(workers), tmp_path / "run", 0, 0
    while kills < 7 and saved < 20:
        # a few steps after the last checkpoint, at a random point of the step, the log, the save or the next step
        kill = Kill(step=saved + draw.randint(1, 3), calls=draw.randint(1, 60_000))
        assert ended(start(command(world, out, f"workers={workers}"), kill)) == -signal.SIGKILL
        kills += 1
        saved = max((int(path.stem[5:]) for path in out.glob("step-*.pt")), default=0)
    assert kills >= 5
    assert ended(start(command(world, out, f"workers={workers}"))) == 0
    assert_equal(out, whole)


def test_a_run_killed_while_it_saves_ends_bit_identical(world: Path, whole: Path, tmp_path: Path):
    out = tmp_path / "run"
    for point in SAVING:
        assert ended(start(command(world, out), Kill(save=2, point=point))) == -signal.SIGKILL
        assert len(list(out.glob(".last.pt.*.tmp"))) == (point in SAVING[:2])  # half a file, or not renamed yet
        read_file(out / "last.pt")
    assert ended(start(command(world, out))) == 0
    assert_equal(out, whole)


def test_a_run_resumes_with_other_workers_and_other_save_intervals(world: Path, whole: Path, tmp_path: Path):
    out = tmp_path / "run"
    assert ended(start(command(world, out, "workers=1"), Kill(step=8))) == -signal.SIGKILL
    changes = ("workers=2", "save_every=5", "keep=1", "log_every=1")
    assert ended(start(command(world, out, *changes), Kill(step=19))) == -signal.SIGKILL
    assert ended(start(command(world, out))) == 0
    assert_equal(out, whole)


def test_a_run_with_a_damaged_checkpoint_resumes_from_the_one_before(world: Path, whole: Path, tmp_path: Path):
    out, log = tmp_path / "run", tmp_path / "log"
    assert ended(start(command(world, out), Kill(step=15))) == -signal.SIGKILL
    newest = max(out.glob("step-*.pt"))
    newest.write_bytes(newest.read_bytes()[:20_000])
    assert ended(start(command(world, out), log=log)) == 0
    assert f"{newest.name}.broken" in log.read_text()
    assert_equal(out, whole)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 0), (signal.SIGINT, 130)])
def test_a_signal_finishes_the_step_saves_and_exits(world: Path, whole: Path, tmp_path: Path, number: int, code: int):
    out, log = tmp_path / "run", tmp_path / "log"
    assert ended(start(command(world, out, "workers=1"), Kill(step=11, number=number), log)) == code
    assert read_file(out / "last.pt")["step"] == 11
    (line,) = [line for line in log.read_text().splitlines() if line.startswith("cosmos-eval: ")]
    assert signal.Signals(number).name in line
    assert "after step 11" in line
    assert "goes on from there" in line
    assert ended(start(command(world, out))) == 0
    assert_equal(out, whole)


def test_a_second_ctrl_c_quits_at_once_and_keeps_the_last_checkpoint(world: Path, whole: Path, tmp_path: Path):
    out = tmp_path / "run"

    assert ended(start(command(world, out), Kill(step=11, number=signal.SIGINT, times=2))) == 130
    assert read_file(out / "last.pt")["step"] == 10
    assert ended(start(command(world, out))) == 0
    assert_equal(out, whole)


def test_a_finished_run_is_not_repeated_and_not_replaced(world: Path, whole: Path, tmp_path: Path):
    out, log = tmp_path / "run", tmp_path / "log"
    shutil.copytree(whole, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    for changes, message in (((), "finished training of 24 steps"), (("lr=0.5",), "lr 0.001 there and 0.5 here")):
        log.unlink(missing_ok=True)
        assert ended(start(command(world, out, *changes), log=log)) == 2
        (line,) = log.read_text().splitlines()
        assert message in line
        assert "--overwrite" in line
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert ended(start([*command(world, out), "--overwrite"])) == 0
    assert_equal(out, whole)


def test_two_killed_ranks_end_bit_identical(world: Path, tmp_path: Path):
    def run(out: Path, kills: dict[int, Kill] | None = None) -> list[int]:
        ranks = start_ranks(command(world, out, "steps=16"), 2, kills)
        if kills:
            # where one is gone, the other may notice it before its own kill
            assert -signal.SIGKILL in [ended(ranks[rank]) for rank in kills]
            for rank in ranks:  # as torchrun does once one of them is gone
                rank.kill()
        return [ended(rank) for rank in ranks]

    assert run(tmp_path / "whole") == [0, 0]
    run(tmp_path / "run", {1: Kill(step=5)})
    run(tmp_path / "run", {0: Kill(step=14), 1: Kill(step=14)})
    assert run(tmp_path / "run") == [0, 0]
    assert_equal(tmp_path / "run", tmp_path / "whole")


def test_a_signal_to_one_rank_stops_both_at_the_same_step_and_one_process_resumes(world: Path, whole: Path, tmp_path):
    out, log = tmp_path / "run", tmp_path / "log"
    ranks = start_ranks(command(world, out), 2, {1: Kill(step=11, number=signal.SIGTERM)}, log)
    assert [ended(rank) for rank in ranks] == [143, 143]
    assert read_file(out / "last.pt")["step"] == 11
    lines = [line for line in log.read_text().splitlines() if line.startswith("cosmos-eval: ")]
    assert len(lines) == 1
    assert ended(start(command(world, out), log=log)) == 0
    assert "ranks 2 before and 1 now" in log.read_text()
    # the same samples and random draws; sums over ranks are added in another order
    assert [line["step"] for line in metrics(out)] == list(range(1, 25))
    for ours, theirs in zip(metrics(out), metrics(whole), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-3)


def test_a_failed_rank_ends_both_with_its_message_and_keeps_the_last_checkpoint(world: Path, tmp_path: Path):
    out, logs = tmp_path / "run", [tmp_path / "0", tmp_path / "1"]
    kill = Kill(step=11, error="the disk of this rank is gone")
    ranks = start_ranks(command(world, out), 2, {1: kill}, logs=logs)
    assert [ended(rank) for rank in ranks] == [2, 2]
    messages = [[line for line in log.read_text().splitlines() if line.startswith("cosmos-eval: ")] for log in logs]
    assert messages[1] == ["cosmos-eval: rank 1: the disk of this rank is gone"]
    assert len(messages[0]) == 1
    assert "another rank has ended, and its own message says why" in messages[0][0]
    assert read_file(out / "last.pt")["step"] == 10


def test_a_run_with_moved_shards_resumes(world: Path, whole: Path, tmp_path: Path):
    out, moved = tmp_path / "run", tmp_path / "moved"
    assert ended(start(command(world, out), Kill(step=9))) == -signal.SIGKILL
    shutil.copytree(world, moved)
    write_preset(moved)
    assert ended(start(command(moved, out))) == 0
    assert_equal(out, whole)


def test_a_run_does_not_resume_with_other_shards_in_a_folder_of_the_same_name(world: Path, tmp_path: Path):
    out, log, other = tmp_path / "run", tmp_path / "log", tmp_path / "other"
    assert ended(start(command(world, out), Kill(step=9))) == -signal.SIGKILL
    write_shards(other, samples=24)
    write_preset(other)
    assert ended(start(command(other, out), log=log)) == 2
    (line,) = [line for line in log.read_text().splitlines() if line.startswith("cosmos-eval: ")]
    assert "the checkpoint is of other data" in line or "is of a run of" in line


def test_a_full_disk_loses_neither_the_checkpoint_before_nor_the_run(
    world: Path, whole: Path, small_disk: Path, tmp_path: Path
):
    out, log = small_disk / "run", tmp_path / "log"
    assert ended(start(command(world, out), log=log)) == 2  # one checkpoint fits, and a second one beside it does not
    lines = log.read_text().splitlines()
    notes = [line for line in lines if "the training goes on" in line]
    assert len(notes) == 10
    assert all("No space left on device" in line and "step-00000002.pt is kept" in line for line in notes)
    (line,) = [line for line in lines if line.startswith("cosmos-eval: ")]
    assert "the checkpoint of step 24 could not be written" in line
    assert "step-00000002.pt is kept; make room" in line
    assert sorted(path.name for path in out.iterdir()) == ["last.pt", "metrics.jsonl", "step-00000002.pt"]
    assert len(metrics(out)) == 24

    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    assert ended(start(command(world, out))) == 0
    assert_equal(out, whole)


@pytest.mark.slow
def test_under_torchrun_sigterm_saves_and_the_same_command_resumes(world: Path, tmp_path: Path):
    def torchrun(out: Path) -> subprocess.Popen:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        arguments = command(world, out, "steps=200", "save_every=10")
        return subprocess.Popen(
            [*launcher, "-m", "cosmos_eval", *arguments], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
        )

    whole = torchrun(tmp_path / "whole")
    whole.communicate(timeout=600)
    assert whole.returncode == 0
    out = tmp_path / "run"
    for earliest in (10, 60):
        stopped = torchrun(out)
        deadline = time.monotonic() + 300
        while not (out / f"step-{earliest:08d}.pt").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        stopped.terminate()
        _, err = stopped.communicate(timeout=120)
        assert "stopped by SIGTERM after step" in err
        assert err.count("cosmos-eval: ") == 1
        step = read_file(out / "last.pt")["step"]
        assert earliest <= step < 200
        assert [line["step"] for line in metrics(out)] == list(range(1, step + 1))
    again = torchrun(out)
    again.communicate(timeout=600)
    assert again.returncode == 0
    assert_equal(out, tmp_path / "whole")
