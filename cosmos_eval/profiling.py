"""Where the time of a run goes: seconds of the main process by phase, and the work of loader processes beside it.

Code marks its phases with `phase("...")`, which costs nothing unless a `Profile` is in use. Phases may be nested; time
in an inner phase does not count in the outer one, so every second is in exactly one phase and all add up to the whole.
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
    "tokens": "tokenizing texts",
    "texts": "forward pass of texts",
    "pairs": "forward pass of image-text pairs",
    "rows": "finding equal features",
    "store": "feature cache",
    "drift": "comparing decoders",
    "scoring": "scoring",
    "intervals": "intervals",
    "writing": "writing results",
}
"""Phase, as profile.json has it -> description for tables."""
IMAGE_PHASES = ("reading", "waiting", "copy", "images")
"""Phases that an image goes through until it is encoded."""
PIPELINED_PHASES = ("waiting", "copy", "images", "windows", "pairs")
"""Phases whose borders do not wait for the device: batches overlap there, and waiting would end that. The engine waits
for each batch in its own phase, after it has launched the next one (`cosmos_eval.engine.encoding.check_late`)."""
STAGES = {"decode": ("waiting",), "forward": ("images", "windows"), "main thread": ("reading", "copy", "rows", "store")}
"""What can limit the encoding of images -> the phases in which the main process waits for it, or works itself."""
WORK = {"decode": "reading and decoding", "preprocess": "resizing and cropping"}
"""Work on images in loader processes, or in the main process while it waits if there are none -> description."""
BOTTLENECK = 0.5
"""Fraction of the time from which a phase is called the bottleneck."""


@dataclass
class BenchmarkTimes:
    """Times of one benchmark, or of what belongs to no benchmark."""

    seconds: dict[str, float] = field(default_factory=dict)
    """Phase -> seconds of the main process."""
    work: dict[str, float] = field(default_factory=dict)
    """Entry of WORK -> seconds, summed over all loader processes."""
    encoded: dict[str, int] = field(default_factory=dict)
    """Unit ("images", "texts", ...) -> number that passed the model."""


@dataclass
class Profile:
    """The times of one model's run."""

    about: dict[str, Any] = field(default_factory=dict)
    """What was run: model, device, precision, batch size, workers."""
    by_benchmark: dict[str, BenchmarkTimes] = field(default_factory=dict)
    """Benchmark -> its times; "" for what belongs to no benchmark."""
    forward_per_second: float | None = None
    """Images per second of the image tower alone on a batch that is ready; None if no image was encoded."""
    synchronize: Callable[[], object] | None = None
    """Waits for the device. Called where a phase begins or ends: work is queued on a GPU and returns at once, so that
    its time would otherwise be counted in a later phase."""
    largest_batch: Any = None
    """The largest batch that the image tower got so far, for `forward_per_second`."""
    _benchmark: str = ""
    _open_phases: list[str] = field(default_factory=list)
    _last_border: float = 0.0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time inside in a phase, except for the time of phases inside it."""
        self._count_time_since_border(wait=name not in PIPELINED_PHASES)
        self._open_phases.append(name)
        try:
            yield
        finally:
            self._count_time_since_border(wait=name not in PIPELINED_PHASES)
            self._open_phases.pop()

    @contextmanager
    def benchmark(self, name: str) -> Iterator[None]:
        """Count everything inside for a benchmark."""
        benchmark_before, self._benchmark = self._benchmark, name
        try:
            yield
        finally:
            self._benchmark = benchmark_before

    @property
    def current_times(self) -> BenchmarkTimes:
        """Times of the benchmark that runs now."""
        return self.by_benchmark.setdefault(self._benchmark, BenchmarkTimes())

    def add_work(self, name: str, seconds: float) -> None:
        """Add time that was spent on an image, in whichever process; `name` is one of WORK."""
        self.current_times.work[name] = self.current_times.work.get(name, 0.0) + seconds

    def _count_time_since_border(self, wait: bool) -> None:
        """Add the time since a phase last began or ended to the innermost open phase."""
        if wait and self.synchronize is not None:
            self.synchronize()
        now = time.perf_counter()
        if self._open_phases:
            seconds, innermost = self.current_times.seconds, self._open_phases[-1]
            seconds[innermost] = seconds.get(innermost, 0.0) + now - self._last_border
        self._last_border = now

    def total(self) -> BenchmarkTimes:
        """Return the times of all benchmarks together, and of what belongs to none."""
        total = BenchmarkTimes()
        for times in self.by_benchmark.values():
            for name, seconds in times.seconds.items():
                total.seconds[name] = total.seconds.get(name, 0.0) + seconds
            for name, seconds in times.work.items():
                total.work[name] = total.work.get(name, 0.0) + seconds
            for name, count in times.encoded.items():
                total.encoded[name] = total.encoded.get(name, 0) + count
        return total

    @property
    def images_per_second(self) -> float | None:
        """Encoded images per second of reading, waiting, copying and encoding together; None without images."""
        total = self.total()
        seconds = sum(total.seconds.get(name, 0.0) for name in IMAGE_PHASES)
        count = total.encoded.get("images", 0)
        return count / seconds if count and seconds else None

    @property
    def tower_fraction(self) -> float | None:
        """`images_per_second` as a fraction of the rate of the image tower alone."""
        rate = self.images_per_second
        return rate / self.forward_per_second if rate and self.forward_per_second else None

    @property
    def decode_per_second(self) -> float | None:
        """Images per second that the loader's processes, or the main process without any, decode and preprocess."""
        total = self.total()
        seconds, count = sum(total.work.values()), total.encoded.get("images", 0)
        return count * max(1, int(self.about.get("workers", 0))) / seconds if count and seconds else None

    @property
    def limiting_stage(self) -> str | None:
        """What limits the encoding of images: an entry of `STAGES`; None if no image was encoded."""
        seconds = self.total().seconds
        if not any(seconds.get(name) for name in (*STAGES["decode"], *STAGES["forward"])):
            return None
        return max(STAGES, key=lambda stage: sum(seconds.get(name, 0.0) for name in STAGES[stage]))

    @property
    def limit_fraction(self) -> float | None:
        """`images_per_second` as a fraction of min(decode, forward)."""
        rates = [rate for rate in (self.decode_per_second, self.forward_per_second) if rate]
        return self.images_per_second / min(rates) if self.images_per_second and rates else None

    def describe_limit(self) -> str:
        """Return one sentence: what limits the encoding of images, and what makes it faster; empty without images."""
        stage, seconds = self.limiting_stage, self.total().seconds
        if stage is None:
            return ""
        slowest = max(STAGES[stage], key=lambda name: seconds.get(name, 0.0))
        rates = {"decoding": self.decode_per_second, "the tower": self.forward_per_second}
        known = ", ".join(f"{name} alone {rate:,.0f} per second" for name, rate in rates.items() if rate)
        advice = self._advice(slowest)
        if stage == "decode" and not self.about.get("workers"):
            advice = f"this process decodes by itself; {advice}"
        return f"Images are limited by {stage}{f' ({known})' if known else ''}: {advice}."

    def describe_bottleneck(self) -> str:
        """Return one sentence: the phase that takes most time, and what makes it faster."""
        seconds = self.total().seconds
        total = sum(seconds.values())
        if not total:
            return "Nothing was measured: all results existed already."
        largest = max(seconds, key=lambda name: seconds[name])
        fraction = seconds[largest] / total
        title = "Bottleneck" if fraction >= BOTTLENECK else "Largest phase"
        return f"{title}: {PHASES[largest]}, {fraction:.0%} of the time; {self._advice(largest)}."

    @property
    def _compiled_longer_than_computed(self) -> bool:
        """Whether a compiled tower took more than twice the time that its images take once it is compiled."""
        if "+compile" not in str(self.about.get("precision", "")) or not self.forward_per_second:
            return False
        total = self.total()
        return total.seconds.get("images", 0.0) > 2 * total.encoded.get("images", 0) / self.forward_per_second

    def _advice(self, phase: str) -> str:
        """What makes a phase faster, of what this run does not do already."""
        if phase not in _TOWERS:
            return _ADVICE[phase]
        if phase == "images" and self._compiled_longer_than_computed:
            return "most of it compiled the tower, which more images would share; for few, leave --compile out"
        precision, on_cuda = str(self.about.get("precision", "")), str(self.about.get("device", "")).startswith("cuda")
        options = [
            *(["--precision bf16"] if on_cuda and precision.startswith("fp32") else []),
            *(["--compile"] if phase == "images" and "+compile" not in precision else []),
        ]
        return f"{_TOWERS[phase]} is the limit; {' or '.join([*options, 'a faster device'])} would help"

    def as_json(self) -> dict[str, Any]:
        """Return the content of profile.json: seconds by phase, images per second, and the bottleneck."""
        return {
            **self.about,
            "seconds": _rounded(self.total().seconds),
            "work": _rounded(self.total().work),
            "encoded": self.total().encoded,
            "images_per_second": _significant(self.images_per_second),
            "forward_per_second": _significant(self.forward_per_second),
            "share": _significant(self.tower_fraction),
            "limit": self.describe_bottleneck(),
            "images_limited_by": self.limiting_stage,
            "decode_per_second": _significant(self.decode_per_second),
            "share_of_limit": _significant(self.limit_fraction),
            "benchmarks": {
                name: {"seconds": _rounded(times.seconds), "work": _rounded(times.work), "encoded": times.encoded}
                for name, times in self.by_benchmark.items()
                if name
            },
        }

    def table(self) -> str:
        """Return the same as text for the terminal."""
        total = self.total()
        seconds = sum(total.seconds.values())
        lines = [f"Where the time went: {self.about.get('model', 'a model')}, {seconds:,.1f} s"]
        for name, description in PHASES.items():
            phase_seconds = total.seconds.get(name, 0.0)
            if phase_seconds:
                lines.append(f"  {description:<32}{phase_seconds:>10,.2f} s {phase_seconds / seconds:>6.1%}")
            if name == "waiting" and total.work:
                lines.append(f"    {self._describe_work(total.work)}")
        rate, share = self.images_per_second, self.tower_fraction
        if rate is not None:
            tower = f", {share:.0%} of the image tower alone ({self.forward_per_second:,.0f})" if share else ""
            lines.append(f"Images: {total.encoded['images']:,} at {rate:,.0f} per second{tower}.")
        return "\n".join([*lines, *filter(None, [self.describe_limit()]), self.describe_bottleneck()])

    def _describe_work(self, work: dict[str, float]) -> str:
        """Describe the work that is done while the main process waits for images."""
        workers = self.about.get("workers", 0)
        processes = f"in {workers} worker{'s' if workers != 1 else ''}" if workers else "in the main process"
        return f"{processes}: " + ", ".join(f"{WORK[key]} {seconds:,.2f} s" for key, seconds in work.items())


_ADVICE = {
    "model": "evaluating more benchmarks in one run shares it",
    "reading": "a faster disk helps, or more memory for the disk cache",
    "waiting": "more --workers (if there are free cores), --resized or --decoder draft help",
    "copy": "a larger --batch-size helps",
    "tokens": "the tokenizer is the limit",
    "rows": "if it is so for a large dataset, please report it as a bug",
    "store": "a faster disk helps, or --no-cache",
    "drift": "it matters less for a larger dataset; --decoder pil leaves it out",
    "scoring": "no part of the model is the limit",
    "intervals": "resampling is the limit, no part of the model",
    "writing": "a faster disk helps",
}
"""Phase -> what makes it faster, as the end of a sentence; of forward passes it depends on what is done already."""
_TOWERS = {"images": "the image tower", "windows": "the image tower", "texts": "the text tower", "pairs": "the model"}
"""Forward pass -> what computes it."""

_current: ContextVar[Profile | None] = ContextVar("profile", default=None)


@contextmanager
def use_profile(profile: Profile | None) -> Iterator[None]:
    """Make `phase` and the other functions of this module write to a profile inside; None keeps the surrounding one."""
    token = _current.set(profile or _current.get())
    try:
        yield
    finally:
        _current.reset(token)


def current_profile() -> Profile | None:
    """Return the profile in use; None outside of `use_profile`."""
    return _current.get()


def phase(name: str) -> AbstractContextManager[None]:
    """Count the time inside in a phase, one of PHASES."""
    profile = _current.get()
    return nullcontext() if profile is None else profile.phase(name)


def profile_benchmark(name: str) -> AbstractContextManager[None]:
    """Count everything inside for a benchmark."""
    profile = _current.get()
    return nullcontext() if profile is None else profile.benchmark(name)


def record_encoded(counts: dict[str, int]) -> None:
    """Record how many images, texts, ... passed the model for the benchmark that runs now."""
    profile = _current.get()
    if profile is not None:
        profile.current_times.encoded = dict(counts)


def time_items(items: Iterable[Any], name: str) -> Iterator[Any]:
    """Yield the items, and count the time that each takes to arrive in a phase."""
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


def _significant(value: float | None) -> float | None:
    """Round to four significant digits."""
    return None if value is None else float(f"{value:.4g}")
