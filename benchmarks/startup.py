"""How long `cosmos-eval --help` and a run with nothing left to do take, as a person waits for them.

    python benchmarks/startup.py [--quick] [--out results/speed.md]

Whole processes, timed from outside; the median of seven (three with --quick) after one that is not counted. There is no
peer: clip-benchmark has no results that a second run could take for done. Prints one JSON line last.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.printed import last_line, row
from benchmarks.speed_page import tell

COMMAND = [sys.executable, "-m", "cosmos_eval"]
NOTHING_LEFT = ["run", "--model", "cosmos:untrained-toybox", "--benchmark", "toybox-classification", "--out"]
"""A run whose result is there, but for the folder."""


def seconds(arguments: Sequence[str], times: int) -> list[float]:
    """Wall times of a command; the first, which fills the file cache, is not counted."""
    found = []
    for _ in range(times + 1):
        start = time.perf_counter()
        subprocess.run([*COMMAND, *arguments], check=True, capture_output=True)
        found.append(time.perf_counter() - start)
    return found[1:]


def table(found: dict[str, list[float]], times: int) -> list[str]:
    """What was measured, as Markdown."""
    lines = [row(["seconds", "median", "fastest", "slowest"]), row(["---"] * 4)]
    for name, values in found.items():
        lines.append(row([name, *(f"{pick(values):.2f}" for pick in (statistics.median, min, max))]))
    return [*lines, "", f"Whole processes, {times} of each."]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three repetitions instead of seven")
    parser.add_argument("--out", type=Path, help="write a section of this page as well")
    chosen = parser.parse_args(arguments)
    times, load = 3 if chosen.quick else 7, os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        found = {
            "`cosmos-eval --help`": seconds(["--help"], times),
            "`cosmos-eval run` with nothing left to do": seconds([*NOTHING_LEFT, folder], times),
        }
    figures = dict(zip(("help_seconds", "noop_seconds"), map(statistics.median, found.values()), strict=True))
    made = last_line("startup", {}, figures, "cpu", os.cpu_count() or 1, load)
    tell("Start-up", table(found, times), made, chosen.out, arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
