"""Shows progress: a rich bar in a terminal, a plain line every few seconds in a log."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from threading import Event, Thread
from typing import TYPE_CHECKING, TextIO

from cosmos_core.printable import printable
from cosmos_eval.progress import Advance, Reporter, add_benchmark_name

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

SECONDS_BETWEEN_LINES = 10.0


def make_reporter() -> Reporter:
    """A bar where standard error is a terminal, lines where it is not. Data goes to standard output, progress never."""
    return RichReporter() if sys.stderr.isatty() else LineReporter(sys.stderr)


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
            seconds = time.monotonic() - start
            rate = done / seconds if seconds > 0 else 0.0
            time_left = f", {duration((total - done) / rate)} left" if rate > 0 and done < total else ""
            words = f"; {detail}" if detail else ""
            return (
                f"{description}: {done:,}/{total:,} {unit}, {rate:,.1f} {unit}/s, {duration(seconds)}{time_left}{words}"
            )

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
