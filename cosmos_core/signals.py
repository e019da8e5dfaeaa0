"""Stopping a training by signals: Ctrl-C, SIGTERM, and SIGUSR1 of batch systems take effect after the current step.

After the first signal the loop ends its step, writes a checkpoint and raises `Interrupted`. SIGTERM and SIGUSR1 may
arrive several times (a batch system signals torchrun and its ranks, and torchrun signals its ranks); a Ctrl-C after the
first signal quits immediately.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the command line imports this, and must not wait for torch
    from cosmos_core.world import World

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 0}
"""Exit codes. SIGUSR1 is a request for a checkpoint by whoever submitted the job, so writing it is a success."""


ALARM = signal.SIGALRM
GRACE = 5.0
"""Seconds for which the loop still waits for data after a signal."""


class StoppedWaiting(BaseException):
    """The wait for data was ended because of a signal."""


class Interrupted(BaseException):
    """The training has stopped because of a signal; its checkpoint is written, and the same command resumes from it.

    Not an `Exception`, so that error handlers do not catch it.
    """

    def __init__(
        self, number: int, step: int, checkpoint: Path | None, quiet: bool = False, finished: bool = False
    ) -> None:
        self.number = signal.Signals(number)
        self.code = CODES.get(self.number, 128 + number)
        self.checkpoint = checkpoint
        self.quiet = quiet
        """Whether another rank prints the message."""
        where = f"; {checkpoint} holds it" if checkpoint else ""
        advice = ", and the same command goes on from there" if checkpoint and not finished else ""
        note = ", the last" if finished else ""
        super().__init__(f"stopped by {self.number.name} after step {step:,}{note}{where}{advice}")


class Signals:
    """A context in which the three signals request a stop after the current step instead of ending the process.

    While the loop waits for data (`waiting`), which may never arrive, the wait ends with `StoppedWaiting` `GRACE`
    seconds after the first signal. Outside the main thread, where Python cannot set handlers, it has no effect.
    """

    def __init__(self, world: "World") -> None:
        self.world = world
        self.received = 0
        """Number of the first signal; 0: none."""
        self.process = os.getpid()
        self.is_waiting = False
        self.old_handlers: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        for number in CODES:
            try:
                self.old_handlers[number] = signal.signal(number, self.handle_signal)
            except ValueError:  # not in the main thread
                break
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self.old_handlers.items():
            # None: the handler was not set by Python and cannot be restored
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self.old_handlers.clear()

    def handle_signal(self, number: int, frame: FrameType | None) -> None:
        """The handler of all three signals."""
        if os.getpid() != self.process:
            return  # a forked data worker, which its parent ends
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = self.received or number
        if self.is_waiting:
            self.interrupt_wait_later()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """A context for a wait that may never end by itself.

        Raises:
            StoppedWaiting: `GRACE` seconds after a signal the block is still waiting.
        """
        self.is_waiting = bool(self.old_handlers)  # a thread without handlers cannot be interrupted
        if self.is_waiting and self.received:
            self.interrupt_wait_later()
        try:
            yield
        finally:
            self.is_waiting = False
            if self.received and self.old_handlers:
                signal.setitimer(signal.ITIMER_REAL, 0)

    def interrupt_wait_later(self) -> None:
        """Set a timer that interrupts this process, which may be blocked in a read that does not return."""
        if ALARM not in self.old_handlers:
            self.old_handlers[ALARM] = signal.signal(ALARM, self.interrupt_wait)
        signal.setitimer(signal.ITIMER_REAL, GRACE)

    def interrupt_wait(self, number: int, frame: FrameType | None) -> None:
        """The handler of the timer."""
        if self.is_waiting and os.getpid() == self.process:
            self.is_waiting = False
            raise StoppedWaiting

    def stop(self) -> int:
        """The signal on which all ranks stop now, or 0; every rank must call it, and gets the same answer.

        One collective of one number with several ranks, none with one rank.
        """
        return self.first() if self.world.any(bool(self.received)) else 0

    def first(self) -> int:
        """The signal that the first of the ranks that received one did, at least one of them; a collective."""
        return next(number for number in self.world.gather(self.received) if number)
