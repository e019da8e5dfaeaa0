"""Measure how long `cosmos-eval --help` takes, and a run that has nothing left to do.

    python benchmarks/startup.py [--quick] [--out results/speed.md]

Whole processes are timed from outside: the median of seven (three with --quick), after one that is not counted. There
is no peer, because clip-benchmark does not keep results that a second run could reuse. The last line printed is JSON.
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

from benchmarks.output import last_line, row
from benchmarks.speed_page import print_and_write

COMMAND = [sys.executable, "-m", "cosmos_eval"]
NOTHING_LEFT = ["run", "--model", "cosmos:untrained-toybox", "--benchmark", "toybox-classification", "--out"]
"""A run whose result exists already; the folder follows."""


def seconds(arguments: Sequence[str], times: int) -> list[float]:
    """Return wall times of a command in seconds; the first run, which fills the file cache, is not counted."""
    wall_times = []
    for _ in range(times + 1):
        start = time.perf_counter()
        subprocess.run([*COMMAND, *arguments], check=True, capture_output=True)
        wall_times.append(time.perf_counter() - start)
    return wall_times[1:]


def table(wall_times: dict[str, list[float]], times: int) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [row(["seconds", "median", "fastest", "slowest"]), row(["---"] * 4)]
    for name, values in wall_times.items():
        lines.append(row([name, *(f"{statistic(values):.2f}" for statistic in (statistics.median, min, max))]))
    return [*lines, "", f"Whole processes, {times} of each."]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three repetitions instead of seven")
    parser.add_argument("--out", type=Path, help="also write a section of this page")
    options = parser.parse_args(arguments)
    times, load = 3 if options.quick else 7, os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        wall_times = {
            "`cosmos-eval --help`": seconds(["--help"], times),
            "`cosmos-eval run` with nothing left to do": seconds([*NOTHING_LEFT, folder], times),
        }
    figures = dict(zip(("help_seconds", "noop_seconds"), map(statistics.median, wall_times.values()), strict=True))
    record = last_line("startup", {}, figures, "cpu", os.cpu_count() or 1, load)
    print_and_write("Start-up", table(wall_times, times), record, options.out, arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
