"""Measure how often `regress` raises a false alarm and detects a drop, on simulated samples with a known truth.

    python -m benchmarks.studies.regress_calibration [--trials 4000] [--workers 2] [--quick] [--out results]

In each simulation (benchmarks/studies/regress_simulations.py), the true drop is exactly `max_drop`, where a false alarm
is most likely, and the samples are tested at level 0.05 as the command does. For comparison there are sign flips of the
shifted differences by unit, Student's t-test by unit, and Student's t-test with every sample as independent. For the
power, the true drop is then set to the smallest detectable drop that the command prints for this simulation. Finally,
small cases are searched for a false alarm rate above its level, with all outcomes enumerated
(benchmarks/studies/regress_search.py). `--workers` processes share the simulations. The script writes regress.md; the
last line printed is JSON.
"""

import argparse
import json
import math
import multiprocessing
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.studies.regress_search import LARGEST, UNITS, SearchResult, search
from benchmarks.studies.regress_simulations import (
    SEGMENTATIONS,
    SIMULATIONS,
    Hits,
    PairedSimulation,
    SegmentationSimulation,
    entries,
)
from cosmos_core.files import atomic_write_text
from cosmos_eval.metrics.bootstrap_drop import BootstrapDrop
from cosmos_eval.metrics.detectable_drop import POWER, detectable_drop, measure_power_inputs
from cosmos_eval.metrics.paired_drop import drop_p_value, holm
from cosmos_eval.metrics.paired_iou import bootstrap_iou_drop
from cosmos_eval.results.environment import environment

ALPHA = 0.05
FLIPS = 499
OTHER_TESTS = ("sign flips", "t by unit", "t by sample")
OTHER_TRIALS = 1000
SUITE = 6
"""Number of metrics on the same images, for Holm's correction."""


@dataclass(frozen=True)
class CalibrationRow:
    """Results of one simulation: the fraction of trials in which a test rejected."""

    name: str
    units: int
    max_drop: float
    trials: int
    false_alarms: float
    others: dict[str, float]
    """False alarms of the other tests."""
    detectable: float
    """Mean of the smallest detectable drops that the command prints; infinite where no drop can be detected."""
    power: float
    """Power at a true drop of this size; NaN if it is infinite."""

    @property
    def error(self) -> float:
        """Standard error of a rate that equals alpha."""
        return math.sqrt(ALPHA * (1 - ALPHA) / self.trials)

    @property
    def holds(self) -> bool:
        """Whether level and power are as claimed, within three standard errors: one in 700 rows fails by chance."""
        spread = 3 * math.sqrt(POWER * (1 - POWER) / self.trials)
        return self.false_alarms <= ALPHA + 3 * self.error and not self.power < POWER - spread


def normal_tail(t: float) -> float:
    """Return the upper tail probability of the standard normal distribution."""
    return math.erfc(t / math.sqrt(2)) / 2


def t_test(excess: np.ndarray) -> float:
    """Return p for a mean above zero, with the normal approximation for many units."""
    spread = excess.std(ddof=1)
    if spread == 0:
        return 0.0 if excess.mean() > 0 else 1.0
    return normal_tail(excess.mean() / spread * math.sqrt(len(excess)))


def sign_flips(excess: np.ndarray, rng: np.random.Generator) -> float:
    """Return p for a sum above zero, if all signs are equally likely."""
    signs = rng.integers(0, 2, (FLIPS, len(excess)), dtype=np.int8).astype(np.float32) * 2 - 1
    return float(((signs @ excess.astype(np.float32) >= excess.sum() - 1e-6).sum() + 1) / (FLIPS + 1))


def other_tests(samples: Hits, max_drop: float, rng: np.random.Generator) -> list[float]:
    """Return p for each of OTHER_TESTS."""
    drops = samples.differences()
    excess = drops.unit_drops - max_drop * drops.unit_weights
    weights = np.ones(len(samples.unit)) if samples.weights is None else samples.weights
    each = weights * (samples.baseline - samples.candidate - max_drop)
    return [sign_flips(excess, rng), t_test(excess), t_test(each)]


def measure(simulation: PairedSimulation, trials: int, seed: int) -> CalibrationRow:
    """Measure false alarms and power in a simulation whose metric is a mean of hits."""
    rng = np.random.default_rng(seed)
    p, others = [], []
    for trial in range(trials):
        samples = simulation.samples(rng, simulation.max_drop)
        p.append(drop_p_value(samples.differences(), simulation.max_drop))
        if trial < OTHER_TRIALS:
            others.append(other_tests(samples, simulation.max_drop, rng))
    other_false_alarms = (np.array(others) <= ALPHA).mean(0).tolist()

    def printed_drop(true_drop: float) -> float:
        return detectable_drop(
            measure_power_inputs(simulation.samples(rng, true_drop).differences()), simulation.max_drop, ALPHA
        )

    drop = consistent_drop(printed_drop, simulation.max_drop)
    power = math.nan
    if math.isfinite(drop):
        detected = [
            drop_p_value(simulation.samples(rng, drop).differences(), simulation.max_drop) <= ALPHA
            for _ in range(trials)
        ]
        power = float(np.mean(detected))
    return CalibrationRow(
        simulation.name,
        simulation.units,
        simulation.max_drop,
        trials,
        float((np.array(p) <= ALPHA).mean()),
        dict(zip(OTHER_TESTS, other_false_alarms, strict=True)),
        drop,
        power,
    )


def consistent_drop(printed_drop: Callable[[float], float], max_drop: float) -> float:
    """Find the drop that the command prints, on average, for candidates with this very drop (fixed-point iteration)."""
    drop = max_drop
    for repetitions in (2, 3, 5, 20):
        printed = [printed_drop(min(drop, 0.9)) for _ in range(repetitions)]
        if not all(map(math.isfinite, printed)):
            return math.inf
        drop = float(np.mean(printed))
    return drop if drop < 0.45 else math.inf


def measure_segmentation(
    simulation: SegmentationSimulation, trials: int, seed: int, resamples: int = 500
) -> CalibrationRow:
    """Measure false alarms and power for mean IoU. `max_drop` is set to the true drop of the simulation."""
    rng = np.random.default_rng(seed)
    max_drop = simulation.true_drop(simulation.candidate)

    def draw_bootstrap(at: SegmentationSimulation) -> BootstrapDrop:
        baseline, candidate = at.areas(rng, at.images, at.candidate)
        bootstrap_seed = int(rng.integers(2**31))
        return bootstrap_iou_drop(
            entries(baseline), entries(candidate), at.images, resamples=resamples, seed=bootstrap_seed
        )

    def printed_drop(true_drop: float) -> float:
        return detectable_drop(draw_bootstrap(simulation.with_drop(true_drop)).power_inputs(), max_drop, ALPHA)

    false_alarms, by_unit, by_flips = [], [], []
    for _ in range(trials):
        bootstrap = draw_bootstrap(simulation)
        false_alarms.append(bootstrap.p_value(max_drop) <= ALPHA)
        excess = bootstrap.influence + (bootstrap.drop - max_drop) / simulation.images
        by_unit.append(t_test(excess) <= ALPHA)
        by_flips.append(sign_flips(excess, rng) <= ALPHA)
    drop = consistent_drop(printed_drop, max_drop)
    power = math.nan
    if math.isfinite(drop) and simulation.true_drop(-8.0) > drop:
        worse = simulation.with_drop(drop)
        power = float(np.mean([draw_bootstrap(worse).p_value(max_drop) <= ALPHA for _ in range(trials)]))
    return CalibrationRow(
        simulation.name,
        simulation.images,
        max_drop,
        trials,
        float(np.mean(false_alarms)),
        {"sign flips": float(np.mean(by_flips)), "t by unit": float(np.mean(by_unit)), "t by sample": math.nan},
        drop,
        power,
    )


def measure_suite(trials: int, seed: int) -> CalibrationRow:
    """Measure how often there is any false alarm among several metrics on the same images, with Holm's correction."""
    rng = np.random.default_rng(seed)
    metrics = [simulation for simulation in SIMULATIONS if simulation.units >= 1000][:SUITE]
    alarms, uncorrected = 0, 0
    for _ in range(trials):
        # the same seed for all metrics, because the metrics of one model on the same images are correlated
        shared_seed = int(rng.integers(2**31))
        p = [
            drop_p_value(
                simulation.samples(np.random.default_rng(shared_seed), simulation.max_drop).differences(),
                simulation.max_drop,
            )
            for simulation in metrics
        ]
        alarms += min(holm(p)) <= ALPHA
        uncorrected += min(p) <= ALPHA
    name = f"any of {len(metrics)} metrics, Holm"
    others = {
        "sign flips": math.nan,
        "t by unit": math.nan,
        "t by sample": math.nan,
        "no correction": uncorrected / trials,
    }
    return CalibrationRow(name, 1000, 0.0, trials, alarms / trials, others, math.inf, math.nan)


def table(rows: Sequence[CalibrationRow]) -> str:
    head = ["simulation", "units", "max-drop", "false alarms", *OTHER_TESTS, "detectable drop", "power"]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for row in rows:
        cells = [
            row.name,
            f"{row.units:,}",
            f"{100 * row.max_drop:.2g}",
            f"**{percent(row.false_alarms)}**" + ("" if row.holds else " (!)"),
            *(percent(row.others[name]) for name in OTHER_TESTS),
            f"{100 * row.detectable:.2f}" if math.isfinite(row.detectable) else "–",
            percent(row.power),
        ]
        lines.append(cells)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.1f}"


def page(
    rows: Sequence[CalibrationRow], suite: CalibrationRow, searched: SearchResult, command: str, seconds: float
) -> str:
    """Return the page results/regress.md."""
    measured_on = environment()
    hardware, packages = measured_on["hardware"], measured_on["packages"]
    trials, segmentation_trials = rows[0].trials, rows[-1].trials
    worst = max(rows, key=lambda row: row.false_alarms)
    worst_other = max(value for row in rows for value in row.others.values() if not math.isnan(value))
    text = f"""# Calibration of the regression test

Made by `{command}` in {seconds / 60:.0f} minutes. {hardware["cpu"]}, {hardware["cores"]} cores, Python
{measured_on["python"]}, numpy {packages["numpy"]}.

The true drop is exactly `max-drop`, where a false alarm is most likely, and the level is 5 %. The table shows the
percentage of {trials:,} trials for each simulation (mean IoU: {segmentation_trials:,}); the standard error at 5 % is
{100 * rows[0].error:.2f} points ({100 * rows[-1].error:.2f}). The bold column is the test of `cosmos-eval regress`. The
next three columns are other tests, on at most the first {OTHER_TRIALS:,} of the same samples: sign flips of the
differences minus `max-drop`, summed by unit; Student's t-test by unit; and Student's t-test with every sample as
independent.

{verdict(rows)} The highest false alarm rate is {percent(worst.false_alarms)} % ({worst.name}, {worst.units:,} units).
The highest of the other tests is {percent(worst_other)} %. If most units lose a little and few win a lot, sign flips
and the t-test report a drop with false certainty for a sample without the few. If the captions of an image are
correlated, samples are not independent.

This has a cost where there are few units or very different units: false alarms are far below 5 %, and fewer drops are
detected. The last two columns show it: the smallest detectable drop that the command prints, in points, averaged over
samples of the simulation, and how often a true drop of this size was detected (the command claims 80 %). A dash means
that no drop below 45 points is certain to be detected, and the command says so.

{table(rows)}

In a suite of {SUITE} such metrics on the same images, Holm's correction leaves a false alarm in
{percent(suite.false_alarms)} % of {suite.trials:,} trials ({percent(suite.others["no correction"])} % without it).

Simulations cover only the cases for which they were written. So there is also a search without simulation:
{searched.distributions:,} distributions of the loss of a unit, with two to four values each and a mean of exactly
`max-drop`, on {UNITS[0]} to {UNITS[-1]} units. All outcomes of each are enumerated. The false alarm rate at a level,
divided by that level, is at most {searched.worst:.3f}{"" if searched.holds else " **(!)**"} over all distributions and
all levels up to {100 * LARGEST:.0f} % (the maximum is at {100 * searched.level:.2g} %, with {searched.units} units; a
ratio of 1 means that the level is met exactly).
"""
    return (
        "\n\n".join(
            part
            if part.startswith(("#", "|"))
            else textwrap.fill(part, 120, break_on_hyphens=False, break_long_words=False)
            for part in text.strip().split("\n\n")
        )
        + "\n"
    )


def verdict(rows: Sequence[CalibrationRow]) -> str:
    """Return one sentence about the test of the command."""
    failed = [row for row in rows if not row.holds]
    if failed:
        return f"**Not as claimed in {len(failed)} of {len(rows)} simulations, marked (!).**"
    return (
        f"**In all {len(rows)} simulations, the test raises false alarms in at most 5 % of the trials and detects the "
        "drop that it prints in at least 80 %,** within three standard errors."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=4000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="fewer trials: about a minute")
    parser.add_argument("--out", type=Path, help="folder for regress.md")
    options = parser.parse_args(arguments)
    trials = 120 if options.quick else options.trials
    start = time.perf_counter()
    jobs = [(number, trials) for number in range(len(SIMULATIONS) + len(SEGMENTATIONS) + 1)]
    if options.workers > 1:
        with ProcessPoolExecutor(options.workers, multiprocessing.get_context("spawn")) as pool:
            *rows, suite = pool.map(run_job, jobs)
    else:
        *rows, suite = map(run_job, jobs)
    command = "python -m benchmarks.studies.regress_calibration" + (
        " --quick" if options.quick else f" --trials {trials}"
    )
    searched = search(trials // 3)
    seconds = time.perf_counter() - start
    text = page(rows, suite, searched, command + (" --out results" if options.out else ""), seconds)
    print(text)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        atomic_write_text(options.out / "regress.md", text)
    print(json.dumps(record(rows, suite, searched, seconds)))
    return 0 if all(row.holds for row in (*rows, suite)) and searched.holds else 1


def run_job(job: tuple[int, int]) -> CalibrationRow:
    """Run a simulation by its number: means of hits, then segmentations (with half the trials), then the suite."""
    number, trials = job
    if number < len(SIMULATIONS):
        row = measure(SIMULATIONS[number], trials, seed=number)
    elif number < len(SIMULATIONS) + len(SEGMENTATIONS):
        row = measure_segmentation(SEGMENTATIONS[number - len(SIMULATIONS)], trials // 2, seed=number)
    else:
        row = measure_suite(trials // 2, seed=number)
    print_progress(row)
    return row


def print_progress(row: CalibrationRow) -> None:
    warning = "" if row.holds else ", NOT AS CLAIMED"
    print(
        f"{row.name}, {row.units}: false alarms {percent(row.false_alarms)}, power {percent(row.power)}{warning}",
        file=sys.stderr,
        flush=True,
    )


def record(
    rows: Sequence[CalibrationRow], suite: CalibrationRow, searched: SearchResult, seconds: float
) -> dict[str, object]:
    powers = [row.power for row in rows if not math.isnan(row.power)]
    figures = {
        "trials": rows[0].trials,
        "simulations": len(rows),
        "worst_false_alarms": max(row.false_alarms for row in rows),
        "standard_error": round(rows[0].error, 5),
        "suite_false_alarms": suite.false_alarms,
        "searched_distributions": searched.distributions,
        "searched_worst_ratio": round(searched.worst, 6),
        "least_power": min(powers, default=None),
        "as_claimed": all(row.holds for row in (*rows, suite)),
        "seconds": round(seconds, 1),
        "rows": [
            {
                "simulation": row.name,
                "units": row.units,
                "max_drop": round(row.max_drop, 6),
                "false_alarms": row.false_alarms,
                "detectable": round(row.detectable, 6) if math.isfinite(row.detectable) else None,
                "power": None if math.isnan(row.power) else row.power,
            }
            for row in rows
        ],
    }
    return {"name": "regress_calibration", "ratios": {}, "figures": figures, "environment": environment()}


if __name__ == "__main__":
    sys.exit(main())
