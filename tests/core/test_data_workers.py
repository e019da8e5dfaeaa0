"""Worker processes: whose signals they hear, what they leave alone, how they end."""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from cosmos_core.data import open_loader
from cosmos_core.data.loader import LaneLoader
from cosmos_core.data.samples import BrokenSample, load_image
from cosmos_core.errors import RequestError
from tests.core.test_data import samples
from tests.core.test_data_loader import CONFIG, TOKENIZER, VIEWS, content
from tests.helpers.processes import is_running, signals_after_fork, wait_until

TWO = replace(CONFIG, workers=2)


def processes(loader: LaneLoader) -> list[int]:
    return [process.pid for pool in loader.worker_pools for process in pool.iterator._workers]


def test_torch_s_random_generator_is_left_alone():
    before = torch.get_rng_state()
    loader = open_loader(TWO, VIEWS, TOKENIZER, samples(16))
    next(loader.batches())
    loader.close()
    assert torch.equal(torch.get_rng_state(), before)


def test_signals_meant_for_the_trainer_do_not_end_a_worker():
    loader = open_loader(TWO, VIEWS, TOKENIZER, samples(64))
    assert isinstance(loader, LaneLoader)
    expected = [content(b) for b in islice(open_loader(CONFIG, VIEWS, TOKENIZER, samples(64)).batches(), 8)]
    stream = loader.batches()
    found = [content(next(stream))]
    for pid in processes(loader):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            os.kill(pid, number)
    found += [content(batch) for batch in islice(stream, 7)]
    loader.close()
    assert found == expected


def test_signals_that_come_before_a_worker_is_set_up_do_not_end_it():
    expected = [content(b) for b in islice(open_loader(CONFIG, VIEWS, TOKENIZER, samples(16)).batches(), 2)]
    with signals_after_fork(signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        loader = open_loader(TWO, VIEWS, TOKENIZER, samples(16))
        found = [content(batch) for batch in islice(loader.batches(), 2)]
    loader.close()
    assert found == expected


def test_closing_ends_the_workers_and_can_be_done_twice():
    loader = open_loader(TWO, VIEWS, TOKENIZER, samples(16))
    assert isinstance(loader, LaneLoader)
    next(stream := loader.batches())
    workers = processes(loader)
    assert len(workers) == 2
    loader.close()
    loader.close()
    del stream
    wait_until(lambda: not any(map(is_running, workers)))


def test_a_worker_that_is_killed_is_one_line():
    loader = open_loader(TWO, VIEWS, TOKENIZER, samples(16))
    assert isinstance(loader, LaneLoader)
    stream = loader.batches()
    next(stream)
    os.kill(processes(loader)[0], signal.SIGKILL)
    with pytest.raises(RequestError, match=r"^a worker that decodes images died .* fewer workers; ") as caught:
        deque(islice(stream, 20), maxlen=0)
    loader.close()
    assert "\n" not in str(caught.value)


class Refusing(Sequence):
    """Records of which one asks for something that cannot be."""

    def __len__(self) -> int:
        return 16

    def __getitem__(self, place):
        if place == 3:
            raise RequestError("record 3 is out of reach: bring it nearer")
        return samples(16)[place]


def test_a_refusal_in_a_worker_is_the_same_one_line():
    for workers in (0, 2):
        loader = open_loader(replace(CONFIG, workers=workers), VIEWS, TOKENIZER, Refusing())
        with pytest.raises(RequestError, match=r"^record 3 is out of reach: bring it nearer$"):
            list(islice(loader.batches(), 2))
        loader.close()


PROGRAM = """
import os, sys
import torch
from tests.core.test_data import samples
from tests.core.test_data_loader import TOKENIZER, VIEWS
from tests.core.test_data_workers import TWO, processes
from cosmos_core.data import open_loader

if "full" in sys.argv[1]:  # more than a pipe holds: the workers stand in the middle of a write
    TOKENIZER = lambda texts: torch.zeros(len(texts), 20_000, dtype=torch.int64)
loader = open_loader(TWO, VIEWS, TOKENIZER, samples(64))
stream = loader.batches()
next(stream)
print(*processes(loader), flush=True)
if "killed" in sys.argv[1]:
    sys.stdin.read()
"""


@pytest.mark.parametrize("end", ["returns", "is killed", "is killed while its pipes are full"])
def test_workers_end_with_a_trainer_that_does_not_close_them(end: str):
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, end],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout is not None
    line = child.stdout.readline()
    workers = [int(pid) for pid in line.split()]
    if "killed" in end:
        time.sleep(1 if "full" in end else 0)
        child.kill()
    _, errors = child.communicate()
    assert len(workers) == 2, errors
    wait_until(lambda: not any(map(is_running, workers)))
    if end == "returns":
        assert (child.returncode, errors) == (0, "")


def test_batches_that_shared_memory_has_no_room_for_are_refused_in_one_line(monkeypatch):
    monkeypatch.setattr("cosmos_core.shared_memory.MIN_FREE_BYTES", 0)
    monkeypatch.setattr("cosmos_core.shared_memory.free_and_size", lambda: (1000, 2**20))
    loader = open_loader(TWO, VIEWS, TOKENIZER, samples(16))
    with pytest.raises(
        RequestError, match=r"^/dev/shm has 1\.0 MiB, .* from 2 workers need .*: give workers=0"
    ) as caught:
        next(loader.batches())
    assert "\n" not in str(caught.value)
    loader.close()


def test_an_image_that_is_a_named_pipe_is_a_broken_sample_and_never_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(BrokenSample, match="is a named pipe, not a regular file"):
        load_image(tmp_path / "pipe.jpg", "key")
