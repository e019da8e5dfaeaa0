"""Check in eight minutes that a GPU gives what the CPU gives, and measure how fast it is.

    python benchmarks/gpu_smoke.py [--device cuda] [--minutes 8] [--tiny] [--only STAGE ...] [--out gpu.md]

Needs no network and no data. Stages come in the order of their worth, so a budget that ends leaves out rates, not
checks. A stage that fails does not stop the others. `--device cpu --tiny` tries the script itself in about a minute.
The exit code is 1 if a check failed. The last line printed is JSON.
"""

import argparse
import gc
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks.gpu_smoke_checks import CHECKS
from benchmarks.gpu_smoke_rates import RATES
from benchmarks.output import last_line, page, row
from cosmos_core.devices import describe_device, require_device
from cosmos_core.errors import RequestError

LEFT_FOR_A_STAGE = 20.0
"""Seconds; a stage is left out if less is left."""
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
    left_out: list[str] = field(default_factory=list)

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
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()

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


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=8, help="no stage starts when less than 20 seconds are left")
    parser.add_argument("--tiny", action="store_true", help="small models and few samples, to try the script")
    parser.add_argument("--only", nargs="+", choices=[*CHECKS, *RATES], help="these stages")
    parser.add_argument("--out", type=Path, help="also write the tables to this file")
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(words)
    load, start = os.getloadavg()[0], time.monotonic()
    try:
        smoke = Smoke(numbered(require_device(options.device)), options.tiny)
    except RequestError as error:
        print(f"gpu_smoke: {error}", file=sys.stderr)
        return 2
    print(f"on {describe_device(smoke.device)}")
    for name, stage in {**CHECKS, **RATES}.items():
        if options.only and name not in options.only:
            continue
        if 60 * options.minutes - (time.monotonic() - start) < LEFT_FOR_A_STAGE:
            smoke.left_out.append(name)
            continue
        run_stage(smoke, name, stage)
        write_page(smoke, options.out, words)  # after each stage, in case that a later one is cut off
    write_page(smoke, options.out, words)
    print("\n".join(tables(smoke)))
    figures = {**smoke.figures, "checks": len(smoke.checks), "failed": smoke.failed, "left_out": smoke.left_out}
    print(json.dumps(last_line("gpu_smoke", {}, figures, str(smoke.device), torch.get_num_threads(), load)))
    return 1 if smoke.failed else 0


def numbered(device: torch.device) -> torch.device:
    """A CUDA device with its number, made the current one.

    Two ranks share the card only if they are told its number, and some of torch's functions need it.
    """
    if device.type != "cuda":
        return device
    device = torch.device("cuda", device.index or 0)
    torch.cuda.set_device(device)
    return device


def run_stage(smoke: Smoke, name: str, stage: Callable[[Smoke], None]) -> None:
    """Run one stage; an exception is a failed check, but for a rate that this machine refuses (`/dev/shm`)."""
    start = time.monotonic()
    print(f"{name}: {(stage.__doc__ or '').splitlines()[0]}", flush=True)
    try:
        stage(smoke)
    except RequestError as error:
        smoke.tell(f"not measured: {name}", str(error))
        if name in CHECKS:
            smoke.failed.append(f"{name} ({error})")
    except Exception as error:  # whatever a card raises; the other stages still run
        traceback.print_exc()
        smoke.failed.append(f"{name} ({type(error).__name__}: {' '.join(str(error).split())[:200]})")
    gc.collect()
    try:
        if smoke.device.type == "cuda":
            torch.cuda.empty_cache()
    except RuntimeError as error:  # after a fault of a kernel every call fails; the page is still written
        smoke.failed.append(f"{name} ({' '.join(str(error).split())[:200]})")
    print(f"  {name}: {time.monotonic() - start:.1f} s", flush=True)


def write_page(smoke: Smoke, path: Path | None, words: Sequence[str]) -> None:
    """Write what was found so far, if there is a path; `words` are the arguments of the command."""
    if path is not None:
        title, command = f"GPU check: {describe_device(smoke.device)}", " ".join(["benchmarks/gpu_smoke.py", *words])
        text = "\n".join(tables(smoke))
        content = page(title, text, f"python {command}", str(smoke.device), PACKAGES, torch.get_num_threads())
        path.write_text(content, encoding="utf-8")


def tables(smoke: Smoke) -> list[str]:
    """Lines of Markdown: verdict, checks, figures."""
    verdict = f"{len(smoke.checks)} checks, {len(smoke.failed)} failed"
    lines = [f"{verdict}: {'; '.join(smoke.failed)}." if smoke.failed else f"{verdict}."]
    if smoke.left_out:
        lines += ["", f"Left out, since the time was over: {', '.join(smoke.left_out)}."]
    lines += ["", row(["check", "value", "at most"]), row(["---"] * 3)]
    lines += [row([name, f"{value:.3g}", f"{most:g}"]) for name, value, most in smoke.checks]
    lines += ["", row(["figure", "value"]), row(["---"] * 2)]
    return lines + [row([name, str(value)]) for name, value in smoke.figures.items()]


if __name__ == "__main__":
    sys.exit(main())
