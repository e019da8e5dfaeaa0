"""`--workers auto`: the number by cores, ranks, memory and what there is to decode; workers that fail end no run."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cosmos_core import shared_memory
from cosmos_core.errors import RequestError
from cosmos_eval.datasets.image_sources import ArrayImage, FileImage
from cosmos_eval.engine import worker_count
from cosmos_eval.engine.image_loading import each_image, image_batches
from cosmos_eval.engine.worker_count import AUTO, MOST, WORKER_BYTES, Probe, Workers
from cosmos_eval.progress import Silent
from tests.engine.test_batch_splitter import Notes

GIB = 2**30
MAIN = os.getpid()
IMAGES = [ArrayImage(f"{i}", np.full((4, 4, 3), i, np.uint8)) for i in range(8)]
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="workers must inherit patched functions")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets the cores, memory and shared memory of the machine, and the ranks on it; plenty of each by default."""

    def set_up(cores: int = 8, memory: int | None = 999 * GIB, shared: int | None = 999 * GIB, ranks: int = 1) -> None:
        monkeypatch.setattr(worker_count, "usable_cores", lambda: cores)
        monkeypatch.setattr(worker_count, "free_memory", lambda: memory)
        room = None if shared is None else (shared, shared)
        monkeypatch.setattr(worker_count, "free_and_size", lambda: room)
        monkeypatch.setattr(shared_memory, "free_and_size", lambda: room)
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks))

    set_up()
    return set_up


def chosen(images: int = 10_000, batch: int = 64, seconds: float = 0.01, size: int = 150_528) -> int:
    """What `auto` chooses here for images that take so many seconds, and bytes, each."""
    return Workers.for_this_process(AUTO, Silent(), "cuda").choose(images, batch, lambda: Probe(seconds, size))


def test_a_large_dataset_gets_a_worker_for_each_core_of_its_rank(machine):
    assert chosen() == 8
    machine(cores=8, ranks=4)
    assert chosen() == 2
    machine(cores=8, ranks=16)
    assert chosen() == 0
    machine(cores=512)
    assert chosen(images=10**6) == MOST


def test_where_the_tower_computes_on_the_cpu_it_keeps_most_of_the_cores(machine):
    for cores, number in ((2, 0), (4, 1), (16, 4)):
        machine(cores=cores)
        assert Workers.for_this_process(AUTO, Silent(), "cpu").most == number
    machine(cores=16, ranks=2)
    assert Workers.for_this_process(AUTO, Silent(), "cpu").most == 2


def test_tiny_data_get_none_and_small_data_fewer(machine):
    assert chosen(images=64) == 0  # one batch: nothing to prepare meanwhile
    assert chosen(images=960, seconds=0.0001) == 0  # images in memory: 0.1 s of decoding
    assert chosen(images=300, seconds=0.01) == 3  # 3 s of decoding
    assert chosen(images=129, seconds=1.0) == 3  # three batches


def test_shared_memory_and_memory_limit_the_number(machine):
    batch = 64 * 150_528
    machine(shared=5 * batch)  # two batches of each worker, and one that is in use
    assert chosen() == 2
    machine(shared=5 * batch, ranks=2)
    assert chosen() == 0
    machine(shared=2**17)
    assert chosen(size=1) == 0
    machine(shared=None)  # a system without /dev/shm
    assert chosen() == 8
    machine(memory=2 * (3 * (WORKER_BYTES + 2 * batch) + batch))  # half of it for three workers
    assert chosen() == 3
    machine(memory=0)
    assert chosen() == 0
    machine(memory=None)
    assert chosen() == 8


def test_a_choice_always_passes_the_check_of_shared_memory(machine):
    for batches in range(1, 20):
        machine(shared=batches * 100 * 2**20 // 7)
        number = chosen(batch=1, size=100 * 2**20 // 7)
        memory = shared_memory.shared_memory_for(number, 2, "") if number else None
        assert memory is None or not memory.shortage(100 * 2**20 // 7), (batches, number)


def test_where_processes_are_spawned_or_have_no_children_there_are_none(machine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda allow_none: "spawn")
    assert chosen() == 0
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda allow_none: "fork")
    assert chosen() == 8
    monkeypatch.setattr(multiprocessing.current_process(), "_config", {"daemon": True})
    assert chosen() == 0


def test_a_number_of_the_user_is_kept(machine):
    machine(cores=1, memory=0)
    workers = Workers.for_this_process(5, Silent(), "cpu")
    assert workers.choose(10**6, 1, lambda: None) == 5
    assert workers.choose(128, 64, lambda: None) == 2  # no more than batches
    assert (workers.recorded, workers.used) == (5, 5)


def test_the_largest_choice_of_a_benchmark_is_recorded(machine):
    workers = Workers.for_this_process(AUTO, Silent(), "cuda")
    for images in (300, 600, 10):
        workers.choose(images, 1, lambda: Probe(0.01, 1))
    assert workers.recorded == 6
    workers.start_benchmark()
    assert (workers.recorded, workers.used_in_run) == (0, 6)


def grey(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(image).copy())


def large(image: Image.Image) -> torch.Tensor:
    """256 KiB in a worker, which the probe in the main process does not see."""
    return torch.full((2**16 if os.getpid() != MAIN else 1,), int(np.asarray(image)[0, 0, 0]))


def kill_worker(image: Image.Image) -> torch.Tensor:
    """Dies at the fourth image in a worker."""
    if os.getpid() != MAIN and np.asarray(image)[0, 0, 0] == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return grey(image)


def auto(monkeypatch: pytest.MonkeyPatch, most: int = 2) -> Workers:
    """`auto` on a machine where every number of images is worth that many workers."""
    monkeypatch.setattr(worker_count, "SECONDS_FOR_A_WORKER", 0.0001)
    monkeypatch.setattr("cosmos_eval.engine.image_loading._probe", lambda dataset: Probe(1.0, 48))
    return Workers(None, most, Notes())


def test_batches_are_those_of_any_number_of_workers(machine, monkeypatch: pytest.MonkeyPatch):
    workers = auto(monkeypatch)
    batches = list(image_batches(IMAGES, grey, 3, workers))
    assert workers.used == 2
    expected = list(image_batches(IMAGES, grey, 3, 0))
    assert all(torch.equal(batch, other) for batch, other in zip(batches, expected, strict=True))
    assert len(list(each_image(IMAGES, grey, workers))) == 8


MANY = [ArrayImage(f"{i}", np.full((4, 4, 3), i, np.uint8)) for i in range(70)]


def differ_from_the_thirtieth(image: Image.Image) -> torch.Tensor:
    """In the first batch, and in its third part."""
    pixels = grey(image)
    return pixels if image.getpixel((0, 0))[0] < 30 else pixels.repeat(2, 1, 1)


def test_large_batches_of_a_small_dataset_are_decoded_in_parts_and_stay_the_same(machine):
    """Two workers send parts of 14: a dataset of 70 images in batches of 40 has six."""
    workers = Workers(2)
    assert workers.part_size(70, 40) == 14
    assert workers.choose(70, 14, lambda: None) == 2
    expected = list(image_batches(MANY, grey, 40, 0))
    assert [len(batch) for batch in expected] == [40, 30]
    found = image_batches(MANY, grey, 40, workers)
    assert all(torch.equal(batch, other) for batch, other in zip(found, expected, strict=True))


def test_parts_are_no_smaller_than_needed():
    assert Workers(16).part_size(5000, 512) == 74  # seven parts for each batch, so that all sixteen workers have some
    assert Workers(16).part_size(100_000, 512) == 512
    assert Workers(2).part_size(1000, 8) == 8
    assert Workers(0).part_size(5000, 512) == Workers(1).part_size(5000, 512) == 512


def test_errors_name_the_same_image_in_parts(tmp_path: Path, machine):
    broken = [*MANY[:50], FileImage("a.jpg", tmp_path / "a.jpg"), *MANY[50:]]
    for images, preprocess in ((broken, grey), (MANY, differ_from_the_thirtieth)):
        messages = []
        for workers in (0, 2):
            with pytest.raises(RequestError) as caught:
                list(image_batches(images, preprocess, 40, workers))
            messages.append(str(caught.value))
        assert messages[0] == messages[1]


@pytest.mark.parametrize(
    ("preprocess", "reason"), [(large, "/dev/shm has 1.0 MiB"), (kill_worker, "a worker that decodes images died")]
)
def test_where_workers_fail_this_process_decodes_the_rest(preprocess, reason, machine, monkeypatch: pytest.MonkeyPatch):
    """What a user did not choose is no reason to end a run: neither shared memory that filled up nor a dead worker."""
    workers = auto(monkeypatch)
    machine(shared=2**20)
    batches = list(image_batches(IMAGES, preprocess, 2, workers))
    assert [batch.flatten()[0].item() for batch in batches] == [0, 2, 4, 6]
    (line,) = workers.reporter.lines
    assert line.startswith(reason)
    assert line.endswith("; images are decoded without workers from here on")
    assert "give" not in line
    list(image_batches(IMAGES, preprocess, 2, workers))
    assert len(workers.reporter.lines) == 1  # and no worker is started again


def test_workers_that_cannot_be_started_are_done_without(machine, monkeypatch: pytest.MonkeyPatch):
    def refuse(self: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    workers = auto(monkeypatch)
    monkeypatch.setattr("multiprocessing.process.BaseProcess.start", refuse)
    assert len(list(image_batches(IMAGES, grey, 2, workers))) == 4
    assert "workers do not run here" in workers.reporter.lines[0]
    with pytest.raises(BlockingIOError):
        list(image_batches(IMAGES, grey, 2, 1))


def test_a_bad_first_image_is_reported_as_without_workers(tmp_path: Path, machine):
    (tmp_path / "a.jpg").write_bytes(b"no image")
    images = [FileImage("a.jpg", tmp_path / "a.jpg"), *IMAGES]
    with pytest.raises(RequestError, match=r"a\.jpg"):
        list(image_batches(images, grey, 2, Workers.for_this_process(AUTO, Silent(), "cuda")))


def test_waiting_is_told_from_the_work_on_batches(monkeypatch: pytest.MonkeyPatch):
    clock = iter([0.0, 3.0, 4.0, 4.0, 10.0, 12.0, 12.0])  # 3 and 6 s until a batch is there, 1 and 2 s to encode it
    monkeypatch.setattr(worker_count.time, "perf_counter", lambda: next(clock))
    workers = Workers(0)
    assert list(workers.count_waiting(iter("ab"))) == ["a", "b"]
    assert (workers.waited, workers.elapsed) == (9.0, 12.0)
