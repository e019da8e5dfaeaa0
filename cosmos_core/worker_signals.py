"""Starting the workers of a DataLoader: one that is not set up yet does not answer a signal to all processes.

Terminals and batch systems send their signals to every process of a job. A worker that has just been forked would
answer them as its parent does: it would print a traceback, or die of what it is to ignore.
"""

import signal
from typing import Any

NUMBERS = {getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)}


def start_workers(loader: Any) -> Any:
    """The iterator of a DataLoader, whose workers get no signal before their `worker_init_fn` calls `hear_signals`.

    Signals to this process that arrive meanwhile take effect afterwards.
    """
    if not loader.num_workers or not hasattr(signal, "pthread_sigmask"):
        return iter(loader)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)
    try:
        return iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def hear_signals() -> None:
    """In a worker that has its own handlers: take the signals that have arrived since it was forked, and later ones."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, NUMBERS)
