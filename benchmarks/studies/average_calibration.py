"""Measure how often `regress` raises a false alarm on suite averages, with images that benchmarks share.

    python -m benchmarks.studies.average_calibration [--trials 4000] [--quick] [--out results]

As `regress_calibration.py`, for averages: the true drop is exactly `max_drop`, where a false alarm is most likely, and
the samples are tested at level 0.05 as the command does. For comparison, the tests of that study, and the test of the
command if every benchmark had images of its own. The script writes regress_averages.md; the last line printed is JSON.
"""

import argparse
import json
import math
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.studies.regress_calibration import ALPHA, OTHER_TESTS, CalibrationRow, measure, percent
from benchmarks.studies.regress_simulations import (
    SEGMENTATIONS,
    PairedSimulation,
    Rng,
    entries,
    outcomes,
)
from cosmos_core.files import atomic_write_text
from cosmos_eval.metrics.paired_average import PairedAverage, join_hits
from cosmos_eval.metrics.paired_drop import drop_p_value
from cosmos_eval.metrics.paired_ratios import PairedRatios
from cosmos_eval.metrics.paired_samples import Hits, PairedPixelCounts
from cosmos_eval.metrics.resampled_metric import UnitSums
from cosmos_eval.metrics.worst_group import smallest_ratio
from cosmos_eval.results.environment import environment

RESAMPLES = 500
Draw = Callable[[Rng, int, float], Hits]


def joined(
    images: Sequence[range], churn: float, shared_outcomes: float = 0.6, each: int = 1, apart: bool = False
) -> Draw:
    """The plain average of accuracies, all of which drop alike.

    Args:
        images: images of each benchmark, by number; those with one number are the same image.
        churn: fraction that is lost and fraction that is won without a drop.
        shared_outcomes: fraction of the images whose outcome is the same in all benchmarks that show it.
        each: samples (captions) of each image in the first benchmark, with one outcome.
        apart: take the images of each benchmark as its own, as a test that does not know better would.
    """
    total = 1 + max(image for shown in images for image in shown)

    def draw(rng: Rng, units: int, drop: float) -> Hits:
        baseline, candidate = outcomes(rng, total, churn + drop, churn)
        is_shared = rng.random(total) < shared_outcomes
        members, names = [], []
        for k, shown in enumerate(images):
            own_baseline, own_candidate = outcomes(rng, total, churn + drop, churn)
            select = np.arange(shown.start, shown.stop)
            times = each if k == 0 else 1
            values = [
                np.repeat(np.where(is_shared, first, own)[select].astype(float), times)
                for first, own in ((baseline, own_baseline), (candidate, own_candidate))
            ]
            unit = np.repeat(select, times)
            members.append((1 / len(images), Hits(values[0], values[1], unit)))
            names.append(unit + (k * total if apart else 0))
        return join_hits(members, names)

    return draw


def small_and_large(rate: float, small: int, large: int) -> Draw:
    """A small benchmark in which few samples win a lot and all others lose a little, and a large one without a change
    on average: most draws of the small one contain only losses."""

    def draw(rng: Rng, units: int, drop: float) -> Hits:
        little = (2 * drop + rate) / (1 - rate)
        won = rng.random(small) < rate
        first = Hits(np.where(won, 0.0, 0.5 + little / 2), np.where(won, 1.0, 0.5 - little / 2), np.arange(small))
        baseline, candidate = outcomes(rng, large, 0.02, 0.02)
        second = Hits(baseline.astype(float), candidate.astype(float), np.arange(large))
        return join_hits([(0.5, first), (0.5, second)], [np.arange(small), small + np.arange(large)])

    return draw


def pair(
    name: str, images: Sequence[range], max_drop: float, churn: float, **options: Any
) -> tuple[PairedSimulation, Draw]:
    """A simulation, and the same drawn as if no image were shared."""
    units = 1 + max(image for shown in images for image in shown)
    simulation = PairedSimulation(name, units, max_drop, joined(images, churn, **options))
    return simulation, joined(images, churn, apart=True, **options)


HITS: tuple[tuple[PairedSimulation, Draw | None], ...] = (
    pair("two benchmarks on the same images", (range(100), range(100)), 0.0, 0.05, shared_outcomes=0.9),
    pair("two benchmarks on the same images", (range(1000), range(1000)), 0.0, 0.05, shared_outcomes=0.9),
    pair("two benchmarks on the same images", (range(1000), range(1000)), 0.01, 0.03, shared_outcomes=0.9),
    pair("retrieval (5 captions) and classification on the same images", (range(500), range(500)), 0.0, 0.05, each=5),
    pair("three benchmarks, half of the images shared", (range(400), range(200, 600), range(400, 800)), 0.01, 0.05),
    pair("eight benchmarks of 50 to 2,000 images, four on the same",
         (range(500), range(500), range(500), range(500), range(500, 550), range(600, 2600), range(2600, 2800),
          range(2800, 3400)), 0.0, 0.04),
    pair("eight benchmarks of 50 images, none shared", tuple(range(50 * k, 50 * k + 50) for k in range(8)), 0.0, 0.05),
    (PairedSimulation("rare wins in 40 images, and 2,000 others", 2040, 0.0, small_and_large(0.02, 40, 2000)), None),
)  # fmt: skip


@dataclass(frozen=True)
class BootstrapSimulation:
    """An average of which a member is not a mean over samples."""

    name: str
    images: int
    max_drop: float
    draw: Callable[[Rng], PairedAverage]


def with_segmentation(number: int) -> BootstrapSimulation:
    """The mean of a mean IoU and an accuracy on the same images, whose hits follow the quality of the candidate."""
    simulation = SEGMENTATIONS[number]
    iou_drop = simulation.true_drop(simulation.candidate)
    accuracy_drop = 0.05

    def draw(rng: Rng) -> PairedAverage:
        areas = simulation.areas(rng, simulation.images, simulation.candidate)
        names = np.array([f"{i}" for i in range(simulation.images)], dtype=object)
        counts = PairedPixelCounts(entries(areas[0]), entries(areas[1]), simulation.images, None, names)
        baseline, candidate = outcomes(rng, simulation.images, 0.05 + accuracy_drop, 0.05)
        hits = Hits(baseline.astype(float), candidate.astype(float), np.arange(simulation.images), unit_names=names)
        return average_of([counts, hits])

    name = f"{simulation.name} and an accuracy"
    return BootstrapSimulation(name, simulation.images, (iou_drop + accuracy_drop) / 2, draw)


def with_worst_group(images: int, drop: float, rates: Sequence[float]) -> BootstrapSimulation:
    """The mean of the accuracy of the worst group, whose true drop is `drop` as that of every group, and two others."""

    def draw(rng: Rng) -> PairedAverage:
        group = rng.integers(0, len(rates), images)
        names = np.array([f"{i}" for i in range(images)], dtype=object)
        u = rng.random(images)
        noise = np.where(rng.random(images) < 0.7, u, rng.random(images))
        rate = np.asarray(rates)[group]
        values = [(u < rate).astype(float), (noise < rate - drop).astype(float)]
        sums = [
            UnitSums.build(
                names,
                np.tile(np.arange(images), 2),
                np.concatenate([group, group + len(rates)]),
                np.concatenate([correct, np.ones(images)]),
                smallest_ratio,
            )
            for correct in values
        ]
        worst = PairedRatios(sums[0], sums[1], hit=(1.0, 1.0), miss=1.0)
        others = []
        for k in range(2):
            baseline, candidate = outcomes(rng, images, 0.05 + drop, 0.05)
            own = np.array([f"{k} {i}" for i in range(images)], dtype=object)
            others.append(Hits(baseline.astype(float), candidate.astype(float), np.arange(images), unit_names=own))
        return average_of([worst, *others])

    kind = "one far below" if rates[0] < rates[1] - 0.05 else "all alike"
    return BootstrapSimulation(f"worst of {len(rates)} groups ({kind}) and two accuracies", images, drop, draw)


def average_of(members: Sequence[Hits | PairedPixelCounts | PairedRatios]) -> PairedAverage:
    """The plain average of members."""
    weighted = tuple((1 / len(members), member) for member in members)
    return PairedAverage(weighted, tuple((member.of_model(0), member.of_model(1)) for member in members))


BOOTSTRAPS = (
    lambda: with_segmentation(1),
    lambda: with_segmentation(3),
    lambda: with_worst_group(400, 0.02, (0.4, 0.6, 0.7, 0.8)),
    lambda: with_worst_group(400, 0.02, (0.6, 0.6, 0.6, 0.6)),
)


def measure_bootstrap(simulation: BootstrapSimulation, trials: int, seed: int) -> CalibrationRow:
    """Measure false alarms of an average that is bootstrapped."""
    rng = np.random.default_rng(seed)
    alarms = 0
    for _ in range(trials):
        samples = simulation.draw(rng)
        drop = samples.bootstrap_drop(RESAMPLES, int(rng.integers(2**31)))
        alarms += drop.p_value(simulation.max_drop) <= ALPHA
    others = dict.fromkeys(OTHER_TESTS, math.nan)
    return CalibrationRow(
        simulation.name, simulation.images, simulation.max_drop, trials, alarms / trials, others, math.inf, math.nan
    )


def measure_apart(simulation: PairedSimulation, draw: Draw, trials: int, seed: int) -> float:
    """False alarms of the test if shared images were taken for different ones."""
    rng = np.random.default_rng(seed)
    apart = replace(simulation, draw=draw)
    p = [drop_p_value(apart.samples(rng, apart.max_drop).differences(), apart.max_drop) for _ in range(trials)]
    return float((np.array(p) <= ALPHA).mean())


def keeps_level(row: CalibrationRow) -> bool:
    """Whether there are at most 5 % false alarms, within three standard errors."""
    return row.false_alarms <= ALPHA + 3 * row.error


def table(rows: Sequence[tuple[CalibrationRow, float]]) -> str:
    head = ["simulation", "images", "max-drop", "false alarms", "as if independent", *OTHER_TESTS, "detectable drop",
            "power"]  # fmt: skip
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for row, apart in rows:
        lines.append(
            [
                row.name,
                f"{row.units:,}",
                f"{100 * row.max_drop:.2g}",
                f"**{percent(row.false_alarms)}**" + ("" if keeps_level(row) else " (!)"),
                percent(apart),
                *(percent(row.others[name]) for name in OTHER_TESTS),
                f"{100 * row.detectable:.2f}" if math.isfinite(row.detectable) else "–",
                percent(row.power),
            ]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def page(rows: Sequence[tuple[CalibrationRow, float]], command: str, seconds: float) -> str:
    """Return the page results/regress_averages.md."""
    measured_on = environment()
    hardware, packages = measured_on["hardware"], measured_on["packages"]
    failed = [row for row, _ in rows if not keeps_level(row)]
    verdict = (
        f"**Too many false alarms in {len(failed)} of {len(rows)} simulations, marked (!).**"
        if failed
        else f"**In all {len(rows)} simulations, the test raises false alarms in at most 5 % of the trials,** within "
        "three standard errors."
    )
    powers = [row.power for row, _ in rows if not math.isnan(row.power)]
    verdict += (
        f" A true drop of the size that the command prints as detectable was detected in {percent(min(powers))} to "
        f"{percent(max(powers))} % (the command claims 80 %)."
    )
    worst = max((apart for _, apart in rows if not math.isnan(apart)), default=math.nan)
    text = f"""# Calibration of the regression test on suite averages

Made by `{command}` in {seconds / 60:.0f} minutes. {hardware["cpu"]}, {hardware["cores"]} cores, Python
{measured_on["python"]}, numpy {packages["numpy"]}.

The true drop of the average is exactly `max-drop`, where a false alarm is most likely, and the level is 5 %. The table
shows the percentage of {rows[0][0].trials:,} trials ({rows[-1][0].trials:,} where a member is not a mean over samples,
and the average is bootstrapped); the standard error at 5 % is {100 * rows[0][0].error:.2f} points
({100 * rows[-1][0].error:.2f}). The bold column is the test of `cosmos-eval regress --suite`. `as if independent` is
the same test if an image that several benchmarks show were a different one in each: its false alarms reach
{percent(worst)} %. The next columns are those of [the page on single benchmarks](regress.md).

{verdict}

{table(rows)}
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


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=4000)
    parser.add_argument("--quick", action="store_true", help="few trials: about a minute")
    parser.add_argument("--out", type=Path, help="folder for regress_averages.md")
    options = parser.parse_args(arguments)
    trials = 100 if options.quick else options.trials
    start = time.perf_counter()
    rows: list[tuple[CalibrationRow, float]] = []
    for number, (simulation, apart) in enumerate(HITS):
        row = measure(simulation, trials, seed=number)
        rows.append((row, math.nan if apart is None else measure_apart(simulation, apart, trials, 100 + number)))
        print(f"{row.name}, {row.units}: {percent(row.false_alarms)}", file=sys.stderr, flush=True)
    for number, build in enumerate(BOOTSTRAPS):
        row = measure_bootstrap(build(), max(20, trials // 4), seed=200 + number)
        rows.append((row, math.nan))
        print(f"{row.name}, {row.units}: {percent(row.false_alarms)}", file=sys.stderr, flush=True)
    seconds = time.perf_counter() - start
    arguments_text = " --quick" if options.quick else f" --trials {trials}"
    command = (
        "python -m benchmarks.studies.average_calibration" + arguments_text + (" --out results" if options.out else "")
    )
    text = page(rows, command, seconds)
    print(text)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        atomic_write_text(options.out / "regress_averages.md", text)
    figures = {
        "trials": trials,
        "worst_false_alarms": max(row.false_alarms for row, _ in rows),
        "keeps_level": all(keeps_level(row) for row, _ in rows),
        "rows": [
            {
                "simulation": row.name,
                "false_alarms": row.false_alarms,
                "if_independent": None if math.isnan(apart) else apart,
            }
            for row, apart in rows
        ],
        "seconds": round(seconds, 1),
    }  # fmt: skip
    print(json.dumps({"name": "average_calibration", "ratios": {}, "figures": figures, "environment": environment()}))
    return 0 if figures["keeps_level"] else 1


if __name__ == "__main__":
    sys.exit(main())
