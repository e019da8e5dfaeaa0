"""How ranks find each other: whatever keeps one away is told in one line, soon, and by the rank's number."""

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import distributed as dist

from cosmos_core import rendezvous
from cosmos_core.errors import RequestError
from cosmos_core.rank_environment import RankEnvironment, rank_environment
from cosmos_core.rank_errors import is_lost_rank_error, is_nccl_error
from cosmos_core.rendezvous import collective_timeout, join_group, open_store, wait_for_all_ranks, wait_for_rank_0
from cosmos_core.world import World, join_world

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "COSMOS_JOIN_SECONDS")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(rendezvous, "SECONDS_TO_READ", 0.0)


def refused(act) -> str:
    with pytest.raises(RequestError) as caught:
        act()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"RANK": "0"}, "RANK is set and WORLD_SIZE is not"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE is set and RANK is not"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK=2 must be below WORLD_SIZE=2"),
        ({"RANK": "0", "WORLD_SIZE": "0"}, "RANK=0 must be below WORLD_SIZE=0"),
        ({"RANK": "-1", "WORLD_SIZE": "2"}, "must be whole numbers, got RANK='-1'"),
        ({"RANK": "1.0", "WORLD_SIZE": "two"}, "must be whole numbers, got RANK='1.0', WORLD_SIZE='two'"),
        ({"RANK": "0", "WORLD_SIZE": "9" * 5000}, "must be whole numbers, got WORLD_SIZE='99999999999999999999'"),
        ({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": ""}, "must be whole numbers, got LOCAL_RANK=''"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "cannot find each other: MASTER_ADDR is not set"),
        ({"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}, "MASTER_PORT is not set"),
        (
            {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "70000"},
            "a port from 1 to 65535, got '70000'",
        ),
        (
            {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "no.such.host.invalid", "MASTER_PORT": "29500"},
            "MASTER_ADDR='no.such.host.invalid' is not an address that is known here",
        ),
        (
            {"RANK": "1", "WORLD_SIZE": "2", "COSMOS_JOIN_SECONDS": "nan"},
            "COSMOS_JOIN_SECONDS must be a number of seconds above 0, got 'nan'",
        ),
    ],
)
def test_variables_that_name_no_rank_are_refused_in_one_line(variables: dict[str, str], said: str, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert said in refused(lambda: join_world("cpu"))


def test_a_process_without_variables_or_the_only_rank_is_alone(monkeypatch):
    assert rank_environment() is None
    assert join_world("cpu") == World()
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", " 1 ")
    assert rank_environment() == RankEnvironment(0, 1, None)
    assert join_world("cpu") == World()


def test_on_cards_a_rank_must_know_its_place_on_the_machine(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert refused(lambda: join_world("cuda")).startswith("LOCAL_RANK is not set")


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A program that takes connections and answers nothing."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(5)
        yield taken


def test_a_port_that_another_program_has_is_told_by_the_rank_that_wants_it(listener):
    port = listener.getsockname()[1]
    line = refused(lambda: open_store("127.0.0.1", port, 0, 2, time.monotonic() + 120))
    assert line.startswith(f"port {port} is in use on this machine")


def test_a_program_that_is_no_rank_is_no_endless_wait(listener):
    port = listener.getsockname()[1]
    line = refused(lambda: open_store("127.0.0.1", port, 1, 2, time.monotonic() + 1.0))
    assert "is not rank 0: another program has that port" in line


def test_an_absent_rank_0_is_missing(listener, monkeypatch):
    port = listener.getsockname()[1]
    listener.close()
    monkeypatch.setenv("COSMOS_JOIN_SECONDS", "0.3")
    line = refused(lambda: wait_for_rank_0("127.0.0.1", port, 3, time.monotonic() + 0.3))
    assert line.startswith(f"rank 0 is missing: rank 3 could not reach it at 127.0.0.1:{port}")
    assert "within 0.3 s" in line


class Meeting:
    """A store where none of its ranks goes on before all of them have registered: threads may begin late."""

    def __init__(self, ranks: int) -> None:
        self.store, self.all_registered = dist.HashStore(), threading.Barrier(ranks, timeout=120)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def add(self, key: str, number: int) -> int:
        count = self.store.add(key, number)
        if (key, number) == ("ranks", 1):
            self.all_registered.wait()
        return count


def met(*ranks: tuple[int, int], seconds: float = 120.0, gpus: Sequence[str] = (), store: Any = None) -> dict[int, str]:
    """What (rank, size) each says that come to one store at once."""
    store, said = store or dist.HashStore(), {}

    def come(place: int, rank: int, size: int) -> None:
        try:
            gpu = gpus[place] if gpus else ""
            wait_for_all_ranks(store, rank, size, time.monotonic() + seconds, "host:29500", gpu)
            said[place] = ""
        except RequestError as error:
            said[place] = str(error)

    threads = [threading.Thread(target=come, args=(place, *one)) for place, one in enumerate(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return said


def test_ranks_that_all_come_begin():
    assert met((0, 3), (1, 3), (2, 3)) == {0: "", 1: "", 2: ""}


def test_two_ranks_on_one_gpu_are_told_before_nccl_starts():
    ranks = (0, 3), (1, 3), (2, 3)
    assert set(met(*ranks, gpus=["a, 1", "a, 2", "b, 1"]).values()) == {""}
    said = met(*ranks, gpus=["a, 1", "a, 2", "a, 1"])
    assert said[0].startswith("ranks 0 and 2 have the same GPU (a, 1), and each needs its own: let LOCAL_RANK number")


def test_the_time_for_a_collective_can_be_set(monkeypatch):
    default = collective_timeout("gloo")
    monkeypatch.setenv("COSMOS_COLLECTIVE_SECONDS", "7200")
    assert collective_timeout("gloo").total_seconds() == collective_timeout("nccl").total_seconds() == 7200
    monkeypatch.setenv("COSMOS_COLLECTIVE_SECONDS", "soon")
    assert refused(lambda: collective_timeout("gloo")) == (
        "COSMOS_COLLECTIVE_SECONDS must be a number of seconds above 0, got 'soon'"
    )
    monkeypatch.delenv("COSMOS_COLLECTIVE_SECONDS")
    assert collective_timeout("gloo") == default


@pytest.mark.parametrize(
    ("text", "lost", "nccl"),
    [
        ("Duplicate GPU detected : rank 0 and rank 1 both on CUDA device 1000, NCCL error", False, True),
        ("NCCL error: unhandled cuda error, ncclUnhandledCudaError: Call to CUDA function failed", False, True),
        (
            "NCCL error: ncclRemoteError: A call failed, possibly a remote process exiting early",
            True,
            False,
        ),
        ("NCCL communicator was aborted on rank 1", True, False),
        (
            "[1] is setting up NCCL communicator and retrieving ncclUniqueId from [0] via c10d key-value store by key "
            "'0', but store->get('0') got error: wait timeout after 45000ms",
            True,
            False,
        ),
        ("[Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=7)", True, False),
        ("[../gloo/transport/tcp/pair.cc] Connection closed by peer [127.0.0.1]:29500", True, False),
        ("Expected all tensors to be on the same device", False, False),
    ],
)
def test_an_error_of_nccl_keeps_its_cause_unless_a_rank_is_gone(text: str, lost: bool, nccl: bool):
    for error in (RuntimeError(text), dist.DistBackendError(text)):
        if lost or nccl or type(error) is RuntimeError:
            assert (is_lost_rank_error(error), is_nccl_error(error)) == (lost, nccl)


def test_no_gpu_and_a_gpu_of_another_rank_are_refused_before_ranks_meet(monkeypatch):
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert refused(lambda: join_world("cuda")) == "no device cuda: torch sees no CUDA device; set device=cpu"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert refused(lambda: join_world("cuda:0")).startswith(
        "device=cuda:0 is one GPU, and rank 1 of 2 needs its own, which is cuda:1: set device=cuda"
    )


def test_ranks_wait_for_each_other_on_their_own_gpu(monkeypatch):
    seen = []
    monkeypatch.setattr(dist, "barrier", lambda device_ids: seen.append(device_ids))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    for backend in ("nccl", "gloo"):
        monkeypatch.setattr(dist, "get_backend", lambda backend=backend: backend)
        World(4, 8, 3).barrier()
    assert seen == [[3], None]


def test_those_that_came_say_who_is_missing():
    said = met((0, 4), (2, 4), seconds=0.2, store=Meeting(2))
    assert all("of 4 ranks ranks 1, 3 did not reach host:29500" in line for line in said.values())
    said = met((1, 20), seconds=0.2)
    assert "ranks 0, 2, 3, 4, 5, 6, 7, 8, ... did not reach" in said[0]


def test_one_rank_that_comes_twice_and_unequal_numbers_are_told():
    said = met((0, 2), (0, 2), seconds=0.3)
    assert sum("rank 0 came to host:29500 twice" in line for line in said.values()) == 1
    for sizes in ((2, 3), (3, 2)):
        said = met((0, sizes[0]), (1, sizes[1]))
        assert all("was started with WORLD_SIZE=" in line for line in said.values()), said


def test_a_fault_of_torch_on_the_way_is_one_line(monkeypatch):
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "29500")

    def fail_with(text: str) -> str:
        def fail(*_: object) -> None:
            raise RuntimeError(text)

        monkeypatch.setattr(rendezvous, "open_store", fail)
        return refused(lambda: join_group("gloo", 0, 2))

    assert "cannot find each other (gloo: no device)" in fail_with("gloo:\nno device")
    # the ranks have found each other: starting them in another way would not help
    assert fail_with("NCCL error: unhandled cuda error") == (
        "NCCL failed on rank 0 (NCCL error: unhandled cuda error); NCCL_DEBUG=INFO tells more"
    )
