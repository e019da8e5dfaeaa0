"""What happens on a pretended card: launched kernels, copies, and moments when the host waits for it.

It has one queue, so that streams and events only say when the host waits.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
VIEW_OPERATIONS = {
    "_reshape_alias", "_unsafe_view", "alias", "as_strided", "chunk", "detach", "diagonal", "expand", "lift_fresh",
    "permute", "select", "slice", "split", "split_with_sizes", "squeeze", "t", "transpose", "unbind", "unfold",
    "unsqueeze", "view",
}  # fmt: skip
"""Operations that launch nothing."""


class Card:
    """What happened on the pretended card: counts by what and where."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.device = torch.device(kind, 0)
        self.kernels: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()
        """Moments when the host waits for the card, as `reason at file:line`."""
        self.late_waits: Counter[str] = Counter()
        """Moments when the host waits for earlier work, while the card computes what was queued after it."""
        self.launched_before_waits: list[int] = []
        """For each wait of both kinds, in their order, how many kernels were launched before it."""
        self.copies: Counter[str] = Counter()
        """Copies to and from the card, as `direction at file:line`."""

    def launch(self, name: str) -> None:
        if name not in VIEW_OPERATIONS:
            self.kernels[name] += 1

    def wait_for_event(self, launched_before: int) -> None:
        """Waiting for earlier work is late if the card has other work to do meanwhile, else the card waits, too."""
        if self.launched() > launched_before:
            self.launched_before_waits.append(self.launched())
            self.late_waits[f"event at {calling_line()}"] += 1
        else:
            self.wait("event")

    def launched(self) -> int:
        return self.kernels.total()

    def wait(self, reason: str) -> None:
        self.launched_before_waits.append(self.launched())
        self.waits[f"{reason} at {calling_line()}"] += 1

    def copy(self, direction: str) -> None:
        self.copies[f"{direction} at {calling_line()}"] += 1

    def waits_in(self, part: str) -> int:
        """The number of waits whose place contains `part`, such as a file's name."""
        return sum(count for place, count in self.waits.items() if part in place)


def calling_line() -> str:
    """File and line of the project's innermost frame outside of the tests."""
    frame = sys._getframe(2)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(ROOT) and not path.is_relative_to(ROOT / "tests"):
            return f"{path.relative_to(ROOT)}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "elsewhere"


_card: Card | None = None


def card() -> Card:
    """The card of the surrounding `pretended_card`."""
    assert _card is not None
    return _card


@contextmanager
def recorded(kind: str) -> Iterator[Card]:
    """Inside, `card()` is a new card of this kind."""
    global _card
    _card = Card(kind)
    try:
        yield _card
    finally:
        _card = None


class Event:
    """A mark in the queue of the card."""

    def __init__(self, *_args: Any, **_options: Any) -> None:
        self.launched = 0

    def record(self, _stream: Any = None) -> None:
        self.launched = card().launched()

    def synchronize(self) -> None:
        card().wait_for_event(self.launched)


class Stream:
    """A stream of the pretended card; there is one queue all the same."""

    def __init__(self, *_args: Any, **_options: Any) -> None:
        pass

    def wait_stream(self, stream: Any) -> None:
        assert isinstance(stream, Stream)
