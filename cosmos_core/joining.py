"""How ranks find each other: each comes to rank 0's store within a minute, or all that came say who is missing."""

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
from cosmos_core.text_files import whole_number

SECONDS = 45.0
"""For which a rank waits for the others, unless COSMOS_JOIN_SECONDS says otherwise."""
VARIABLE = "COSMOS_JOIN_SECONDS"
MOST_NAMED = 8
REFUSED = "refused"
"""Key of the store under which a rank says why they cannot begin."""
SECONDS_TO_READ = 2.0
T = TypeVar("T")


def join_group(backend: str, rank: int, size: int) -> None:
    """Make torch's default group of all ranks.

    Raises:
        RequestError: in one line, after `patience()` seconds at most: rank 0 cannot be reached, its port is taken,
            ranks are missing, one came twice, or they were started with different numbers of ranks.
    """
    seconds = patience()
    end = time.monotonic() + seconds
    address, port = master()
    try:
        store = dist.PrefixStore(
            f"cosmos/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", open_store(address, port, rank, size, end)
        )
        meet(store, rank, size, end, f"{address}:{port}")
        # everything up to the first collective has the short patience; a step may take longer than that
        left = timedelta(seconds=max(5.0, end - time.monotonic()))
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=left)
        dist.barrier()
        dist.distributed_c10d._set_pg_timeout(collective_timeout(backend))
        store.set_timeout(default_pg_timeout)
    except (RuntimeError, ValueError, OSError) as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(f"the ranks cannot find each other ({one_line(error)}); start them with torchrun") from error


def patience() -> float:
    """Seconds for which a rank waits for the others."""
    text = os.environ.get(VARIABLE, "")
    try:
        seconds = float(text) if text else SECONDS
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 1e6:
        raise RequestError(f"{VARIABLE} must be a number of seconds above 0, got {text[:20]!r}")
    return seconds


def collective_timeout(backend: str) -> timedelta:
    """How long a collective waits: torch's own default. A rank that is gone is noticed at once, this one is for those
    that hang."""
    if backend == "nccl":
        from torch.distributed.constants import default_pg_nccl_timeout

        return default_pg_nccl_timeout or default_pg_timeout
    return default_pg_timeout


def master() -> tuple[str, int]:
    """Where rank 0's store is: MASTER_ADDR and MASTER_PORT."""
    address, text = os.environ.get("MASTER_ADDR", "").strip(), os.environ.get("MASTER_PORT", "").strip()
    for name, value in (("MASTER_ADDR", address), ("MASTER_PORT", text)):
        if not value:
            raise RequestError(f"the ranks cannot find each other: {name} is not set; start them with torchrun")
    port = whole_number(text, 2**16 - 1)
    if not port:
        raise RequestError(f"MASTER_PORT must be a port from 1 to 65535, got {text[:20]!r}")
    try:
        socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise RequestError(
            f"the ranks cannot find each other: MASTER_ADDR={address[:100]!r} is no address that is known here "
            f"({getattr(error, 'strerror', None) or error}); give the name or the number of rank 0's machine"
        ) from error
    return address, port


def open_store(address: str, port: int, rank: int, size: int, end: float) -> Any:
    """The store that rank 0, or torchrun's own process, keeps."""
    by_torchrun = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    keeps = rank == 0 and not by_torchrun
    place = f"{address}:{port}"
    if not keeps:
        reach(address, port, rank, end)
    left = max(1.0, end - time.monotonic())

    def connect() -> Any:
        return dist.TCPStore(
            address,
            port,
            size,
            is_master=keeps,
            timeout=timedelta(seconds=left),
            wait_for_workers=False,
            multi_tenant=True,
        )

    try:
        return within(left, connect)
    except TimeoutError as error:
        raise RequestError(
            f"what listens at {place} (MASTER_ADDR:MASTER_PORT) is not rank 0: another program has that port; set "
            "another MASTER_PORT on all ranks"
        ) from error
    except RuntimeError as error:
        if keeps and ("EADDRINUSE" in str(error) or "in use" in str(error)):
            raise RequestError(
                f"port {port} is in use on this machine by another program or training: set another MASTER_PORT on all "
                "ranks (torchrun --master-port)"
            ) from error
        raise


def reach(address: str, port: int, rank: int, end: float) -> None:
    """Wait until something listens where rank 0 should; torch itself would fill the screen with its attempts."""
    while True:
        left = end - time.monotonic()
        if left <= 0:
            raise RequestError(
                f"rank 0 is missing: rank {rank} could not reach it at {address}:{port} (MASTER_ADDR:MASTER_PORT) "
                f"within {patience():g} s; see whether it was started and why it ended, or set {VARIABLE} where ranks "
                "start slowly"
            )
        try:
            with socket.create_connection((address, port), timeout=min(left, 5.0)):
                return
        except OSError:
            time.sleep(min(left, 0.2))


def within(seconds: float, act: Callable[[], T]) -> T:
    """What `act` gives, or TimeoutError: it may wait for ever for a program that answers nothing."""
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


def meet(store: Any, rank: int, size: int, end: float, place: str) -> None:
    """Wait until all ranks have come to the store."""
    if store.add(f"times/{rank}", 1) > 1:
        raise RequestError(
            f"rank {rank} came to {place} twice: two processes have RANK={rank}, or two trainings use one MASTER_PORT; "
            "start each rank once, and set another MASTER_PORT for a second training"
        )
    store.set(f"size/{rank}", str(size))
    store.add("ranks", 1)
    pause = 0.02
    while not all_there(store, size) and not store.check([REFUSED]) and time.monotonic() < end:
        time.sleep(pause)
        pause = min(1.0, 1.5 * pause)
    if store.check([REFUSED]):
        refusal = RequestError(store.get(REFUSED).decode())
        refusal.quiet = True  # another rank says it
        raise refusal
    problem = unequal_sizes(store, rank, size) if all_there(store, size) else missing_ranks(store, size, place)
    if problem:
        store.set(REFUSED, problem)
        if rank == 0:
            time.sleep(SECONDS_TO_READ)  # the store ends with this process
        raise RequestError(problem)


def all_there(store: Any, size: int) -> bool:
    return store.add("ranks", 0) >= size and store.check(["size/0"])


def unequal_sizes(store: Any, rank: int, size: int) -> str:
    """Which rank was started with another WORLD_SIZE: rank 0 looks at all, and all others at rank 0."""
    for other in range(size if rank == 0 else 1):
        its = store.get(f"size/{other}").decode() if store.check([f"size/{other}"]) else "another number"
        if its != str(size):
            return f"rank {other} was started with WORLD_SIZE={its} and rank {rank} with {size}: start all ranks alike"
    return ""


def missing_ranks(store: Any, size: int, place: str) -> str:
    """Which ranks have not come."""
    missing: list[int] = []
    for rank in range(size):
        if not store.check([f"size/{rank}"]):
            missing.append(rank)
            if len(missing) > MOST_NAMED:
                break
    return (
        f"of {size} ranks {in_words(missing)} did not come to {place} within {patience():g} s; see whether they were "
        f"started and why they ended, or set {VARIABLE} where ranks start slowly"
    )


def in_words(missing: list[int]) -> str:
    more = ", ..." if len(missing) > MOST_NAMED else ""
    return f"rank{'s' * (len(missing) > 1)} {', '.join(map(str, missing[:MOST_NAMED]))}{more}"
