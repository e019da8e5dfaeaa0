"""Shows progress: a rich bar in a terminal, one line that is rewritten in a notebook, plain lines in a log."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from threading import Event, Thread
from typing import TYPE_CHECKING, TextIO

from cosmos_core.errors import RequestError
from cosmos_core.printable import printable
from cosmos_eval.progress import Advance, Reporter, Silent, add_benchmark_name

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

SECONDS_BETWEEN_LINES = 10.0


SECONDS_BETWEEN_UPDATES = 0.2
"""Of the line in a notebook: each one is a message to the browser."""


def make_reporter() -> Reporter:
    """A bar where standard error is a terminal, lines where it is not. Data goes to standard output, progress never."""
    return RichReporter() if sys.stderr.isatty() else LineReporter(sys.stderr)


def choose_reporter(progress: bool | str) -> Reporter:
    """Choose how a call from Python shows its progress.

    Args:
        progress: True shows it, False does not; "auto" shows it in a terminal or a notebook.

    Raises:
        RequestError: another value.
    """
    if progress not in (True, False, "auto"):
        raise RequestError(f"progress must be True, False or 'auto', not {progress!r:.60}")
    if is_notebook() and progress:
        return StatusLineReporter(sys.stdout)
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    if progress is True or (progress and is_terminal):
        return make_reporter()
    return Silent()


def is_notebook() -> bool:
    """Whether this process is the kernel of a notebook; IPython is not imported for the question."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


class LineReporter:
    """Plain lines: one after the first step of what will take long, one every ten seconds, also while a step takes
    longer than that, and one at the end with the rate; short nested tasks print nothing."""

    def __init__(self, stream: TextIO, every: float = SECONDS_BETWEEN_LINES) -> None:
        self.stream = stream
        self.every = every
        self.open = 0

    @contextmanager
    def task(self, description: str, total: int, unit: str = "it") -> Iterator[Advance]:
        description = add_benchmark_name(description)
        start = last = time.monotonic()
        done, reported = 0, -1
        detail = ""
        over = Event()

        def line() -> str:
            return progress_line(description, done, total, unit, time.monotonic() - start, detail)

        def advance(n: int, text: str = "") -> None:
            nonlocal done, detail
            first = not done
            done += n
            detail = text or detail
            now = time.monotonic()
            takes_long = first and 0 < done < total and (now - start) * total / done >= self.every
            if now - last >= self.every or takes_long:
                report()

        def report() -> None:
            nonlocal last, reported
            last, reported = time.monotonic(), done
            self.note(line())

        def report_long_steps() -> None:
            while not over.wait(max(0.1, last + self.every - time.monotonic())):
                if self.open == depth and time.monotonic() - last >= self.every:  # else a nested task reports
                    report()

        self.open += 1
        depth = self.open
        if self.every >= 1:
            Thread(target=report_long_steps, daemon=True).start()
        try:
            yield advance
        finally:
            self.open -= 1
            over.set()
        if reported < done and (not self.open or time.monotonic() - start >= self.every):
            report()

    def note(self, line: str) -> None:
        print(printable(line), file=self.stream, flush=True)


def progress_line(description: str, done: int, total: int, unit: str, seconds: float, detail: str = "") -> str:
    """The state of a task in one line, with its rate and the time left."""
    rate = done / seconds if seconds > 0 else 0.0
    time_left = f", {duration((total - done) / rate)} left" if rate > 0 and done < total else ""
    words = f"; {detail}" if detail else ""
    return f"{description}: {done:,}/{total:,} {unit}, {rate:,.1f} {unit}/s, {duration(seconds)}{time_left}{words}"


class StatusLineReporter:
    """One line that is rewritten, by a carriage return alone, and gone when the work is done: notebooks show it without
    widgets. A nested task takes the line over until it ends."""

    def __init__(self, stream: TextIO, every: float = SECONDS_BETWEEN_UPDATES) -> None:
        self.stream = stream
        self.every = every
        self.width = 0
        self.open = 0

    @contextmanager
    def task(self, description: str, total: int, unit: str = "it") -> Iterator[Advance]:
        description = add_benchmark_name(description)
        start = last = time.monotonic()
        done, detail = 0, ""

        def advance(n: int, text: str = "") -> None:
            nonlocal done, detail, last
            done, detail = done + n, text or detail
            now = time.monotonic()
            if now - last >= self.every:
                last = now
                self._write(progress_line(description, done, total, unit, now - start, detail))

        self.open += 1
        try:
            yield advance
        finally:
            self.open -= 1
            if not self.open:
                self._write("")

    def note(self, line: str) -> None:
        self._write("")
        print(printable(line), file=self.stream, flush=True)

    def _write(self, line: str) -> None:
        """Replace the line; what is left of a longer one is overwritten by spaces."""
        text = printable(line)
        if text or self.width:
            print(f"\r{text.ljust(self.width)}", end="" if text else "\r", file=self.stream, flush=True)
        self.width = len(text)


class RichReporter:
    """A bar with rate and time left, gone when its work is done; a nested task gets a bar below."""

    def __init__(self, console: "Console | None" = None) -> None:
        from rich.console import Console

        self.console = console or Console(stderr=True)
        self.open: Progress | None = None

    @contextmanager
    def task(self, description: str, total: int, unit: str = "it") -> Iterator[Advance]:
        # rich allows one live display: a nested task adds its bar to the open one
        outermost = self.open is None
        bars = self.open = self.open or make_bars(self.console)
        task = bars.add_task(printable(add_benchmark_name(description)), total=total, unit=unit, detail="")

        def advance(n: int, text: str = "") -> None:
            bars.advance(task, n)
            if text:
                bars.update(task, detail=printable(text))

        try:
            with bars if outermost else nullcontext():
                yield advance
        finally:
            if outermost:
                self.open = None
            else:
                bars.remove_task(task)

    def note(self, line: str) -> None:
        self.console.print(printable(line), markup=False, highlight=False)


def make_bars(console: "Console") -> "Progress":
    """Bars that disappear when they are done; each task has `unit`, and `detail` for its last message."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed or mean_speed(task)
            return Text("" if not speed else f"{speed:,.1f} {task.fields['unit']}/s", style="cyan")

    class Left(ProgressColumn):
        """As rich's own, which waits for a second step."""

        def render(self, task: Task) -> Text:
            speed = task.speed or mean_speed(task)
            return Text(duration((task.remaining or 0) / speed) if speed else "-", style="cyan")

    def mean_speed(task: Task) -> float:
        return task.completed / task.elapsed if task.elapsed else 0.0

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeElapsedColumn(),
        TextColumn("eta"),
        Left(),
        TextColumn("{task.fields[detail]}", markup=False, style="dim"),
    )
    return Progress(*columns, console=console, transient=True)


def duration(seconds: float) -> str:
    """Seconds as people read them: 7 s, 2 min 5 s, 1 h 3 min."""
    total_seconds = round(seconds)
    if total_seconds < 60:
        return f"{total_seconds} s"
    minutes, rest = divmod(total_seconds, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"
