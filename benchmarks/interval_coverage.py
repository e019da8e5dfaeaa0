"""Measure how often the 95 % intervals of rates contain the true rate, and those of the plain bootstrap.

    python -m benchmarks.interval_coverage [--quick] [--out results]

For independent hits and misses, coverage is computed exactly: each number of hits has its probability, and the
bootstrap is taken in the limit of many resamples. Ties, captions that share an image, means over classes and mean IoU
are simulated with a known rate (benchmarks/interval_simulations.py) and the 1,000 resamples that the commands use. The
script writes intervals.md and intervals.csv; the last line printed is JSON.
"""

import argparse
import json
import os
import sys
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.interval_simulations import SIMULATIONS, RateSimulation
from benchmarks.output import last_line, page, row
from cosmos_core.files import atomic_write_text
from cosmos_eval.metrics.bootstrap import RESAMPLES
from cosmos_eval.metrics.proportion import ProportionEstimate, proportion_intervals

SIZES = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
SIMULATED_SIZES = (10, 20, 50, 100, 400)
RATES = tuple((np.arange(20) + 0.5) / 20)
"""Their mean approximates the mean over all rates (midpoint rule)."""
EDGES = (0.002, 0.01, 0.99, 0.998)
SHOWN = (0.001, 0.01, 0.03, 0.1, 0.5)
REQUIRED_MEAN = (0.93, 0.98)
PACKAGES = ("numpy", "pandas")
INTRODUCTION = """Percent of samples whose 95 % interval contains the true rate. Required are a mean between 93 and 98
over rates from 0 to 1, for n = 10 to 5,000, and at every rate at least 83, or at least 90 from n = 100 on. For
clusters, means over classes and mean IoU, this is required from 50 images on; rows marked * show smaller samples,
without a requirement. {verdict}

New: the mid-p interval where hits or misses are few, the bootstrap from 20 of each on, and a proportional mix between
10 and 20, with an effective n for everything except independent hits and misses
(`cosmos_eval/metrics/proportion.py`). `width` is the width of the new interval divided by that of the bootstrap,
for rates from 30 to 70 %. For comparison, the coverage of Wilson's interval falls to 83.8 % at a rate of 0.18 / n,
for every n."""
Bounds = tuple[np.ndarray, np.ndarray]


def least_allowed(n: int) -> float:
    """Return the required coverage at every rate."""
    return 0.9 if n >= 100 else 0.83


@dataclass(frozen=True)
class CoverageRow:
    """Coverage in one simulation with one n, of the plain bootstrap (`old`) and of the present interval (`new`)."""

    simulation: str
    n: int
    rates: tuple[float, ...]
    old: tuple[float, ...]
    new: tuple[float, ...]
    means: tuple[float, float]
    """Mean coverage over rates from 0 to 1, old and new."""
    width: float
    """Width of the new interval divided by that of the bootstrap, for rates from 0.3 to 0.7."""
    trials: int = 0
    """Number of samples per rate; 0 if the coverage is exact."""
    is_checked: bool = True
    """Whether there is a requirement for this n."""

    @property
    def worst(self) -> tuple[float, float]:
        """The smallest coverage of the new interval, and the rate where it occurs."""
        index = int(np.argmin(self.new))
        return self.new[index], self.rates[index]

    @property
    def worst_old(self) -> tuple[float, float]:
        """The same of the bootstrap."""
        index = int(np.argmin(self.old))
        return self.old[index], self.rates[index]

    @property
    def holds(self) -> bool:
        """Whether the requirement is met: exactly, or within three standard errors of a simulation."""
        least = least_allowed(self.n)
        slack = 3 * np.sqrt(least * (1 - least) / self.trials) if self.trials else 0.0
        mean_slack = 3 * np.sqrt(0.05 * 0.95 / (self.trials * len(RATES))) if self.trials else 0.0
        is_mean_met = REQUIRED_MEAN[0] - mean_slack <= self.means[1] <= REQUIRED_MEAN[1] + mean_slack
        return not self.is_checked or bool(is_mean_met and self.worst[0] >= least - slack)


def interval_bounds(n: int) -> Bounds:
    """Return (n + 1,) low and high of the present interval for each number of hits, with very many resamples."""
    hits = np.arange(n + 1)
    evidence = [ProportionEstimate(k / n, float(n), float(n), float(min(k, n - k, n / 2))) for k in hits.tolist()]
    bounds = np.array(proportion_intervals(evidence, np.stack(bootstrap_bounds(n), axis=1).tolist()))
    return bounds[:, 0], bounds[:, 1]


def bootstrap_bounds(n: int) -> Bounds:
    """Return the same for the percentile bootstrap, whose resampled hits are binomial around the observed ones."""
    from scipy.stats import binom

    hits = np.arange(n + 1)
    low, high = (np.where((hits > 0) & (hits < n), binom.ppf(q, n, hits / n), hits) for q in (0.025, 0.975))
    return low / n, high / n


def coverage(n: int, bounds: Bounds, rates: np.ndarray) -> np.ndarray:
    """Return (S,) the probability that the interval of a sample of n contains the rate, summed over numbers of hits."""
    from scipy.stats import binom

    low, high = bounds[0] - 1e-12, bounds[1] + 1e-12
    if (np.diff(low) < 0).any() or (np.diff(high) < 0).any():
        # Where mid-p and the bootstrap are mixed, one more hit may have a slightly lower bound, because the bootstrap
        # has only whole hits. So the numbers of hits whose interval contains a rate need not be consecutive.
        hits = np.arange(n + 1)
        return np.array([binom.pmf(hits[(low <= p) & (p <= high)], n, p).sum() for p in rates])
    first, last = np.searchsorted(high, rates), np.searchsorted(low, rates, side="right") - 1
    return np.where(last >= first, binom.cdf(last, n, rates) - binom.cdf(first - 1, n, rates), 0.0)


def exact_coverage(n: int) -> CoverageRow:
    """Compute the exact coverage for independent hits and misses.

    The rates are 1,999 between 0 and 1, and both sides of every bound, where coverage jumps.
    """
    bounds = bootstrap_bounds(n), interval_bounds(n)
    grid = np.arange(1, 2000) / 2000
    ends = np.concatenate([end for low_and_high in bounds for end in low_and_high])
    shown = [np.array([rate, 1 - rate]) for rate in SHOWN]
    rates = np.unique(np.concatenate([grid, *shown, ends - 1e-9, ends + 1e-9]))
    rates = rates[(rates > 0) & (rates < 1)]
    old, new = (coverage(n, low_and_high, rates) for low_and_high in bounds)
    means = tuple(float(coverage(n, low_and_high, grid).mean()) for low_and_high in bounds)
    middle = slice(int(0.3 * n), int(0.7 * n) + 1)
    widths = [(high - low)[middle].mean() for low, high in bounds]
    at, by_bootstrap, by_interval = (tuple(values.tolist()) for values in (rates, old, new))
    width = float(widths[1] / widths[0])
    return CoverageRow("independent, exact", n, at, by_bootstrap, by_interval, (means[0], means[1]), width)


def simulated(simulation: RateSimulation, n: int, trials: int, seed: int) -> CoverageRow:
    """Estimate the coverage in a simulation with samples of n images."""
    rng = np.random.default_rng(seed)
    resampling = np.random.default_rng(0)
    counts = [np.bincount(resampling.integers(0, n, n), minlength=n) for _ in range(RESAMPLES)]
    resamples = np.stack(counts).astype(np.float64)
    old: list[float] = []
    new: list[float] = []
    widths = []
    rates = (*RATES, *EDGES)
    for rate in rates:
        evidence, resampled = simulation.measure(rng, n, rate, trials, resamples)
        percentiles = np.nanquantile(resampled, [0.025, 0.975], axis=0).T
        bounds = np.array(proportion_intervals(evidence, percentiles.tolist()))
        for coverages, intervals in ((old, percentiles), (new, bounds)):
            contains = (intervals[:, 0] <= rate + 1e-12) & (intervals[:, 1] >= rate - 1e-12)
            coverages.append(float(contains.mean()))
        if 0.3 < rate < 0.7:
            widths.append(np.diff(bounds).mean() / np.diff(percentiles).mean())
    means = (float(np.mean(old[: len(RATES)])), float(np.mean(new[: len(RATES)])))
    is_checked = n >= simulation.checked_from
    width = float(np.mean(widths))
    return CoverageRow(simulation.name, n, rates, tuple(old), tuple(new), means, width, trials, is_checked)


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def table(rows: Sequence[CoverageRow]) -> str:
    """Return a table with one line for each n: mean and smallest coverage, and the rate of the smallest."""
    head = ["n", "bootstrap: mean", "minimum (at rate)", "**new: mean**", "**minimum (at rate)**", "width"]
    lines = [row(head), row(["---:"] * len(head))]
    for result in rows:
        (old, old_at), (new, new_at) = result.worst_old, result.worst
        mark = "" if result.holds else " (!)"
        cells = [
            f"{result.n:,}" + ("" if result.is_checked else " *"),
            percent(result.means[0]),
            f"{percent(old)} ({100 * old_at:.3g} %)",
            f"**{percent(result.means[1])}**",
            f"**{percent(new)}** ({100 * new_at:.3g} %){mark}",
            f"{result.width:.2f}",
        ]
        lines.append(row(cells))
    return "\n".join(lines)


def by_rate(rows: Sequence[CoverageRow]) -> str:
    """Return a table of the coverage at some rates, of the bootstrap and of the new interval."""
    head = ["n", *(f"{100 * rate:g} %" for rate in SHOWN)]
    lines = [row(head), row(["---:"] * len(head))]
    for result in rows:
        indices = [result.rates.index(rate) for rate in SHOWN]
        cells = [f"{percent(result.old[i])} → **{percent(result.new[i])}**" for i in indices]
        lines.append(row([f"{result.n:,}", *cells]))
    return "\n".join(lines)


def text_of(exact: Sequence[CoverageRow], estimated: Sequence[CoverageRow]) -> str:
    """Return the page without its head: introduction, exact coverage, and one section for each simulation."""
    failed = [result for result in (*exact, *estimated) if not result.holds]
    verdict = (
        f"**Requirements are not met in {len(failed)} of {len(exact) + len(estimated)} rows, marked (!).**"
        if failed
        else "**All requirements are met** (simulations: within three standard errors)."
    )
    parts = [
        INTRODUCTION.format(verdict=verdict),
        "## Independent hits and misses\n\nComputed exactly: binomial probabilities are summed, and the minimum is "
        "over all rates.\n\n" + table(exact),
        "By rate, bootstrap → new:\n\n" + by_rate(exact),
    ]
    for simulation in SIMULATIONS:
        rows = [result for result in estimated if result.simulation == simulation.name]
        if rows:
            samples = f"{rows[0].trials:,} samples per rate; rates: 2.5, 7.5, ... 97.5 % and four near 0 and 100 %."
            parts.append(f"## {simulation.name}\n\n{simulation.about} {samples}\n\n{table(rows)}")
    return "\n\n".join(wrapped(part) for part in "\n\n".join(parts).split("\n\n"))


def wrapped(text: str) -> str:
    """Wrap a paragraph at 120 columns; tables and headings stay as they are."""
    if text.startswith(("#", "|")):
        return text
    return textwrap.fill(text, 120, break_on_hyphens=False, break_long_words=False)


def csv_of(rows: Sequence[CoverageRow]) -> str:
    """Return one line for each simulation, n and rate; of the exact coverage only the rates of the tables."""
    lines = ["simulation,n,rate,bootstrap,new,samples"]
    for result in rows:
        for rate, old, new in zip(result.rates, result.old, result.new, strict=True):
            if result.trials or rate in SHOWN or 1 - rate in SHOWN:
                samples = result.trials or "exact"
                lines.append(f'"{result.simulation}",{result.n},{rate:.6g},{old:.5f},{new:.5f},{samples}')
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes and few samples: seconds")
    parser.add_argument("--out", type=Path, help="folder for intervals.md and intervals.csv")
    options = parser.parse_args(arguments)
    load, start = os.getloadavg()[0], time.perf_counter()
    exact = [exact_coverage(n) for n in (SIZES[:4] if options.quick else SIZES)]
    estimated = []
    for number, simulation in enumerate(SIMULATIONS):
        for n in SIMULATED_SIZES[2:3] if options.quick else SIMULATED_SIZES:
            trials = 40 if options.quick else simulation.trials
            result = simulated(simulation, n, trials, seed=1000 * number + n)
            estimated.append(result)
            mean, minimum = percent(result.means[1]), percent(result.worst[0])
            print(f"{simulation.name}, {n}: mean {mean}, minimum {minimum}", file=sys.stderr, flush=True)
    command = "python -m benchmarks.interval_coverage" + (" --quick" if options.quick else "") + " --out results"
    text = text_of(exact, estimated)
    seconds, threads = time.perf_counter() - start, torch.get_num_threads()
    record = last_line("interval_coverage", {}, figures(exact, estimated, seconds), "cpu", threads, load)
    content = page("Coverage of the 95 % intervals", text, command, "cpu", PACKAGES, threads)
    print(content)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        atomic_write_text(options.out / "intervals.md", content)
        atomic_write_text(options.out / "intervals.csv", csv_of([*exact, *estimated]))
    print(json.dumps(record))
    return 0 if all(result.holds for result in (*exact, *estimated)) else 1


def figures(exact: Sequence[CoverageRow], estimated: Sequence[CoverageRow], seconds: float) -> dict[str, object]:
    return {
        "rows": [
            {
                "simulation": result.simulation,
                "n": result.n,
                "means": result.means,
                "minimum": result.worst,
                "holds": result.holds,
            }
            for result in (*exact, *estimated)
        ],
        "seconds": seconds,
    }


if __name__ == "__main__":
    sys.exit(main())
