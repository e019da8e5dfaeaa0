"""Being asked to stop: Ctrl-C, SIGTERM, and SIGUSR1 as batch systems send it, heeded after the step in progress.

The first of them asks; the loop ends its step, writes a checkpoint and raises `Interrupted`. SIGTERM and SIGUSR1 may
come several times (a batch system signals torchrun and its ranks, and torchrun signals its ranks); a Ctrl-C after the
first signal quits at once.
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
"""Exit codes. SIGUSR1 is a request of the person who submitted the job, and writing the checkpoint fulfils it."""


ALARM = signal.SIGALRM
GRACE = 5.0
"""Seconds that data have to come after a signal."""


class StoppedWaiting(BaseException):
    """A wait for data was given up since a signal asked for a stop."""


class Interrupted(BaseException):
    """The training was asked to stop and has: its checkpoint is written, and the same command goes on from there.

    No `Exception`, so that nothing that handles faults takes it for one.
    """

    def __init__(
        self, number: int, step: int, checkpoint: Path | None, quiet: bool = False, finished: bool = False
    ) -> None:
        self.number = signal.Signals(number)
        self.code = CODES.get(self.number, 128 + number)
        self.checkpoint = checkpoint
        self.quiet = quiet
        """Whether another rank says it."""
        where = f"; {checkpoint} holds it" if checkpoint else ""
        goes_on = ", and the same command goes on from there" if checkpoint and not finished else ""
        last = ", the last" if finished else ""
        super().__init__(f"stopped by {self.number.name} after step {step:,}{last}{where}{goes_on}")


class Signals:
    """While open, the three signals ask for a stop after the step instead of ending the process.

    While the loop waits for data (`waiting`), which may never come, the wait ends as `StoppedWaiting` `GRACE` seconds
    after the first signal. Outside the main thread, where Python has no handlers, it hears nothing and signals stay as
    they are.
    """

    def __init__(self, world: "World") -> None:
        self.world = world
        self.received = 0
        """Number of the first signal; 0: none came."""
        self.process = os.getpid()
        self.is_waiting = False
        self.before: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        for number in CODES:
            try:
                self.before[number] = signal.signal(number, self.hear)
            except ValueError:  # not in the main thread
                break
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self.before.items():
            # None: it was set by something else than Python, and cannot be put back from here
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self.before.clear()

    def hear(self, number: int, frame: FrameType | None) -> None:
        """The handler of all three."""
        if os.getpid() != self.process:
            return  # forked off for data: whoever started it ends it
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = self.received or number
        if self.is_waiting:
            self.end_the_wait_later()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """While the block waits for something that may never come.

        Raises:
            StoppedWaiting: a signal came, and `GRACE` seconds later the block still waits.
        """
        self.is_waiting = bool(self.before)  # a thread without handlers cannot be interrupted
        if self.is_waiting and self.received:
            self.end_the_wait_later()
        try:
            yield
        finally:
            self.is_waiting = False
            if self.received and self.before:
                signal.setitimer(signal.ITIMER_REAL, 0)

    def end_the_wait_later(self) -> None:
        """Have the system interrupt this process: what it waits for may be a read that nothing else ends."""
        if ALARM not in self.before:
            self.before[ALARM] = signal.signal(ALARM, self.end_the_wait)
        signal.setitimer(signal.ITIMER_REAL, GRACE)

    def end_the_wait(self, number: int, frame: FrameType | None) -> None:
        """The handler of the alarm."""
        if self.is_waiting and os.getpid() == self.process:
            self.is_waiting = False
            raise StoppedWaiting

    def stop(self) -> int:
        """The signal on which all ranks stop now, or 0; every rank must ask after each step and gets the same answer.

        One collective of one number where there are several ranks, none where there is one.
        """
        if not self.world.any(bool(self.received)):
            return 0
        return next(number for number in self.world.gather(self.received) if number)
