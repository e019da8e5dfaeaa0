"""Check in eight minutes that a GPU gives what the CPU gives, and measure how fast it is.

    python benchmarks/gpu_smoke.py [--device cuda] [--minutes 8] [--tiny] [--only STAGE ...] [--out gpu.md]

Needs no network and no data. Stages come in the order of their worth, so a budget that ends leaves out rates, not
checks. A stage that fails does not stop the others; one that is still at work when the time is over is stopped, and the
output says so. `--device cpu --tiny` tries the script itself, in one or two minutes on two cores.

Exit codes: 0, all checks passed; 1, a check failed; 2, there is no such device; 3, none failed, but the time was over
before all checks were made. The last line printed is JSON.
"""

import argparse
import gc
import json
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks.gpu_smoke_checks import CHECKS
from benchmarks.gpu_smoke_rates import RATES, usable_cores
from benchmarks.output import last_line, page, row
from cosmos_core.devices import describe_device, require_device, synchronize
from cosmos_core.errors import RequestError
from cosmos_core.printable import plural

LEFT_FOR_A_STAGE = 20.0
"""Seconds; a stage is left out if less is left."""
LEFT_FOR_THE_PAGE = 2.0
"""Seconds before the end of the budget at which a stage is stopped."""
REPEATED = 15.0
"""Seconds after which a stage is stopped again: an exception that is raised while an object is freed is lost."""
PACKAGES = ("torch", "torchvision", "open_clip_torch", "numpy")


@dataclass
class Smoke:
    """What the stages need, and what they found."""

    device: torch.device
    tiny: bool
    checks: list[tuple[str, float, float]] = field(default_factory=list)
    """Name, value, and the most that it may be."""
    figures: dict[str, Any] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    not_run: dict[str, str] = field(default_factory=dict)
    """Stages that were left out or stopped, and why."""
    broken: str = ""
    """Why the device computes nothing any more, such as after a fault of a kernel."""

    def check(self, name: str, value: float | torch.Tensor, most: float) -> None:
        """Record a difference that must be at most `most`."""
        value = float(value)
        self.checks.append((name, value, most))
        is_good = value <= most  # NaN is not
        if not is_good:
            self.failed.append(name)
        print(f"  {'ok  ' if is_good else 'FAIL'} {name}: {value:.3g} (at most {most:g})", flush=True)

    def tell(self, name: str, value: Any) -> None:
        """Record a figure that is not judged."""
        self.figures[name] = value
        print(f"       {name}: {value}", flush=True)

    def synchronize(self) -> None:
        synchronize(self.device)

    def rate(self, count: int, work: Callable[[], object], repeat: int = 5) -> float:
        """Items per second of `work`, which does `count` of them, after two passes that are not counted."""
        for _ in range(2):
            work()
        self.synchronize()
        start = time.perf_counter()
        for _ in range(repeat):
            work()
        self.synchronize()
        return float(f"{count * repeat / (time.perf_counter() - start):.4g}")

    def rate_once(self, count: int, work: Callable[[], object]) -> float:
        """Items per second of `work`, which does `count` of them, the first time that it is called."""
        self.synchronize()
        start = time.perf_counter()
        work()
        self.synchronize()
        return float(f"{count / (time.perf_counter() - start):.4g}")


class TimeOver(BaseException):
    """The budget has ended within a stage. Not an `Exception`, so that no error handler takes it for a failure."""


def main(arguments: Sequence[str] | None = None, started: float | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, mps or cpu")
    parser.add_argument("--minutes", type=float, default=8, help="the whole run takes no longer than this")
    parser.add_argument("--tiny", action="store_true", help="small models and few samples, to try the script")
    parser.add_argument("--only", nargs="+", choices=[*CHECKS, *RATES], help="these stages")
    parser.add_argument("--out", type=Path, help="also write the tables to this file")
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(words)
    load, started = os.getloadavg()[0], time.monotonic() if started is None else started
    threads = torch.get_num_threads()
    try:
        smoke = Smoke(numbered(require_device(options.device)), options.tiny)
        if options.out is not None:
            write_page(smoke, options.out, words)  # a path that cannot be written is told before anything is computed
    except (RequestError, OSError) as error:
        print(f"gpu_smoke: {error}", file=sys.stderr)
        return 2
    if smoke.device.type == "cpu" and options.tiny:
        # Two threads share each small product, and wait for each other wherever another program takes one's core: on
        # a busy machine with two cores, a stage took 177 s that takes one thread 8 to 15 s there.
        torch.set_num_threads(1)
    try:
        return run(smoke, options, words, started + 60 * options.minutes, load)
    finally:
        torch.set_num_threads(threads)


def run(smoke: Smoke, options: argparse.Namespace, words: Sequence[str], end: float, load: float) -> int:
    """Run the stages until `end`, a time of `time.monotonic`, write the page, and return the exit code."""
    print(f"on {describe_device(smoke.device)}", flush=True)
    smoke.figures |= describe_hardware(smoke.device)
    for name, stage in {**CHECKS, **RATES}.items():
        if options.only and name not in options.only:
            continue
        left = end - time.monotonic()
        if smoke.broken:
            smoke.not_run[name] = f"the device does not answer any more: {smoke.broken}"
        elif left < LEFT_FOR_A_STAGE:
            smoke.not_run[name] = f"{max(0.0, left):.0f} s were left"
        else:
            run_stage(smoke, name, stage, left - LEFT_FOR_THE_PAGE)
        write_page(smoke, options.out, words)  # after each stage, in case that a later one is cut off
    print("\n".join(tables(smoke)))
    figures = {**smoke.figures, "checks": len(smoke.checks), "failed": smoke.failed, "not_run": smoke.not_run}
    print(json.dumps(last_line("gpu_smoke", {}, figures, str(smoke.device), torch.get_num_threads(), load)))
    return 1 if smoke.failed else 3 if smoke.not_run.keys() & CHECKS.keys() else 0


def process_age() -> float:
    """Seconds since this process began, which imports take on a machine that has just started; 0 without /proc."""
    try:
        ticks = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
        return time.clock_gettime(time.CLOCK_BOOTTIME) - int(ticks) / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError):
        return 0.0


def numbered(device: torch.device) -> torch.device:
    """A CUDA device with its number, made the current one.

    Two ranks share the card only if they are told its number, and some of torch's functions need it.
    """
    if device.type != "cuda":
        return device
    device = torch.device("cuda", device.index or 0)
    torch.cuda.set_device(device)
    return device


def run_stage(smoke: Smoke, name: str, stage: Callable[[Smoke], None], seconds: float) -> None:
    """Run one stage for `seconds` at most; an exception is a failed check, but for a rate that this machine refuses
    (`/dev/shm`)."""
    start = time.monotonic()
    print(f"{name}: {(stage.__doc__ or '').splitlines()[0]}", flush=True)
    try:
        with deadline(seconds):
            stage(smoke)
    except TimeOver:
        smoke.not_run[name] = f"stopped after {time.monotonic() - start:.0f} s, before its end"
        print(f"       the time is over: {name} was stopped", flush=True)
    except RequestError as error:
        smoke.tell(f"not measured: {name}", str(error))
        if name in CHECKS:
            smoke.failed.append(f"{name} ({error})")
    except Exception as error:  # whatever a card raises; the other stages still run
        traceback.print_exc()
        smoke.failed.append(f"{name} ({type(error).__name__}: {' '.join(str(error).split())[:200]})")
    gc.collect()
    try:
        smoke.synchronize()
        if smoke.device.type == "cuda":
            torch.cuda.empty_cache()
    except RuntimeError as error:  # after a fault of a kernel every call fails
        smoke.broken = " ".join(str(error).split())[:200]
        smoke.failed.append(f"{name} ({smoke.broken})")
    print(f"  {name}: {time.monotonic() - start:.1f} s", flush=True)


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise `TimeOver` inside after this time; where Python has no timers, or not in this thread, it has no effect."""

    def stop(*_: object) -> None:
        raise TimeOver

    try:
        before = signal.signal(signal.SIGALRM, stop)
    except (AttributeError, ValueError):
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001), REPEATED)
    try:
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:  # also if the time is over just there
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def describe_hardware(device: torch.device) -> dict[str, str]:
    """What a reader of the figures has to know of a CUDA device, and of the software below torch."""
    if device.type != "cuda":
        return {}
    card = torch.cuda.get_device_properties(device)
    version = Path("/proc/driver/nvidia/version")
    driver = re.search(r"\s(\d+\.\d+[\d.]*)\s", version.read_text(encoding="utf-8")) if version.is_file() else None
    cudnn = torch.backends.cudnn.version() if torch.backends.cudnn.is_available() else None
    return {
        "card": f"{card.name}, compute capability {card.major}.{card.minor}, {card.total_memory / 2**30:.1f} GiB, "
        f"{card.multi_processor_count} multiprocessors",
        "below torch": f"CUDA {torch.version.cuda or torch.version.hip}, cuDNN {cudnn or 'unknown'}, driver "
        f"{driver[1] if driver else 'unknown'}",
        "CPU cores": str(usable_cores()),
    }


def write_page(smoke: Smoke, path: Path | None, words: Sequence[str]) -> None:
    """Write what was found so far, if there is a path; `words` are the arguments of the command."""
    if path is not None:
        title, command = f"GPU check: {describe_device(smoke.device)}", " ".join(["benchmarks/gpu_smoke.py", *words])
        text = "\n".join(tables(smoke))
        content = page(title, text, f"python {command}", str(smoke.device), PACKAGES, torch.get_num_threads())
        path.write_text(content, encoding="utf-8")


def tables(smoke: Smoke) -> list[str]:
    """Lines of Markdown: verdict, checks, figures."""
    verdict = f"{plural(len(smoke.checks), 'check')}, {len(smoke.failed)} failed"
    lines = [f"{verdict}: {'; '.join(smoke.failed)}." if smoke.failed else f"{verdict}."]
    if smoke.not_run:
        lines += ["", f"Not run: {'; '.join(f'{name} ({reason})' for name, reason in smoke.not_run.items())}."]
    lines += ["", row(["check", "value", "at most"]), row(["---"] * 3)]
    lines += [row([name, f"{value:.3g}", f"{most:g}"]) for name, value, most in smoke.checks]
    if smoke.figures:
        lines += ["", row(["figure", "value"]), row(["---"] * 2)]
    return lines + [row([name, str(value)]) for name, value in smoke.figures.items()]


if __name__ == "__main__":
    sys.exit(main(started=time.monotonic() - process_age()))
