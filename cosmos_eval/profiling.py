"""Where a run's time goes: phases of the main process, each second in exactly one of them, and the work of others.

Code marks what it does by `phase("...")`, which costs nothing unless a `Profile` is in use. A phase inside another
takes its time away from the outer one, so that all phases add up to the whole.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

PHASES = {
    "model": "loading the model",
    "reading": "reading and hashing data",
    "waiting": "waiting for images",
    "copy": "copying images to the device",
    "images": "forward pass of images",
    "windows": "forward pass of windows",
    "tokens": "reading texts",
    "texts": "forward pass of texts",
    "pairs": "forward pass of image-text pairs",
    "rows": "sharing and gathering rows",
    "store": "stored embeddings",
    "drift": "comparing decoders",
    "scoring": "scoring",
    "intervals": "intervals",
    "writing": "writing results",
}
"""Name -> what people read."""
IMAGE_PHASES = ("reading", "waiting", "copy", "images")
"""What an image passes on its way to its row."""
WORK = {"decode": "reading and decoding", "preprocess": "resizing and cropping"}
"""What is done for images, in workers or, where there are none, while the main process waits for itself."""
MOST = 0.5
"""From this share of the time on, a phase is called the limit."""


@dataclass
class Part:
    """One benchmark's share of a run, or all that was none's."""

    seconds: dict[str, float] = field(default_factory=dict)
    work: dict[str, float] = field(default_factory=dict)
    encoded: dict[str, int] = field(default_factory=dict)


@dataclass
class Profile:
    """The times of one model's run.

    Attributes:
        about: what was run: model, device, precision, batch size, workers.
        parts: by benchmark, "" for what belongs to none.
        forward_per_second: images a second of the tower alone on a batch that is ready; None where none was encoded.
        wait: called at the borders of phases, so that an accelerator's work is counted where it was asked for.
    """

    about: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, Part] = field(default_factory=dict)
    forward_per_second: float | None = None
    wait: Callable[[], object] | None = None
    ready: Any = None
    """The largest batch that a tower was given so far."""
    _benchmark: str = ""
    _open: list[str] = field(default_factory=list)
    _since: float = 0.0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time inside belongs to `name`, but for phases inside it."""
        self._border()
        self._open.append(name)
        try:
            yield
        finally:
            self._border()
            self._open.pop()

    @contextmanager
    def benchmark(self, name: str) -> Iterator[None]:
        """What happens inside belongs to a benchmark."""
        before, self._benchmark = self._benchmark, name
        try:
            yield
        finally:
            self._benchmark = before

    @property
    def part(self) -> Part:
        return self.parts.setdefault(self._benchmark, Part())

    def did(self, name: str, seconds: float) -> None:
        """Time that somebody spent on an image, wherever."""
        self.part.work[name] = self.part.work.get(name, 0.0) + seconds

    def _border(self) -> None:
        if self.wait is not None:
            self.wait()
        now = time.perf_counter()
        if self._open:
            seconds = self.part.seconds
            seconds[self._open[-1]] = seconds.get(self._open[-1], 0.0) + now - self._since
        self._since = now

    def total(self) -> Part:
        """Of all parts together."""
        whole = Part()
        for part in self.parts.values():
            for name, seconds in part.seconds.items():
                whole.seconds[name] = whole.seconds.get(name, 0.0) + seconds
            for name, seconds in part.work.items():
                whole.work[name] = whole.work.get(name, 0.0) + seconds
            for name, count in part.encoded.items():
                whole.encoded[name] = whole.encoded.get(name, 0) + count
        return whole

    @property
    def images_per_second(self) -> float | None:
        """Images that passed the tower by the time that it took to read, decode, copy and encode them."""
        whole = self.total()
        seconds = sum(whole.seconds.get(name, 0.0) for name in IMAGE_PHASES)
        count = whole.encoded.get("images", 0)
        return count / seconds if count and seconds else None

    @property
    def share(self) -> float | None:
        """Of the rate of the tower alone."""
        rate = self.images_per_second
        return rate / self.forward_per_second if rate and self.forward_per_second else None

    def limit(self) -> str:
        """One sentence: what to change first."""
        seconds = self.total().seconds
        whole = sum(seconds.values())
        if not whole:
            return "Nothing was measured: all results were there already."
        most = max(seconds, key=lambda name: seconds[name])
        part = seconds[most] / whole
        how = "limits" if part >= MOST else "takes most"
        return f"What {how} is {PHASES[most]}, {part:.0%} of the time: {_ADVICE[most]}."

    def as_json(self) -> dict[str, Any]:
        """Seconds by phase, images a second, and the limit, as profile.json holds them."""
        return {
            **self.about,
            "seconds": _rounded(self.total().seconds),
            "work": _rounded(self.total().work),
            "encoded": self.total().encoded,
            "images_per_second": _figures(self.images_per_second),
            "forward_per_second": _figures(self.forward_per_second),
            "share": _figures(self.share),
            "limit": self.limit(),
            "benchmarks": {
                name: {"seconds": _rounded(part.seconds), "work": _rounded(part.work), "encoded": part.encoded}
                for name, part in self.parts.items()
                if name
            },
        }

    def table(self) -> str:
        """The same for people."""
        whole = self.total()
        seconds = sum(whole.seconds.values())
        lines = [f"Where the time went: {self.about.get('model', 'a model')}, {seconds:,.1f} s"]
        for name, what in PHASES.items():
            spent = whole.seconds.get(name, 0.0)
            if spent:
                lines.append(f"  {what:<32}{spent:>10,.2f} s {spent / seconds:>6.1%}")
            if name == "waiting" and whole.work:
                workers = self.about.get("workers", 0)
                where = f"in {workers} worker{'s' if workers != 1 else ''}" if workers else "meanwhile, without workers"
                done = ", ".join(f"{WORK[key]} {value:,.2f} s" for key, value in whole.work.items())
                lines.append(f"    {where}: {done}")
        rate, share = self.images_per_second, self.share
        if rate is not None:
            alone = f"; the tower alone makes {self.forward_per_second:,.0f}: {share:.0%} of it" if share else ""
            lines.append(f"Images: {whole.encoded['images']:,} at {rate:,.0f} a second{alone}.")
        return "\n".join([*lines, self.limit()])


_ADVICE = {
    "model": "a long run shares it",
    "reading": "a faster disk helps, and more memory for its cache",
    "waiting": "more --workers, where there are cores, or --decoder draft help",
    "copy": "a larger --batch-size helps",
    "images": "the tower is the limit; --precision bf16, --compile or a faster device help",
    "windows": "the tower is the limit; --precision bf16 or a faster device help",
    "tokens": "the tokenizer is the limit",
    "texts": "the text tower is the limit; --precision bf16 or a faster device help",
    "pairs": "the model is the limit; --precision bf16 or a faster device help",
    "rows": "a fault of ours, if it stays so for a larger dataset",
    "store": "a faster disk helps, or --no-cache",
    "drift": "a larger dataset shares it, or --decoder pil",
    "scoring": "all that the model had to do is done before",
    "intervals": "resampling is the limit; all that the model had to do is done before",
    "writing": "a faster disk helps",
}

_current: ContextVar[Profile | None] = ContextVar("profile", default=None)


@contextmanager
def profiled(profile: Profile | None) -> Iterator[None]:
    """Inside, `phase` and `did` write to this profile; None leaves the surrounding one."""
    token = _current.set(profile or _current.get())
    try:
        yield
    finally:
        _current.reset(token)


def current() -> Profile | None:
    """The profile of the surrounding `profiled`."""
    return _current.get()


def phase(name: str) -> AbstractContextManager[None]:
    """A part of the work, one of PHASES."""
    profile = _current.get()
    return nullcontext() if profile is None else profile.phase(name)


def of_benchmark(name: str) -> AbstractContextManager[None]:
    """What happens inside belongs to a benchmark."""
    profile = _current.get()
    return nullcontext() if profile is None else profile.benchmark(name)


def encoded(counts: dict[str, int]) -> None:
    """How many of each unit passed the model for the benchmark at hand."""
    profile = _current.get()
    if profile is not None:
        profile.part.encoded = dict(counts)


def timed(items: Iterable[Any], name: str) -> Iterator[Any]:
    """The items; the time that each takes to come belongs to `name`."""
    iterator = iter(items)
    while True:
        with phase(name):
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield item


def _rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in seconds.items()}


def _figures(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
