"""Rendezvous of the ranks at rank 0's store, with a timeout and an error that names the missing ranks."""

import os
import socket
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from torch import distributed as dist
from torch.distributed.constants import default_pg_timeout

from cosmos_core.errors import RequestError
from cosmos_core.printable import one_line
from cosmos_core.text_files import parse_integer

DEFAULT_SECONDS = 45.0
"""Default time for which a rank waits for the others."""
VARIABLE = "COSMOS_JOIN_SECONDS"
COLLECTIVE_VARIABLE = "COSMOS_COLLECTIVE_SECONDS"
MOST_NAMED = 8
REFUSAL_KEY = "refused"
"""Key of the store under which a rank writes why the ranks cannot start."""
SECONDS_TO_READ = 2.0
T = TypeVar("T")


def join_group(backend: str, rank: int, size: int, gpu: str = "") -> None:
    """Create torch's default process group of all ranks.

    Args:
        gpu: identifies the GPU of this rank among those of all machines; empty without one.

    Raises:
        RequestError: after at most `join_timeout()` seconds: rank 0 cannot be reached, its port is taken, ranks are
            missing, a rank was started twice, ranks were started with different world sizes, or two have one GPU.
    """
    timeout_of_collectives = collective_timeout(backend)
    seconds = join_timeout()
    end = time.monotonic() + seconds
    address, port = master_address()
    try:
        store = dist.PrefixStore(
            f"cosmos/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", open_store(address, port, rank, size, end)
        )
        wait_for_all_ranks(store, rank, size, end, f"{address}:{port}", gpu)
        # a short timeout up to the first collective; a step may take longer
        timeout = timedelta(seconds=max(5.0, end - time.monotonic()))
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
        dist.barrier()
        dist.distributed_c10d._set_pg_timeout(timeout_of_collectives)
        store.set_timeout(default_pg_timeout)
    except (RuntimeError, ValueError, OSError) as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(f"the ranks cannot find each other ({one_line(error)}); start them with torchrun") from error


def join_timeout() -> float:
    """Seconds for which a rank waits for the others."""
    return read_seconds(VARIABLE) or DEFAULT_SECONDS


def read_seconds(variable: str) -> float | None:
    """The number of seconds in an environment variable; None if it is not set."""
    text = os.environ.get(variable, "")
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 1e6:
        raise RequestError(f"{variable} must be a number of seconds above 0, got {text[:20]!r}")
    return seconds


def collective_timeout(backend: str) -> timedelta:
    """Timeout of a collective: torch's default, unless COSMOS_COLLECTIVE_SECONDS sets it.

    It is for ranks that hang; one that has ended is noticed at once. A rank that reads slow data may need more.
    """
    if (seconds := read_seconds(COLLECTIVE_VARIABLE)) is not None:
        return timedelta(seconds=seconds)
    if backend == "nccl":
        from torch.distributed.constants import default_pg_nccl_timeout

        return default_pg_nccl_timeout or default_pg_timeout
    return default_pg_timeout


def master_address() -> tuple[str, int]:
    """Address and port of rank 0's store, from MASTER_ADDR and MASTER_PORT."""
    address, text = os.environ.get("MASTER_ADDR", "").strip(), os.environ.get("MASTER_PORT", "").strip()
    for name, value in (("MASTER_ADDR", address), ("MASTER_PORT", text)):
        if not value:
            raise RequestError(f"the ranks cannot find each other: {name} is not set; start them with torchrun")
    port = parse_integer(text, 2**16 - 1)
    if not port:
        raise RequestError(f"MASTER_PORT must be a port from 1 to 65535, got {text[:20]!r}")
    try:
        socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise RequestError(
            f"the ranks cannot find each other: MASTER_ADDR={address[:100]!r} is not an address that is known here "
            f"({getattr(error, 'strerror', None) or error}); give the name or the number of rank 0's machine"
        ) from error
    return address, port


def open_store(address: str, port: int, rank: int, size: int, end: float) -> Any:
    """Connect to the store; rank 0 hosts it, unless torchrun's own process does."""
    by_torchrun = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    is_host = rank == 0 and not by_torchrun
    where = f"{address}:{port}"
    if not is_host:
        wait_for_rank_0(address, port, rank, end)
    seconds_left = max(1.0, end - time.monotonic())

    def connect() -> Any:
        return dist.TCPStore(
            address,
            port,
            size,
            is_master=is_host,
            timeout=timedelta(seconds=seconds_left),
            wait_for_workers=False,
            multi_tenant=True,
        )

    try:
        return call_with_timeout(seconds_left, connect)
    except TimeoutError as error:
        raise RequestError(
            f"what listens at {where} (MASTER_ADDR:MASTER_PORT) is not rank 0: another program has that port; set "
            "another MASTER_PORT on all ranks"
        ) from error
    except RuntimeError as error:
        if is_host and ("EADDRINUSE" in str(error) or "in use" in str(error)):
            raise RequestError(
                f"port {port} is in use on this machine by another program or training: set another MASTER_PORT on all "
                "ranks (torchrun --master-port)"
            ) from error
        raise


def wait_for_rank_0(address: str, port: int, rank: int, end: float) -> None:
    """Wait until something listens at rank 0's address; torch itself would print every failed attempt."""
    while True:
        seconds_left = end - time.monotonic()
        if seconds_left <= 0:
            raise RequestError(
                f"rank 0 is missing: rank {rank} could not reach it at {address}:{port} (MASTER_ADDR:MASTER_PORT) "
                f"within {join_timeout():g} s; see whether it was started and why it ended, or set {VARIABLE} "
                "where ranks start slowly"
            )
        try:
            with socket.create_connection((address, port), timeout=min(seconds_left, 5.0)):
                return
        except OSError:
            time.sleep(min(seconds_left, 0.2))


def call_with_timeout(seconds: float, act: Callable[[], T]) -> T:
    """The result of `act`, or TimeoutError; `act` runs in a thread, since it may block forever."""
    answers: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            answers.append(act())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not answers:
        raise TimeoutError
    return answers[0]


def wait_for_all_ranks(store: Any, rank: int, size: int, end: float, where: str, gpu: str = "") -> None:
    """Wait until all ranks have registered in the store; RequestError if one is missing, differs, or shares a GPU."""
    if store.add(f"times/{rank}", 1) > 1:
        raise RequestError(
            f"rank {rank} came to {where} twice: two processes have RANK={rank}, or two trainings use one MASTER_PORT; "
            "start each rank once, and set another MASTER_PORT for a second training"
        )
    store.set(f"gpu/{rank}", gpu)
    store.set(f"size/{rank}", str(size))
    store.add("ranks", 1)
    pause = 0.02
    while not are_all_registered(store, size) and not store.check([REFUSAL_KEY]) and time.monotonic() < end:
        time.sleep(pause)
        pause = min(1.0, 1.5 * pause)
    if store.check([REFUSAL_KEY]):
        refusal = RequestError(store.get(REFUSAL_KEY).decode())
        refusal.quiet = True  # another rank prints it
        raise refusal
    problem = (
        describe_unequal_sizes(store, rank, size) or describe_shared_gpu(store, rank, size)
        if are_all_registered(store, size)
        else describe_missing_ranks(store, size, where)
    )
    if problem:
        store.set(REFUSAL_KEY, problem)
        if rank == 0:
            time.sleep(
                SECONDS_TO_READ
            )  # the store ends with this process: the other ranks must read the message before
        raise RequestError(problem)


def are_all_registered(store: Any, size: int) -> bool:
    return store.add("ranks", 0) >= size and store.check(["size/0"])


def describe_unequal_sizes(store: Any, rank: int, size: int) -> str:
    """Which rank was started with another WORLD_SIZE: rank 0 checks all ranks, and the others check rank 0."""
    for other in range(size if rank == 0 else 1):
        other_size = store.get(f"size/{other}").decode() if store.check([f"size/{other}"]) else "another number"
        if other_size != str(size):
            sizes = f"WORLD_SIZE={other_size} and rank {rank} with {size}"
            return f"rank {other} was started with {sizes}: start all ranks alike"
    return ""


def describe_shared_gpu(store: Any, rank: int, size: int) -> str:
    """Which two ranks have one GPU, which NCCL does not allow; only rank 0 looks."""
    rank_of_gpu: dict[str, int] = {}
    for other in range(size if rank == 0 else 0):
        gpu = store.get(f"gpu/{other}").decode()
        if gpu and gpu in rank_of_gpu:
            return (
                f"ranks {rank_of_gpu[gpu]} and {other} have the same GPU ({gpu}), and each needs its own: let "
                "LOCAL_RANK number the ranks of a machine (torchrun does), and start no more of them than it has GPUs"
            )
        rank_of_gpu[gpu] = other
    return ""


def describe_missing_ranks(store: Any, size: int, where: str) -> str:
    """An error message that names the ranks that have not registered."""
    missing: list[int] = []
    for rank in range(size):
        if not store.check([f"size/{rank}"]):
            missing.append(rank)
            if len(missing) > MOST_NAMED:
                break
    return (
        f"of {size} ranks {list_ranks(missing)} did not reach {where} within {join_timeout():g} s; see whether they "
        f"were started and why they ended, or set {VARIABLE} where ranks start slowly"
    )


def list_ranks(missing: list[int]) -> str:
    more = ", ..." if len(missing) > MOST_NAMED else ""
    return f"rank{'s' * (len(missing) > 1)} {', '.join(map(str, missing[:MOST_NAMED]))}{more}"
