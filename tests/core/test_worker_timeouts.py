"""Workers: room in shared memory, waits that end, and workers that are gone afterwards."""

import os
import signal
import threading
import time
from collections import deque
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from cosmos_core import shared_memory, worker_timeouts
from cosmos_core.errors import RequestError
from cosmos_core.shared_memory import SharedMemory, shared_memory_for
from cosmos_core.worker_timeouts import worker_batches

MIB = 2**20
ROOM = SharedMemory(64 * MIB, 64 * MIB, workers=2, batches=5, no_workers="--workers 0", smaller="--batch-size")


class Numbers(Dataset):
    """Of which number 3 stops its worker, or sleeps."""

    def __init__(self, stops: bool, sleeps: bool) -> None:
        self.stops, self.sleeps = stops, sleeps

    def __len__(self) -> int:
        return 8

    def __getitem__(self, place: int) -> torch.Tensor:
        if self.stops and place == 3:
            time.sleep(1000) if self.sleeps else os.kill(os.getpid(), signal.SIGSTOP)
        return torch.tensor([place])


def loader(stops: bool, sleeps: bool = False) -> DataLoader:
    return DataLoader(Numbers(stops, sleeps), batch_size=None, num_workers=1, timeout=worker_timeouts.SECONDS)


def test_room_is_what_all_batches_that_lie_ready_take(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shared_memory, "free_and_size", lambda: (64 * MIB, 64 * MIB))
    assert ROOM.refusal(12 * MIB, 64) == ""  # 5 of 12 MiB are 60 of 64
    said = ROOM.refusal(16 * MIB, 64)  # 80 of 64: four fifths of the images would fit
    assert "64.0 MiB, 64.0 MiB of them free" in said
    assert "need 80.0 MiB (5 of 16.0 MiB at a time): give --workers 0, --batch-size 51 or less, or a larger" in said
    assert "--batch-size" not in ROOM.refusal(16 * MIB, 1)  # one image is as few as there can be


def test_room_that_others_have_taken_since_is_seen(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shared_memory, "free_and_size", lambda: (1 * MIB, 64 * MIB))
    assert "1.0 MiB of them free" in ROOM.refusal(2 * MIB)


def test_ranks_of_one_machine_share_the_room(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shared_memory, "free_and_size", lambda: (64 * MIB, 64 * MIB))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    found = shared_memory_for(2, 2, "--workers 0")
    assert found is not None
    assert (found.free, found.batches) == (16 * MIB, 5)
    assert shared_memory_for(0, 2, "--workers 0") is None


def test_no_room_for_any_worker_is_refused_before_one_starts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shared_memory, "free_and_size", lambda: (4096, 16384))
    with pytest.raises(RequestError, match=r"^/dev/shm has 0\.0 MiB, .* too little for any worker: give --workers 0"):
        shared_memory_for(1, 2, "--workers 0")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_stopped_worker_is_told_and_ended(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(worker_timeouts, "SECONDS", 1)
    monkeypatch.setattr(worker_timeouts, "STUCK_SECONDS", 2.0)
    with pytest.raises(RequestError, match=r"^the workers have given nothing and done nothing for ") as caught:
        deque(worker_batches(loader(stops=True)), maxlen=0)
    assert "\n" not in str(caught.value)


def test_batches_are_those_of_the_loader_and_workers_end_when_nobody_asks_for_more():
    assert [int(batch) for batch in worker_batches(loader(stops=False))] == list(range(8))
    batches = worker_batches(loader(stops=False))
    next(batches)
    workers = batches.gi_frame.f_locals["iterator"]._workers  # type: ignore[attr-defined]
    batches.close()  # type: ignore[attr-defined]
    assert not any(worker.is_alive() for worker in workers)


def test_a_worker_that_reads_or_computes_is_at_work():
    idle = {1: (10, 500), 2: (20, 0)}
    assert not worker_timeouts.has_worked(idle, {1: (12, 500), 2: (21, 0)})  # looking for work costs a little, too
    assert worker_timeouts.has_worked(idle, {1: (10, 501), 2: (20, 0)})
    assert worker_timeouts.has_worked(idle, {1: (10, 500), 2: (40, 0)})


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_what_is_heard_while_waiting_ends_the_wait(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(worker_timeouts, "SECONDS", 1)

    def heed() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deque(worker_batches(loader(stops=True, sleeps=True), heed), maxlen=0)


def test_a_worker_that_died_with_the_lock_of_the_end_does_not_stop_the_end():
    iterator = iter(loader(stops=False))
    next(iterator)
    assert iterator._workers_done_event._cond.acquire(timeout=120)  # as a worker holds it that is killed while it looks
    ending = threading.Thread(target=worker_timeouts.end_workers, args=(iterator,), daemon=True)
    ending.start()
    ending.join(300)
    assert not ending.is_alive()
