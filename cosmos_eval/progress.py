"""Progress of long work, with rate and time left; silent by default, so that a library call prints nothing."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar

from cosmos_core.progress import Advance, Reporter, Silent

PATIENCE = 2.0
"""Seconds that work may take before it shows its progress."""


_reporter: ContextVar[Reporter | None] = ContextVar("shown progress", default=None)


@contextmanager
def use_reporter(reporter: Reporter | None) -> Iterator[None]:
    """Make `current_reporter` return this reporter inside; None keeps the surrounding one.

    For code whose signature has no place for one: the `load` of dataset readers, the resampling of paired tests.
    """
    token = _reporter.set(reporter or _reporter.get())
    try:
        yield
    finally:
        _reporter.reset(token)


def current_reporter() -> Reporter:
    """Return the reporter of the surrounding `use_reporter`; a silent one outside of it."""
    return _reporter.get() or Silent()


_benchmark: ContextVar[str] = ContextVar("benchmark at work", default="")


@contextmanager
def use_benchmark_name(benchmark: str) -> Iterator[None]:
    """Put the name of a benchmark before all descriptions of progress inside (see `add_benchmark_name`)."""
    token = _benchmark.set(benchmark)
    try:
        yield
    finally:
        _benchmark.reset(token)


def add_benchmark_name(description: str) -> str:
    """Return a description with the name of the current benchmark before it, unless it is in it already."""
    name = _benchmark.get()
    return f"{name}, {description}" if name and name not in description else description


@contextmanager
def report_if_slow(reporter: Reporter, description: str, total: int, unit: str = "it") -> Iterator[Advance]:
    """Report progress like `Reporter.task`, but only if the work takes longer than `PATIENCE` seconds.

    Args:
        reporter: shows the progress.
        description: of the work.
        total: number of units.
        unit: what is counted.

    Yields:
        A function to call with the number of units just done.
    """
    start = time.monotonic()
    done = 0
    shown_task: Advance | None = None
    with ExitStack() as stack:

        def advance(n: int, text: str = "") -> None:
            nonlocal done, shown_task
            done += n
            if shown_task is not None:
                shown_task(n, text)
            elif time.monotonic() - start >= PATIENCE:
                shown_task = stack.enter_context(reporter.task(description, total, unit))
                shown_task(done, text)  # the units that were done before it was shown

        yield advance
