"""Checkpoints of a run: when, which stay, which one is gone on from, and what a full or dying disk may do to them."""

import copy
import errno
import os
import random
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cosmos_core.checkpoint import load_checkpoint, read_file
from cosmos_core.config import TrainConfig
from cosmos_core.errors import RequestError
from cosmos_core.model import COSMOS
from cosmos_core.run_state import read_training_config
from cosmos_core.schedule import parameter_groups
from cosmos_core.snapshots import Snapshots
from cosmos_core.step import Run
from cosmos_core.train import initial_model
from cosmos_core.world import World
from tests.core.test_train import CONFIG, weights


def same(a: Any, b: Any) -> bool:
    """Equal to the bit, whatever is nested in what."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


@cache
def model_of(seed: int) -> COSMOS:
    return initial_model(CONFIG.model, seed)


def some_run(seed: int = 0, step: int = 0, steps: int = 100, config: TrainConfig = CONFIG, momenta: bool = True) -> Run:
    """A run as it may be after `step` steps."""
    student, teacher = copy.deepcopy(model_of(seed)), copy.deepcopy(model_of(seed + 100))
    optimizer = torch.optim.AdamW(parameter_groups(student, 0.1), lr=1e-3)
    if momenta:
        torch.stack([parameter.square().sum() for parameter in student.parameters()]).sum().backward()
        optimizer.step()
    return Run(config, student, teacher, optimizer, steps, step=step, epoch=step // 10)


def state_of(run: Run) -> list[Any]:
    return [weights(run.student), weights(run.teacher), run.optimizer.state_dict(), run.step, run.epoch, run.skipped]


class Notes(list[str]):
    def __call__(self, line: str) -> None:
        assert "\n" not in line
        self.append(line)


def snapshots(out: Path, notes: Notes | None = None, world: World | None = None, **settings: Any) -> Snapshots:
    return Snapshots(out, replace(CONFIG, **settings), world, Notes() if notes is None else notes)


def names(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir())


def saved(out: Path, *steps: int, **settings: Any) -> Snapshots:
    """A folder with checkpoints of these steps."""
    folder = snapshots(out, **settings)
    for step in steps:
        assert folder.save(some_run(step, step), {"lane 0": step}) == out / f"step-{step:08d}.pt"
    return folder


def test_a_run_comes_back_bit_for_bit_with_its_place_in_the_data(tmp_path: Path):
    run = some_run(1, step=30)
    run.skipped["a/1"] = "no words"
    run.skipped_steps, run.skipped_in_a_row = 3, 1
    run.scaler = torch.amp.GradScaler("cpu", init_scale=4096.0)
    place = {"0": {"shard": 3, "sample": 17, "buffer": ["a", "b"]}, "1": {"shard": 4, "sample": 0, "buffer": []}}
    path = snapshots(tmp_path).save(run, place)
    assert path == tmp_path / "step-00000030.pt"

    notes = Notes()
    other = some_run(2, momenta=False)
    other.skipped["of another life"] = "?"
    other.scaler = torch.amp.GradScaler("cpu")
    parameters = list(other.student.parameters())
    assert snapshots(tmp_path, notes).restore(other, path) == place
    assert same(state_of(other), state_of(run))
    assert other.scaler.get_scale() == 4096.0
    assert (other.skipped_steps, other.skipped_in_a_row) == (3, 1)
    assert all(a is b for a, b in zip(other.student.parameters(), parameters, strict=True))  # the optimizer's own
    assert len(notes) == 1
    assert "step 30 of 100" in notes[0]


def test_what_was_restored_does_not_hang_on_the_file(tmp_path: Path):
    path = snapshots(tmp_path).save(some_run(1, step=30), {})
    run = some_run(2)
    snapshots(tmp_path).restore(run, path)
    before = [value.clone() for state in run.optimizer.state.values() for value in state.values()]
    content = bytearray(path.read_bytes())
    content[:] = bytes(len(content))
    with path.open("r+b") as file:
        file.write(content)
    after = [value for state in run.optimizer.state.values() for value in state.values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_global_generators_of_this_process_come_back(tmp_path: Path):
    def draws() -> list[float]:
        return [torch.rand(1).item(), random.random(), float(np.random.rand()), random.gauss(0, 1)]

    draws()
    path = snapshots(tmp_path).save(some_run(step=1), {})
    expected = draws()
    assert draws() != expected
    snapshots(tmp_path).restore(some_run(), path)
    assert draws() == expected


def test_a_checkpoint_is_an_ordinary_one_that_anything_loads(tmp_path: Path):
    run = some_run(step=30)
    path = snapshots(tmp_path).save(run, {})
    for name in ("student", "teacher"):
        assert same(weights(load_checkpoint(path, name)), weights(getattr(run, name)))
    content = torch.load(path, weights_only=True)
    assert list(content)[:6] == ["epoch", "name", "config", "student", "teacher", "optimizer"]
    assert read_training_config(content, "it") == run.config


def test_last_names_the_newest_and_takes_no_room_of_its_own(tmp_path: Path):
    saved(tmp_path, 10, 20)
    assert names(tmp_path) == ["last.pt", "step-00000010.pt", "step-00000020.pt"]
    assert (tmp_path / "last.pt").samefile(tmp_path / "step-00000020.pt")


def test_last_is_a_copy_where_the_file_system_has_no_links(tmp_path: Path, monkeypatch):
    def refuse(self: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    saved(tmp_path, 10, 20)
    assert names(tmp_path) == ["last.pt", "step-00000010.pt", "step-00000020.pt"]
    assert (tmp_path / "last.pt").read_bytes() == (tmp_path / "step-00000020.pt").read_bytes()
    assert snapshots(tmp_path).latest() == tmp_path / "step-00000020.pt"


@pytest.mark.parametrize(
    ("keep", "keep_every", "stay"),
    [(2, 0, [40, 50]), (1, 20, [20, 40, 50]), (0, 0, [10, 20, 30, 40, 50]), (3, 10, [10, 20, 30, 40, 50])],
)
def test_the_newest_stay_and_multiples_for_good(tmp_path: Path, keep: int, keep_every: int, stay: list[int]):
    (tmp_path / "step-notes.pt").write_bytes(b"mine")
    saved(tmp_path, 10, 20, 30, 40, 50, keep=keep, keep_every=keep_every)
    assert [step for step, _ in reversed(snapshots(tmp_path).step_files())] == stay
    assert (tmp_path / "step-notes.pt").exists()
    assert read_file(tmp_path / "last.pt")["step"] == 50


def test_checkpoints_are_due_by_steps(tmp_path: Path):
    by_steps, never = snapshots(tmp_path, save_every=3), snapshots(tmp_path)
    due = []
    for step in range(1, 8):
        assert not never.due(step)
        due.append(by_steps.due(step))
    assert due == [False, False, True, False, False, True, False]


def test_checkpoints_are_due_by_minutes_which_begin_anew_with_each(tmp_path: Path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    run, by_time = some_run(step=1), snapshots(tmp_path, save_minutes=2.0)
    now[0] += 119
    assert not by_time.due_by_time()
    now[0] += 1
    assert by_time.due_by_time()
    by_time.save(run, {})
    run.step = 2
    assert not by_time.due_by_time()


class Second(World):
    """The second of two ranks, whose first one answers as told."""

    def __init__(self, first: Any) -> None:
        super().__init__(rank=1, size=2)
        object.__setattr__(self, "first", first)

    def gather(self, value: Any) -> list[Any]:
        return [self.first, value]  # type: ignore[attr-defined]


def test_minutes_are_the_first_ranks(tmp_path: Path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    first, second = (snapshots(tmp_path, world=world, save_minutes=1.0) for world in (World(size=2), Second(None)))
    now[0] = 60.0
    assert first.due_by_time()
    assert not second.due_by_time()


def test_only_the_first_rank_touches_the_disk(tmp_path: Path):
    folder = snapshots(tmp_path, world=Second(("", "")))
    folder.world.__dict__["first"] = {"data": {"0": 1}, "skipped": {}, "rng": {}}
    answers = iter([[{"data": {"0": 1}, "skipped": {}, "rng": {}}] * 2, [("", ""), None]])
    object.__setattr__(folder.world, "gather", lambda value: next(answers))
    assert folder.save(some_run(step=5), {"1": 2}) == tmp_path / "step-00000005.pt"
    assert names(tmp_path) == []


def test_one_step_is_written_once(tmp_path: Path):
    folder = saved(tmp_path, 10)
    before = (tmp_path / "step-00000010.pt").stat().st_mtime_ns
    folder.save(some_run(step=10), {})
    assert (tmp_path / "step-00000010.pt").stat().st_mtime_ns == before


def full(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_save_that_fails_is_noted_and_the_next_one_tried(tmp_path: Path, monkeypatch):
    notes = Notes()
    folder = snapshots(tmp_path, notes)
    folder.save(some_run(1, step=10), {})
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert folder.save(some_run(1, step=20), {}) is None
    assert len(notes) == 1
    assert "step 20" in notes[0]
    assert "No space left on device" in notes[0]
    assert "step-00000010.pt is kept" in notes[0]
    assert names(tmp_path) == ["last.pt", "step-00000010.pt"]
    assert snapshots(tmp_path).latest() == tmp_path / "step-00000010.pt"
    folder.save(some_run(1, step=30), {})
    assert read_file(tmp_path / "last.pt")["step"] == 30


def test_the_last_save_that_fails_is_an_error_that_names_what_stands(tmp_path: Path, monkeypatch):
    folder = saved(tmp_path, 90)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RequestError, match=r"step 100 could not .* step-00000090\.pt is kept; make room") as caught:
        folder.save(some_run(step=100), {}, last=True)
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == ["last.pt", "step-00000090.pt"]


def test_a_disk_that_is_really_full_keeps_the_checkpoint_before(small_disk: Path):
    notes = Notes()
    folder = snapshots(small_disk, notes)
    run = some_run(step=10, momenta=False)
    folder.save(run, {})
    size = (small_disk / "last.pt").stat().st_size
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    (small_disk / "filler").write_bytes(b"x" * (free - size // 2))
    before = (small_disk / "last.pt").read_bytes()
    run.step = 20
    assert folder.save(run, {}) is None
    assert "step-00000010.pt is kept" in notes[0]
    assert names(small_disk) == ["filler", "last.pt", "step-00000010.pt"]
    assert (small_disk / "last.pt").read_bytes() == before
    with pytest.raises(RequestError, match="make room"):
        folder.save(run, {}, last=True)
    (small_disk / "filler").unlink()
    assert folder.save(run, {}, last=True) == small_disk / "step-00000020.pt"


def test_a_folder_that_may_not_be_written_is_told_in_one_line(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RequestError, match=r"could not be written .*there is no older one"):
        snapshots(tmp_path / "file").save(some_run(step=1), {}, last=True)
