"""Measure the speed of ImageNet's protocol, end to end, compared with clip-benchmark, and its limits.

    python benchmarks/classification.py [--quick] [--device cuda] [--out results/speed.md]

A ViT-B/32 with random weights is evaluated on generated JPEG images in ImageNet's folders, with ImageNet's class names
and 80 templates. The proportions are those of ImageNet, 50 images and 80 prompts for each class: the first 20 classes
on a CPU (5 with --quick). On a GPU, all 1,000 classes have 10 images each (with --quick, 100 classes have 50). The time
includes the zero-shot head, decoding, the forward pass and scoring, and also the digests, checks and intervals of
cosmos-eval. The peer is clip-benchmark's own dataset and `evaluate`, with the same number of workers. Both must give
the same figures to 1e-4, or the exit code is 1. The ratio is the median over repetitions. The head and the images are
also reported separately, and the images as a share of the rate that decoding or the tower reaches alone. The last line
printed is JSON.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.output import last_line, ratio, row
from benchmarks.peers.mixed import FIGURES, check_mixed
from benchmarks.processes import run_in_processes
from benchmarks.speed_page import print_and_write
from benchmarks.timing import Times
from cosmos_core.errors import RequestError

if TYPE_CHECKING:
    from benchmarks.classification_cases import ClassificationPlan

ARMS = ("peer", "ours")
PARTS = ("head", "images")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a quarter of the classes, one repetition: about a minute")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--precision", default="fp32", choices=list(FIGURES), help="fp32, or mixed precision for both")
    parser.add_argument("--model", help="architecture of open_clip's registry (default: ViT-B-32)")
    parser.add_argument("--workers", type=int, help="processes that decode, on each side")
    parser.add_argument("--threads", type=int, default=0, help="0: as many as the machine has cores")
    parser.add_argument("--out", type=Path, help="also write a section of this page")
    options = parser.parse_args(arguments)
    plan = plan_of(options)
    load = os.getloadavg()[0]
    try:
        check_mixed(plan.precision, plan.device)
        measured = run_in_processes([1], "benchmarks.classification_cases:measure", plan, threads=options.threads)[1]
    except RequestError as error:
        print(f"classification: {error}", file=sys.stderr)
        return 2
    if not measured["largest_difference"] <= FIGURES[plan.precision]:
        difference = measured["largest_difference"]
        print(f"classification: figures differ by {difference:.2g}, so no times are compared", file=sys.stderr)
        return 1
    title = "ImageNet's protocol end to end"
    print_and_write(title, table(measured, plan), record(measured, plan, load), options.out, arguments)
    return 0


def plan_of(options: argparse.Namespace) -> "ClassificationPlan":
    from benchmarks.classification_cases import FULL, GPU, GPU_QUICK, QUICK

    plan = (QUICK if options.quick else FULL) if options.device == "cpu" else (GPU_QUICK if options.quick else GPU)
    plan = replace(plan, device=options.device, precision=options.precision)
    changes = {"workers": options.workers, "model": options.model}
    return replace(plan, **{name: value for name, value in changes.items() if value is not None})


def times_of(measured: dict[str, Any], part: str = "") -> Times:
    """Return the times of the whole, or of one part."""
    if not part:
        return Times(measured["seconds"])
    return Times({arm: measured["parts"][f"{arm} {part}"] for arm in ARMS})


def bound(measured: dict[str, Any], plan: "ClassificationPlan") -> float:
    """Return the images per second that the two rates allow.

    This is the lower rate; where workers and tower share the same cores, it is the rate of one after the other.
    """
    rates = measured["decode_rate"], measured["forward_rate"]
    return min(rates) if plan.device != "cpu" else 1 / sum(1 / rate for rate in rates)


def share_of_bound(measured: dict[str, Any], plan: "ClassificationPlan") -> float:
    """Return the rate of our images as a share of `bound`."""
    return plan.images / times_of(measured, "images").median("ours") / bound(measured, plan)


def describe_phases(measured: dict[str, Any]) -> str:
    """Describe the phases that take at least 1 % of our time, the longest first."""
    whole = sum(measured["phases"].values())
    by_time = sorted(measured["phases"].items(), key=lambda pair: -pair[1])
    return ", ".join(f"{name} {seconds / whole:.0%}" for name, seconds in by_time if seconds >= 0.01 * whole)


def table(measured: dict[str, Any], plan: "ClassificationPlan") -> list[str]:
    """Return the lines of the Markdown text."""
    lines = [
        f"ImageNet's protocol with {plan.model}, {plan.classes:,} of 1,000 classes, {plan.images:,} images, "
        f"{plan.classes * 80:,} prompts, in {plan.precision} on {plan.device}, batches of {plan.batch_size}, "
        f"{plan.workers} workers; medians, ratio with quartiles.",
        "",
        row(["seconds", "clip-benchmark", "cosmos-eval", "ratio"]),
        row(["---"] * 4),
    ]
    for name, part in (("total", ""), ("head alone", "head"), ("images alone", "images")):
        times = times_of(measured, part)
        lines.append(row([name, *(f"{times.median(arm):.2f}" for arm in ARMS), ratio(times, "peer")]))
    limit = (
        "the bound is the lower of the two,"
        if plan.device != "cpu"
        else "on shared cores, one after the other, the bound is"
    )
    return [
        *lines,
        "",
        f"Alone, the workers decode and preprocess {measured['decode_rate']:,.1f} images per second and the tower "
        f"encodes {measured['forward_rate']:,.1f}; {limit} {bound(measured, plan):,.1f}. cosmos-eval reaches "
        f"{share_of_bound(measured, plan):.0%} of it, including digests and the start of workers.",
        "",
        f"Where the time of cosmos-eval goes (`run --profile`): {describe_phases(measured)}.",
        "",
        f"Figures differ by at most {measured['largest_difference']:.1g}; top-1 is {measured['figures']['top1']:.4f}, "
        "which is chance.",
    ]


def record(measured: dict[str, Any], plan: "ClassificationPlan", load: float) -> dict[str, Any]:
    """Return the record of the last line; `load` is the load average of the machine before the start."""
    times = times_of(measured)
    figures: dict[str, Any] = {
        "classes": plan.classes,
        "images": plan.images,
        "prompts": plan.classes * 80,
        "peer_seconds": times.median("peer"),
        "ours_seconds": times.median("ours"),
        "ratio_quartiles": times.quartiles("peer", "ours"),
        "decode_rate": measured["decode_rate"],
        "forward_rate": measured["forward_rate"],
        "share_of_bound": share_of_bound(measured, plan),
        "largest_difference": measured["largest_difference"],
        "phase_seconds": measured["phases"],
        **{key: getattr(plan, key) for key in ("workers", "batch_size", "precision")},
    }
    for part in PARTS:
        alone = times_of(measured, part)
        figures |= {f"{part}_{arm}_seconds": alone.median(arm) for arm in ARMS}
        figures[f"{part}_ratio"] = alone.ratio("peer", "ours")
    ratios = {"classification": times.ratio("peer", "ours")}
    return last_line("classification", ratios, figures, plan.device, measured["threads"], load)


if __name__ == "__main__":
    sys.exit(main())
