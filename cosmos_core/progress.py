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
    """Something that can show how far a piece of work has come."""

    def task(self, description: str, total: int, unit: str = "it") -> AbstractContextManager[Advance]:
        """Open a piece of work of `total` units; the value it gives is called with the number of units just done."""
        ...

    def note(self, line: str) -> None:
        """Show one line that stays."""
        ...


def silent(n: int, text: str = "") -> None:
    """The progress of work that nobody watches."""


class Silent:
    """A reporter that shows nothing."""

    @contextmanager
    def task(self, description: str, total: int, unit: str = "it") -> Iterator[Advance]:
        yield silent

    def note(self, line: str) -> None:
        pass
