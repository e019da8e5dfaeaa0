"""How often `regress` raises a false alarm, and whether it finds what it says it would: simulated, the truth known.

    python -m benchmarks.studies.regress_calibration [--trials 4000] [--workers 2] [--quick] [--out results]

In each world (benchmarks/studies/regress_simulations.py) the true drop is set to exactly `max_drop`, where a false
alarm is likeliest, and the tests are made at level 0.05 as the command makes them. Beside ours stand what one might
have taken instead: sign flips of the shifted differences by unit, Student's t by unit, and one that takes all samples
for independent. For the power, the true drop is then set to the smallest detectable drop that the command prints in
that world. After that, small cases are searched for a false alarm rate above its level, with every outcome written out
(benchmarks/studies/regress_search.py). Worlds are shared out among `--workers` processes. Writes regress.md; prints one
JSON line last.
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

from benchmarks.studies.regress_search import LARGEST, UNITS, Found, search
from benchmarks.studies.regress_simulations import SCENES, WORLDS, Hits, Scenes, World, entries
from cosmos_core.files import atomic_write_text
from cosmos_eval.metrics.detectable import POWER, churn_of, detectable_drop
from cosmos_eval.metrics.paired import holm, p_of_drop
from cosmos_eval.metrics.paired_areas import bootstrap_areas
from cosmos_eval.results.environment import environment

ALPHA = 0.05
FLIPS = 499
OTHERS = ("sign flips", "t by unit", "t by sample")
OTHERS_TRIALS = 1000
SUITE = 6
"""Metrics of a suite on the same images, for Holm's correction."""


@dataclass(frozen=True)
class Row:
    """One world: shares of trials in which a test rejected."""

    name: str
    units: int
    max_drop: float
    trials: int
    false_alarms: float
    others: dict[str, float]
    detectable: float
    """The mean of what was printed; infinite where nothing could be found."""
    power: float
    """At a true drop of that size; NaN where there is none."""

    @property
    def error(self) -> float:
        """Standard error of a share of alpha."""
        return math.sqrt(ALPHA * (1 - ALPHA) / self.trials)

    @property
    def holds(self) -> bool:
        """Within three standard errors, so many that a row in 700 fails by chance."""
        spread = 3 * math.sqrt(POWER * (1 - POWER) / self.trials)
        return self.false_alarms <= ALPHA + 3 * self.error and not self.power < POWER - spread


def normal_tail(t: float) -> float:
    return math.erfc(t / math.sqrt(2)) / 2


def t_test(excess: np.ndarray) -> float:
    """Of a mean above zero; the normal distribution, as one takes it for many units."""
    spread = excess.std(ddof=1)
    if spread == 0:
        return 0.0 if excess.mean() > 0 else 1.0
    return normal_tail(excess.mean() / spread * math.sqrt(len(excess)))


def sign_flips(excess: np.ndarray, rng: np.random.Generator) -> float:
    """Of a sum above zero, all signs alike likely."""
    signs = rng.integers(0, 2, (FLIPS, len(excess)), dtype=np.int8).astype(np.float32) * 2 - 1
    return float(((signs @ excess.astype(np.float32) >= excess.sum() - 1e-6).sum() + 1) / (FLIPS + 1))


def other_tests(samples: Hits, max_drop: float, rng: np.random.Generator) -> list[float]:
    """p of OTHERS."""
    drops = samples.drops()
    excess = drops.lost - max_drop * drops.share
    weights = np.ones(len(samples.unit)) if samples.weights is None else samples.weights
    each = weights * (samples.baseline - samples.candidate - max_drop)
    return [sign_flips(excess, rng), t_test(excess), t_test(each)]


def measure(world: World, trials: int, seed: int) -> Row:
    """A world whose metric is a mean of hits."""
    rng = np.random.default_rng(seed)
    p, others = [], []
    for trial in range(trials):
        samples = world.samples(rng, world.max_drop)
        p.append(p_of_drop(samples.drops(), world.max_drop))
        if trial < OTHERS_TRIALS:
            others.append(other_tests(samples, world.max_drop, rng))
    shares = (np.array(others) <= ALPHA).mean(0).tolist()

    def printed(drop: float) -> float:
        return detectable_drop(churn_of(world.samples(rng, drop).drops()), world.max_drop, ALPHA)

    drop = settle(printed, world.max_drop)
    power = math.nan
    if math.isfinite(drop):
        found = [p_of_drop(world.samples(rng, drop).drops(), world.max_drop) <= ALPHA for _ in range(trials)]
        power = float(np.mean(found))
    return Row(
        world.name,
        world.units,
        world.max_drop,
        trials,
        float((np.array(p) <= ALPHA).mean()),
        dict(zip(OTHERS, shares, strict=True)),
        drop,
        power,
    )


def settle(printed: Callable[[float], float], max_drop: float) -> float:
    """The drop that is printed, on average, for candidates that drop by that much."""
    drop = max_drop
    for looks in (2, 3, 5, 20):
        found = [printed(min(drop, 0.9)) for _ in range(looks)]
        if not all(map(math.isfinite, found)):
            return math.inf
        drop = float(np.mean(found))
    return drop if drop < 0.45 else math.inf


def measure_scenes(scenes: Scenes, trials: int, seed: int, resamples: int = 500) -> Row:
    """A world of segmentations; the mean IoU's true drop is `max_drop`."""
    rng = np.random.default_rng(seed)
    max_drop = scenes.true_drop(scenes.candidate)

    def drawn(world: Scenes):
        both = world.areas(rng, world.images, world.candidate)
        return bootstrap_areas(
            entries(both[0]), entries(both[1]), world.images, resamples=resamples, seed=int(rng.integers(2**31))
        )

    false_alarms, by_unit, by_flips = [], [], []
    for _ in range(trials):
        found = drawn(scenes)
        false_alarms.append(found.p(max_drop) <= ALPHA)
        excess = found.influence + (found.drop - max_drop) / scenes.images
        by_unit.append(t_test(excess) <= ALPHA)
        by_flips.append(sign_flips(excess, rng) <= ALPHA)
    drop = settle(lambda drop: detectable_drop(drawn(scenes.with_drop(drop)).churn(), max_drop, ALPHA), max_drop)
    power = math.nan
    if math.isfinite(drop) and scenes.true_drop(-8.0) > drop:
        lower = scenes.with_drop(drop)
        power = float(np.mean([drawn(lower).p(max_drop) <= ALPHA for _ in range(trials)]))
    return Row(
        scenes.name,
        scenes.images,
        max_drop,
        trials,
        float(np.mean(false_alarms)),
        {"sign flips": float(np.mean(by_flips)), "t by unit": float(np.mean(by_unit)), "t by sample": math.nan},
        drop,
        power,
    )


def measure_suite(trials: int, seed: int) -> Row:
    """Any false alarm among the metrics of a suite on the same images, Holm's correction as in the command."""
    rng = np.random.default_rng(seed)
    worlds = [world for world in WORLDS if world.units >= 1000][:SUITE]
    alarms, alone = 0, 0
    for _ in range(trials):
        # the same stream for all: metrics of one model on one set of images go up and down together
        stream = int(rng.integers(2**31))
        p = [
            p_of_drop(world.samples(np.random.default_rng(stream), world.max_drop).drops(), world.max_drop)
            for world in worlds
        ]
        alarms += min(holm(p)) <= ALPHA
        alone += min(p) <= ALPHA
    name = f"any of {len(worlds)} metrics, Holm"
    others = {"sign flips": math.nan, "t by unit": math.nan, "t by sample": math.nan, "no correction": alone / trials}
    return Row(name, 1000, 0.0, trials, alarms / trials, others, math.inf, math.nan)


def table(rows: Sequence[Row]) -> str:
    head = ["world", "units", "max-drop", "false alarms", *OTHERS, "detectable drop", "power there"]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for row in rows:
        cells = [
            row.name,
            f"{row.units:,}",
            f"{100 * row.max_drop:.2g}",
            f"**{share(row.false_alarms)}**" + ("" if row.holds else " (!)"),
            *(share(row.others[name]) for name in OTHERS),
            f"{100 * row.detectable:.2f}" if math.isfinite(row.detectable) else "–",
            share(row.power),
        ]
        lines.append(cells)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def share(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.1f}"


def page(rows: Sequence[Row], suite: Row, found: Found, command: str, seconds: float) -> str:
    about = environment()
    hardware, packages = about["hardware"], about["packages"]
    trials, scene_trials = rows[0].trials, rows[-1].trials
    worst = max(rows, key=lambda row: row.false_alarms)
    most = max(value for row in rows for value in row.others.values() if not math.isnan(value))
    text = f"""# Is the gate calibrated?

Made by `{command}` in {seconds / 60:.0f} minutes. {hardware["cpu"]}, {hardware["cores"]} cores, Python
{about["python"]}, numpy {packages["numpy"]}.

The true drop is exactly `max-drop`, where a false alarm is likeliest, and the level is 5 %. Percent of {trials:,}
trials a world (mean IoU: {scene_trials:,}); the standard error at 5 % is {100 * rows[0].error:.2f} points
({100 * rows[-1].error:.2f}). Bold is the test of `cosmos-eval regress`; beside it, on the first {OTHERS_TRIALS:,} of
the same samples at most, sign flips of the differences less `max-drop`, summed by unit; Student's t by unit; Student's
t with every sample for itself.

{verdict(rows)} The most false alarms are {share(worst.false_alarms)} % ({worst.name}, {worst.units:,} units). Of the
others the most are {share(most)} %: where most units lose a little and few win a lot, sign flips and Student's t take
a draw without the few for a sure drop; where captions of an image go together, samples are no independent ones.

The price is paid where units are few or unlike each other: there false alarms are far below 5 %, and less is found. The
last two columns say how much: the smallest detectable drop that the command prints, in points, on average over samples
of the world, and how often a true drop of that size was found (80 % is promised). A dash: no drop below 45 points is
sure to be found, and the command says so.

{table(rows)}

In a suite of {SUITE} such metrics on the same images, Holm's correction leaves any false alarm in
{share(suite.false_alarms)} % of {suite.trials:,} trials ({share(suite.others["no correction"])} % without it).

Simulations see what they were made for. So a search too, in which nothing is simulated: {found.distributions:,}
distributions of what a unit loses, two to four values each and the mean exactly `max-drop`, on {UNITS[0]} to
{UNITS[-1]} units, each with all of its outcomes written out. The false alarm rate at a level, divided by that level, is
at most {found.worst:.3f}{"" if found.holds else " **(!)**"} over all of them and all levels up to {100 * LARGEST:.0f} %
(there at {100 * found.level:.2g} %, with {found.units} units; a ratio of 1 is a level that is met exactly).
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


def verdict(rows: Sequence[Row]) -> str:
    """In one sentence, what the rows say of ours."""
    failed = [row for row in rows if not row.holds]
    if failed:
        return f"**Not as claimed in {len(failed)} of {len(rows)} worlds, marked (!).**"
    return (
        f"**In all {len(rows)} worlds it raises false alarms in at most 5 % and finds the drop that it prints in at "
        "least 80 %,** to within three standard errors."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=4000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="about a minute: fewer trials")
    parser.add_argument("--out", type=Path, help="folder for regress.md")
    options = parser.parse_args(arguments)
    trials = 120 if options.quick else options.trials
    start = time.perf_counter()
    jobs = [(number, trials) for number in range(len(WORLDS) + len(SCENES) + 1)]
    if options.workers > 1:
        with ProcessPoolExecutor(options.workers, multiprocessing.get_context("spawn")) as pool:
            *rows, suite = pool.map(one_world, jobs)
    else:
        *rows, suite = map(one_world, jobs)
    command = "python -m benchmarks.studies.regress_calibration" + (
        " --quick" if options.quick else f" --trials {trials}"
    )
    found = search(trials // 3)
    seconds = time.perf_counter() - start
    text = page(rows, suite, found, command + (" --out results" if options.out else ""), seconds)
    print(text)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        atomic_write_text(options.out / "regress.md", text)
    print(json.dumps(record(rows, suite, found, seconds)))
    return 0 if all(row.holds for row in (*rows, suite)) and found.holds else 1


def one_world(job: tuple[int, int]) -> Row:
    """A world by its number: means of hits, then segmentations (with half the trials), then the suite."""
    number, trials = job
    if number < len(WORLDS):
        row = measure(WORLDS[number], trials, seed=number)
    elif number < len(WORLDS) + len(SCENES):
        row = measure_scenes(SCENES[number - len(WORLDS)], trials // 2, seed=number)
    else:
        row = measure_suite(trials // 2, seed=number)
    say(row)
    return row


def say(row: Row) -> None:
    held = "" if row.holds else ", NOT AS CLAIMED"
    print(
        f"{row.name}, {row.units}: false alarms {share(row.false_alarms)}, power {share(row.power)}{held}",
        file=sys.stderr,
        flush=True,
    )


def record(rows: Sequence[Row], suite: Row, found: Found, seconds: float) -> dict[str, object]:
    powers = [row.power for row in rows if not math.isnan(row.power)]
    figures = {
        "trials": rows[0].trials,
        "worlds": len(rows),
        "worst_false_alarms": max(row.false_alarms for row in rows),
        "standard_error": round(rows[0].error, 5),
        "suite_false_alarms": suite.false_alarms,
        "searched_distributions": found.distributions,
        "searched_worst_ratio": round(found.worst, 6),
        "least_power": min(powers, default=None),
        "as_claimed": all(row.holds for row in (*rows, suite)),
        "seconds": round(seconds, 1),
        "rows": [
            {
                "world": row.name,
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
