"""The lock of a run directory: one process at a time, and one that was killed keeps nobody out."""

import json
import multiprocessing
import os
import signal
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from cosmos_core import file_locks, run_lock
from cosmos_core.errors import RequestError
from cosmos_core.files import (
    TEMPORARY,
    atomic_path,
    atomic_write_text,
    current_umask,
    remove_leftovers,
    temporary_folder,
)
from cosmos_core.run_lock import LOCK, RunLock, is_alive, locked, one_writer, process_record

FORK = multiprocessing.get_context("fork")


def in_a_child(act) -> None:
    """Run `act` in a forked process, and end it there by SIGKILL."""

    child = os.fork()
    if not child:
        try:
            act()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def test_a_second_holder_is_refused_in_one_line_that_names_the_first(tmp_path: Path):
    with locked(tmp_path / "run"):
        with pytest.raises(RequestError) as caught:
            RunLock(tmp_path / "run", advice="give another --out")
        assert f"process {os.getpid()} on {socket.gethostname()} since 20" in str(caught.value)
        assert str(caught.value).endswith("; give another --out")
        assert "\n" not in str(caught.value)
    assert list((tmp_path / "run").iterdir()) == []
    with locked(tmp_path / "run") as lock:
        assert not lock.was_killed


def test_the_lock_of_a_process_that_was_killed_is_taken_over_and_told(tmp_path: Path):
    in_a_child(lambda: RunLock(tmp_path))
    assert (tmp_path / LOCK).exists()
    with locked(tmp_path) as lock:
        assert lock.was_killed
    assert not (tmp_path / LOCK).exists()


def test_a_worker_that_outlives_its_killed_parent_keeps_no_lock(tmp_path: Path):
    read, write = os.pipe()

    def work() -> None:
        RunLock(tmp_path)
        if os.fork() == 0:
            os.write(write, f"{os.getpid()}\n".encode())
            time.sleep(600)

    in_a_child(work)
    worker = int(os.read(read, 20))
    try:
        with locked(tmp_path) as lock:
            assert lock.was_killed
    finally:
        os.kill(worker, signal.SIGKILL)


def test_without_locks_of_the_system_the_process_number_and_its_start_decide(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(file_locks, "fcntl", None)
    with locked(tmp_path), pytest.raises(RequestError, match=rf"if that process is gone, delete .*{LOCK}"):
        RunLock(tmp_path)
    in_a_child(lambda: RunLock(tmp_path))
    with locked(tmp_path) as lock:
        assert lock.was_killed
    own = process_record()
    assert is_alive(own)
    assert not is_alive({**own, "process_start": "1"})  # another process has its number by now
    assert not is_alive({**own, "pid": -1})
    assert is_alive({**own, "host": "another", "pid": 1})  # cannot be known from here
    (tmp_path / LOCK).write_text(json.dumps({**own, "host": "another"}))
    with pytest.raises(RequestError, match="on another since"):
        RunLock(tmp_path)


@pytest.mark.parametrize("content", ["", "?", "[" * 100_000, '{"pid": ' + "9" * 5000 + "}"])
def test_a_lock_file_with_anything_in_it_is_taken_over(tmp_path: Path, content: str):
    (tmp_path / LOCK).write_text(content)
    with locked(tmp_path):
        assert run_lock.read_record(tmp_path / LOCK)["pid"] == os.getpid()


def leave_half_written(folder: Path) -> None:
    """What a process leaves that is killed while it writes a file and a folder."""

    def work() -> None:
        stack = ExitStack()
        stack.enter_context(atomic_path(folder / "table.csv")).write_text("half")
        (stack.enter_context(temporary_folder(folder / "data")) / "part").write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)

    in_a_child(work)


def test_what_a_killed_process_left_goes_when_the_next_one_writes_there(tmp_path: Path):
    leave_half_written(tmp_path)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert [name[:11] for name in left] == [".data." + left[0][6:11], ".table.csv."]
    assert all(TEMPORARY.fullmatch(name) for name in left)
    (tmp_path / ".mine.tmp").write_text("not ours")
    atomic_write_text(tmp_path / "other.csv", "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mine.tmp", "other.csv"]


def test_what_another_process_is_writing_stays(tmp_path: Path):
    with atomic_path(tmp_path / "a.txt") as temporary, temporary_folder(tmp_path / "b") as stage:
        process = FORK.Process(target=remove_leftovers, args=(tmp_path,))
        process.start()
        process.join(300)
        assert temporary.exists()
        assert stage.exists()
        temporary.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_of_another_host_only_what_nobody_touched_for_a_day_goes(tmp_path: Path):
    (tmp_path / ".a.pt.ffffff-abcdefgh.tmp").write_text("of a host whose locks may not be seen here")
    (tmp_path / ".b.pt.ffffff-abcdefgh.tmp").write_text("the same, old")
    os.utime(tmp_path / ".b.pt.ffffff-abcdefgh.tmp", (0, 0))
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".a.pt.ffffff-abcdefgh.tmp"]


def test_a_long_name_leaves_room_for_the_temporary_one(tmp_path: Path):
    for name in ("x" * 250, "ä" * 125):
        atomic_write_text(tmp_path / name, "whole")
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.skipif(not Path("/proc/thread-self/status").exists(), reason="needs /proc")
def test_the_umask_is_asked_for_without_changing_it_for_other_threads(monkeypatch):
    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "umask", lambda mask: pytest.fail("a file that another thread makes now is everybody's"))
            assert current_umask() == 0o027
    finally:
        os.umask(before)


def test_one_process_at_a_time_writes_a_result_and_no_file_is_left(tmp_path: Path):
    def write(seconds: float) -> None:
        with one_writer(tmp_path / "benchmark", seconds):
            pass

    with one_writer(tmp_path / "benchmark"), pytest.raises(RequestError, match="another process has been writing to"):
        write(0.05)
    with one_writer(tmp_path / "benchmark"):
        assert list((tmp_path / "benchmark").iterdir()) == []
