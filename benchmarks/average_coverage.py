"""Measure how often the 95 % intervals of suite averages contain the true average.

    python -m benchmarks.average_coverage [--quick] [--out results]

Simulated suites (benchmarks/average_simulations.py) share images between benchmarks. For comparison: intervals as if no
benchmark shared an image with another. The script writes average_intervals.md; the last line printed is JSON.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.average_simulations import SUITES, SimulatedSuite, members_of
from benchmarks.interval_coverage import wrapped
from benchmarks.output import last_line, page, row
from cosmos_core.files import atomic_write_text
from cosmos_eval.metrics.average_interval import average_interval

REQUIRED = (0.93, 0.97)
TRIALS, QUICK_TRIALS = 2000, 150
PACKAGES = ("numpy", "pandas")
INTRODUCTION = """Percent of {trials:,} simulated samples whose 95 % interval contains the true average, for suites of
benchmarks that share images. Required are 93 to 97 %, within three standard errors of the simulation ({error:.1f}
points). {verdict}

`as if independent` are the intervals of the same samples if every benchmark had images of its own: too narrow where
benchmarks share images whose outcomes are correlated. `recovered` is the percentage of samples whose interval is not
from the bootstrap alone, but recovered from the intervals of the members
(`cosmos_eval/metrics/average_interval.py`)."""


@dataclass(frozen=True)
class Coverage:
    """Coverage in one simulated suite."""

    suite: SimulatedSuite
    trials: int
    covered: float
    covered_if_independent: float
    recovered: float
    """Fraction of samples whose interval is recovered from those of the members."""
    width: float
    """Mean width, in points."""

    @property
    def error(self) -> float:
        """Standard error of a coverage of 95 %."""
        return float(np.sqrt(0.05 * 0.95 / self.trials))

    @property
    def holds(self) -> bool:
        return REQUIRED[0] - 3 * self.error <= self.covered <= REQUIRED[1] + 3 * self.error


def measure(suite: SimulatedSuite, trials: int, seed: int, resamples: int = 1000) -> Coverage:
    """Estimate the coverage in one suite.

    Args:
        trials: number of samples.
        seed: of the samples.
        resamples: of each interval.
    """
    rng = np.random.default_rng(seed)
    names = suite.names()
    apart = [np.array([f"{k} {name}" for name in of_images], dtype=object) for k, of_images in enumerate(names)]
    covered, covered_apart, recovered, width = 0, 0, 0, 0.0
    for trial in range(trials):
        members = members_of(suite.draw(rng), names)
        interval = average_interval(members, resamples, seed=trial)
        covered += interval.low <= suite.average <= interval.high
        recovered += interval.method != "bootstrap"
        width += 100 * (interval.high - interval.low)
        independent = [
            replace(member, resampled=replace(member.resampled, names=own))  # type: ignore[type-var]
            for member, own in zip(members, apart, strict=True)
        ]
        interval = average_interval(independent, resamples, seed=trial)
        covered_apart += interval.low <= suite.average <= interval.high
    return Coverage(suite, trials, covered / trials, covered_apart / trials, recovered / trials, width / trials)


def table(rows: Sequence[Coverage]) -> str:
    head = ["suite", "images", "average", "**coverage**", "as if independent", "recovered", "width"]
    lines = [row(head), row(["---", *["---:"] * (len(head) - 1)])]
    for result in rows:
        cells = [
            result.suite.name,
            f"{result.suite.total:,}",
            f"{100 * result.suite.average:.1f}",
            f"**{100 * result.covered:.1f}**" + ("" if result.holds else " (!)"),
            f"{100 * result.covered_if_independent:.1f}",
            f"{100 * result.recovered:.0f}",
            f"{result.width:.2f}",
        ]
        lines.append(row(cells))
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few samples")
    parser.add_argument("--out", type=Path, help="folder for average_intervals.md")
    options = parser.parse_args(arguments)
    load, start = os.getloadavg()[0], time.perf_counter()
    results = []
    for number, suite in enumerate(SUITES):
        results.append(measure(suite, QUICK_TRIALS if options.quick else TRIALS, seed=number))
        print(f"{suite.name}: {100 * results[-1].covered:.1f} %", file=sys.stderr, flush=True)
    failed = [result for result in results if not result.holds]
    verdict = (
        f"**{len(failed)} of {len(results)} rows are outside, marked (!).**" if failed else "**All rows are inside.**"
    )
    text = INTRODUCTION.format(trials=results[0].trials, error=300 * results[0].error, verdict=verdict)
    text = "\n\n".join(wrapped(part) for part in [*text.split("\n\n"), table(results)])
    seconds, threads = time.perf_counter() - start, torch.get_num_threads()
    command = "python -m benchmarks.average_coverage" + (" --quick" if options.quick else "") + " --out results"
    content = page("Coverage of the 95 % intervals of suite averages", text, command, "cpu", PACKAGES, threads)
    print(content)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        atomic_write_text(options.out / "average_intervals.md", content)
    rows = [{"suite": result.suite.name, "covered": result.covered, "holds": result.holds} for result in results]
    figures = {"rows": rows, "seconds": seconds}
    print(json.dumps(last_line("average_coverage", {}, figures, "cpu", threads, load)))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
