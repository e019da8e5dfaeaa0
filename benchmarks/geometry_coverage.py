"""Measure how often the 95 % intervals of `show geometry` contain the true value, and those of the plain bootstrap.

    python -m benchmarks.geometry_coverage [--quick] [--out results]

Confidences, scores and embeddings are drawn from distributions with known calibration error, AUROC, false positive rate
at 95 % recall, gap and uniformity; the effective rank is compared with its mean over samples of the same size. The
script writes geometry_intervals.md; the last line printed is JSON.
"""

import argparse
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.interval_coverage import wrapped
from benchmarks.output import last_line, page, row
from cosmos_core.collapse import uniformity
from cosmos_core.files import atomic_write_text
from cosmos_eval.metrics.calibration import BINS, number_bins, reliability
from cosmos_eval.metrics.calibration_interval import calibration_error_interval
from cosmos_eval.metrics.detection_interval import detection_intervals, resample
from cosmos_eval.metrics.embedding_geometry import effective_rank, modality_gap
from cosmos_eval.metrics.embedding_intervals import (
    effective_rank_interval,
    gap_interval,
    mean_interval,
    uniformity_interval,
)

Interval = tuple[float, float]
TRIALS, QUICK_TRIALS = 120, 30
OURS = "ours"
RATES = ("calibration error", "AUROC", "FPR95")
"""Figures that are printed in percent."""
RESAMPLES = 1000
PACKAGES = ("numpy", "torch")
INTRODUCTION = """Percent of {trials:,} simulated samples whose 95 % interval contains the true value (standard error of
the simulation: {error:.1f} points). `bootstrap`: the quantiles of the plain bootstrap; `basic`: these, mirrored at
the value. `above`: percent of the samples whose interval is below the true value. `width`: mean width, in points for
rates.

The calibration error is one of 15 bins of equal width (`cosmos_eval/metrics/calibration_interval.py`); a calibrated
model has the error 0, which no value is below, so that an interval that holds contains it in 97.5 of 100 samples.
Confidences are mostly above 0.6 (`top`), mostly above 0.95 (`sure`), or spread from 0.1 to 1 (`flat`). With 5 captions
an image, outcomes of captions of one image depend on each other. AUROC and FPR95 have independent normal
scores (`detection_interval.py`). Embeddings are on the unit sphere (`embedding_intervals.py`); the true effective rank
is its mean over samples of the same size."""


@dataclass(frozen=True)
class Simulation:
    """Samples of one kind: `draw` returns for each figure the true value and the intervals by method."""

    name: str
    draw: Callable[[np.random.Generator], dict[str, tuple[float, dict[str, Interval]]]]


@dataclass(frozen=True)
class Coverage:
    """How often the intervals of one method contain the true value of a figure in a simulation."""

    figure: str
    simulation: str
    true: float
    method: str
    covered: float
    above: float
    """Fraction of samples whose interval is below the true value."""
    width: float


def simulations(seed: int = 7) -> Iterator[Simulation]:
    """Yield all simulations."""
    for n in (50, 200, 1000):
        for kind, distortion in (("top", "none"), ("top", "-2"), ("top", "-10"), ("flat", "soft"), ("sure", "none")):
            yield calibration(kind, distortion, n, 1, seed)
    yield calibration("top", "-10", 200, 5, seed)
    yield calibration("flat", "none", 200, 5, seed)
    for n, m in ((30, 30), (100, 100), (1000, 300)):
        for shift, spread in ((0.4, 1.0), (1.8, 1.0), (3.3, 1.0), (2.0, 2.0)):
            yield detection(n, m, shift, spread)
    for dimensions, n in ((32, 40), (32, 200), (32, 1000), (256, 200)):
        for gap in (0.0, 0.3):
            yield embeddings(dimensions, n, gap, seed)


def calibration(kind: str, distortion: str, images: int, captions: int, seed: int) -> Simulation:
    """Confidences near 1 (`top`, `sure`) or spread (`flat`), with an accuracy that is as high, lower, or softer."""

    def confidences(rng: np.random.Generator, n: int) -> np.ndarray:
        if kind == "flat":
            return 0.1 + 0.9 * rng.random(n)
        return rng.beta(6, 1.2, n) if kind == "top" else rng.beta(60, 0.6, n)

    def accuracy(confidence: np.ndarray) -> np.ndarray:
        if distortion == "soft":
            odds = np.log(confidence / np.maximum(1 - confidence, 1e-12)) / 2
            return 1 / (1 + np.exp(-odds))
        return np.clip(confidence - (0 if distortion == "none" else -float(distortion) / 100), 0, 1)

    many = confidences(np.random.default_rng(seed), 2_000_000)
    true = float(np.abs(np.bincount(number_bins(many), many - accuracy(many), BINS)).sum() / len(many))
    unit = np.repeat(np.arange(images), captions)

    def draw(rng: np.random.Generator) -> dict[str, tuple[float, dict[str, Interval]]]:
        confidence = np.repeat(confidences(rng, images), captions)
        is_common = rng.random(len(unit)) < (0.6 if captions > 1 else 0)
        luck = np.where(is_common, rng.random(images)[unit], rng.random(len(unit)))
        correct = (luck < accuracy(confidence)).astype(float)
        value = reliability(confidence, correct).error
        sums = np.bincount(unit * BINS + number_bins(confidence), confidence - correct, images * BINS)
        drawn = rng.multinomial(images, np.full(images, 1 / images), 300)
        quantiles = np.quantile(np.abs(drawn @ sums.reshape(images, BINS)).sum(1) / len(unit), [0.025, 0.975])
        low, high = quantiles.tolist()
        return {
            "calibration error": (
                true,
                {
                    OURS: calibration_error_interval(confidence, correct, unit, resamples=RESAMPLES),
                    "bootstrap": (low, high),
                    "basic": (max(0.0, 2 * value - high), 2 * value - low),
                },
            )
        }

    by_image = "" if captions == 1 else f" with {captions} captions"
    shape = {"none": "calibrated", "soft": "logits twice as far from 0"}
    title = shape.get(distortion, f"accuracy {distortion} points")
    return Simulation(f"{kind}, {title}; {images:,} images{by_image}", draw)


def detection(n: int, m: int, shift: float, spread: float) -> Simulation:
    """Normal scores, those of n images from inside higher by `shift` than those of m from outside."""
    from scipy.special import ndtr, ndtri

    areas = float(ndtr(shift / np.sqrt(1 + spread**2)))
    rate = float(ndtr(-(shift + ndtri(0.05)) / spread))

    def draw(rng: np.random.Generator) -> dict[str, tuple[float, dict[str, Interval]]]:
        inside, outside = rng.normal(shift, 1, n), rng.normal(0, spread, m)
        ours = detection_intervals(inside, outside, RESAMPLES)
        low, high = np.quantile(resample(inside, outside, RESAMPLES, 0), [0.025, 0.975], axis=0)
        return {
            name: (true, {OURS: ours[i], "bootstrap": (float(low[i]), float(high[i]))})
            for i, (name, true) in enumerate((("AUROC", areas), ("FPR95", rate)))
        }

    return Simulation(f"{n:,} inside, {m:,} outside, means {shift:g} apart, spread {spread:g}", draw)


def embeddings(dimensions: int, n: int, gap: float, seed: int) -> Simulation:
    """Unit embeddings of images and of a text for each, in directions of falling variance."""
    scale = np.exp(-2 * np.arange(dimensions) / dimensions) / np.sqrt(dimensions)
    shift = np.zeros(dimensions)
    shift[0] = gap / 2

    def pairs(rng: np.random.Generator, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        image = rng.normal(size=(count, dimensions)) * scale
        text = image + rng.normal(size=(count, dimensions)) * scale / 2
        both = (image + shift, text - shift)
        unit = [values / np.linalg.norm(values, axis=1, keepdims=True) for values in both]
        return torch.from_numpy(unit[0]), torch.from_numpy(unit[1])

    rng = np.random.default_rng(seed)
    images, texts = pairs(rng, 60_000)
    true = {
        "gap": modality_gap(images, texts),
        "similarity": float((images * texts).sum(1).mean()),
        "uniformity": float(np.mean([uniformity(images[i * 2000 : (i + 1) * 2000]) for i in range(30)])),
        "effective rank": float(np.mean([effective_rank(pairs(rng, n)[0]) for _ in range(200)])),
    }

    def draw(rng: np.random.Generator) -> dict[str, tuple[float, dict[str, Interval]]]:
        images, texts = pairs(rng, n)
        unit = np.arange(n)
        difference = (images - texts).numpy()
        drawn = rng.multinomial(n, np.full(n, 1 / n), 300)
        low, high = np.quantile(np.linalg.norm(drawn @ difference / n, axis=1), [0.025, 0.975]).tolist()
        ours = {
            "gap": gap_interval(images, texts, unit, RESAMPLES),
            "similarity": mean_interval((images * texts).sum(1).numpy(), unit),
            "uniformity": uniformity_interval(images, unit),
            "effective rank": effective_rank_interval(images, unit),
        }
        return {
            name: (true[name], {OURS: ours[name], **({"bootstrap": (low, high)} if name == "gap" else {})})
            for name in true
        }

    return Simulation(f"{n:,} images in {dimensions} dimensions, gap {gap:g}", draw)


def measure(simulation: Simulation, trials: int, seed: int = 0) -> list[Coverage]:
    """Measure the coverage of every figure and method of a simulation."""
    rng = np.random.default_rng(seed)
    drawn: dict[tuple[str, str], list[tuple[bool, bool, float]]] = defaultdict(list)
    truth: dict[str, float] = {}
    for _ in range(trials):
        for figure, (true, intervals) in simulation.draw(rng).items():
            truth[figure] = true
            for method, (low, high) in intervals.items():
                drawn[figure, method].append((low <= true + 1e-12 and true <= high + 1e-12, high < true, high - low))
    return [
        Coverage(figure, simulation.name, truth[figure], method, *np.array(listed, dtype=float).mean(0).tolist())
        for (figure, method), listed in drawn.items()
    ]


def table(coverages: Sequence[Coverage]) -> str:
    """The coverages of one figure."""
    head = ["simulation", "true", "**coverage**", "above", "width", "bootstrap", "basic"]
    lines = [row(head), row(["---", *["---:"] * (len(head) - 1)])]
    for ours in coverages:
        if ours.method != OURS:
            continue
        others = {one.method: one.covered for one in coverages if one.simulation == ours.simulation}
        scale, decimals = (100, 2) if ours.figure in RATES else (1, 3)
        lines.append(
            row(
                [
                    ours.simulation,
                    f"{scale * ours.true:.{decimals}f}",
                    f"**{100 * ours.covered:.1f}**",
                    f"{100 * ours.above:.1f}",
                    f"{scale * ours.width:.{decimals}f}",
                    *(f"{100 * others[name]:.1f}" if name in others else "" for name in ("bootstrap", "basic")),
                ]
            )
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few samples, and every third simulation")
    parser.add_argument("--out", type=Path, help="folder for geometry_intervals.md")
    options = parser.parse_args(arguments)
    load, start = os.getloadavg()[0], time.perf_counter()
    trials = QUICK_TRIALS if options.quick else TRIALS
    coverages: list[Coverage] = []
    for simulation in list(simulations())[:: 3 if options.quick else 1]:
        measured = measure(simulation, trials)
        coverages += measured
        said = ", ".join(f"{one.figure} {100 * one.covered:.1f} %" for one in measured if one.method == OURS)
        print(f"{simulation.name}: {said}", file=sys.stderr, flush=True)
    text = [INTRODUCTION.format(trials=trials, error=100 * np.sqrt(0.05 * 0.95 / trials))]
    means = {}
    for figure in dict.fromkeys(one.figure for one in coverages):
        of_figure = [one for one in coverages if one.figure == figure]
        means[figure] = float(np.mean([one.covered for one in of_figure if one.method == OURS]))
        text += [f"## {figure[0].upper()}{figure[1:]}", table(of_figure), f"Mean: {100 * means[figure]:.1f} %."]
    body = "\n\n".join(wrapped(part) for part in "\n\n".join(text).split("\n\n"))
    threads = torch.get_num_threads()
    command = "python -m benchmarks.geometry_coverage" + (" --quick" if options.quick else "") + " --out results"
    content = page("Coverage of the 95 % intervals of show geometry", body, command, "cpu", PACKAGES, threads)
    print(content)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        atomic_write_text(options.out / "geometry_intervals.md", content)
    figures = {"mean_coverage": means, "seconds": time.perf_counter() - start}
    print(json.dumps(last_line("geometry_coverage", {}, figures, "cpu", threads, load)))


if __name__ == "__main__":
    main()
