"""Processes that tests start: ports, signals, and waiting for what they do."""

import os
import random
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens at, outside of those that systems give to connections.

    A port that the system chooses is free again before the process binds it that it is meant for, and another test may
    be given it meanwhile.
    """
    choose = random.SystemRandom()
    for _ in range(1000):
        port = choose.randrange(10_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("no port is free")


SENT_AFTER_FORK: list[int] = []


@contextmanager
def signals_after_fork(*numbers: int) -> Iterator[None]:
    """Each process that is forked meanwhile sends itself these signals first: they have come before it is set up."""
    SENT_AFTER_FORK.extend(numbers)
    try:
        yield
    finally:
        SENT_AFTER_FORK.clear()


def send_signals() -> None:
    for number in SENT_AFTER_FORK:
        os.kill(os.getpid(), number)


os.register_at_fork(after_in_child=send_signals)


def wait_until(condition: Callable[[], object], *processes: Any) -> None:
    """Wait until it is true; an error where one of the processes has ended before, or after five minutes."""
    end = time.monotonic() + 300
    while not condition():
        alive = all(process.is_alive() for process in processes)
        assert condition() or alive, "a process has ended before"
        assert time.monotonic() < end, "five minutes have passed"
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    """Whether a process has not ended, and is not one whose parent has yet to ask how it did."""
    try:
        os.kill(pid, 0)
        if not Path("/proc/self/stat").exists():
            return True
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # it ends at this moment
        return False


def hear_ctrl_c() -> None:
    """For `preexec_fn`: a child hears SIGINT even where the tests run in the background, where shells ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
