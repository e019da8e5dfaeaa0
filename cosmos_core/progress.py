"""Progress of long work: the caller passes a reporter; nothing is reported without one."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Advance(Protocol):
    """Called with the number of units just done, and sometimes with a short text about the state of the work."""

    def __call__(self, n: int, text: str = "") -> None:
        """`text` is shown until the next one comes; empty keeps the last."""
        ...


class Reporter(Protocol):
    """Shows the progress of pieces of work, for example as a bar."""

    def task(self, description: str, total: int, unit: str = "it") -> AbstractContextManager[Advance]:
        """Open a piece of work of `total` units; its context value is called with each number of units just done."""
        ...

    def note(self, line: str) -> None:
        """Show one line, which is not overwritten by later progress."""
        ...


def silent(n: int, text: str = "") -> None:
    """Ignore progress: the `Advance` of `Silent`."""


class Silent:
    """A reporter that shows nothing."""

    @contextmanager
    def task(self, description: str, total: int, unit: str = "it") -> Iterator[Advance]:
        yield silent

    def note(self, line: str) -> None:
        pass
