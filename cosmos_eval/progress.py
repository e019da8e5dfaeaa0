"""Progress of long work, with rate and time left; silent by default so that libraries stay quiet."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int], None]


class Reporter(Protocol):
    """Something that can show how far a piece of work has come."""

    def task(self, description: str, total: int, unit: str = "it") -> AbstractContextManager[Advance]:
        """Open a piece of work of `total` units; the value it gives is called with the number of units just done."""
        ...

    def note(self, line: str) -> None:
        """Show one line that stays."""
        ...


class Silent:
    """Shows nothing."""

    @contextmanager
    def task(self, description: str, total: int, unit: str = "it") -> Iterator[Advance]:
        yield lambda n: None

    def note(self, line: str) -> None:
        pass
