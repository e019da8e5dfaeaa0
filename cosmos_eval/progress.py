"""Progress of long work, with rate and time left; silent by default so that libraries stay quiet."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar

from cosmos_core.progress import Advance, Reporter, Silent

PATIENCE = 2.0
"""Seconds of work that may pass without a sign of it."""


_shown: ContextVar[Reporter | None] = ContextVar("shown progress", default=None)


@contextmanager
def showing(reporter: Reporter | None) -> Iterator[None]:
    """Inside, `shown_progress` gives this reporter: for readers, which take a definition and a folder and no more."""
    token = _shown.set(reporter or _shown.get())
    try:
        yield
    finally:
        _shown.reset(token)


def shown_progress() -> Reporter:
    """The reporter of the surrounding `showing`; a silent one outside."""
    return _shown.get() or Silent()


_benchmark: ContextVar[str] = ContextVar("benchmark at work", default="")


@contextmanager
def naming(benchmark: str) -> Iterator[None]:
    """Inside, what reporters for people show is named by a benchmark."""
    token = _benchmark.set(benchmark)
    try:
        yield
    finally:
        _benchmark.reset(token)


def named(description: str) -> str:
    """A description with the benchmark that is at work, where there is one."""
    name = _benchmark.get()
    return f"{name}, {description}" if name and name not in description else description


@contextmanager
def after_a_while(
    reporter: Reporter, description: str, total: int, unit: str = "it", patience: float = PATIENCE
) -> Iterator[Advance]:
    """A piece of work, as `Reporter.task`, that shows itself only once it has taken `patience` seconds."""
    start = time.monotonic()
    done = 0
    opened: Advance | None = None
    with ExitStack() as stack:

        def advance(n: int, text: str = "") -> None:
            nonlocal done, opened
            done += n
            if opened is not None:
                opened(n, text)
            elif time.monotonic() - start >= patience:
                opened = stack.enter_context(reporter.task(description, total, unit))
                opened(done, text)

        yield advance
