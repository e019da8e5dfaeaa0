"""How fast ImageNet's protocol is measured end to end beside clip-benchmark, and what bounds it.

    python benchmarks/classification.py [--quick] [--device cuda] [--out results/speed.md]

A ViT-B/32 with random weights on generated JPEG images in ImageNet's folders, with ImageNet's names and 80 templates
in its true proportions: 50 images and 80 prompts a class, the first 20 classes on a CPU (5 with --quick); on a GPU
all 1,000 with 10 images each (100 with 50 each). The head, decoding, the forward pass and scoring are part of it, and
so are our digests, checks and intervals. The peer is clip-benchmark's own dataset and `evaluate`, with as many workers.
Both must give the same figures to 1e-4, or the exit code is 1. The ratio is the median over repetitions; the head and
the images are also given alone, and the images as a share of what decoding or the tower reaches with nothing else
to do. Prints one JSON line last.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.peers.mixed import FIGURES, check_mixed
from benchmarks.printed import last_line, ratio, row
from benchmarks.speed_page import tell
from benchmarks.timing import Times
from benchmarks.worlds import run_in_worlds
from cosmos_core.errors import RequestError

if TYPE_CHECKING:
    from benchmarks.classification_cases import Plan

ARMS = ("peer", "ours")
PARTS = ("head", "images")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a quarter of the classes, once: about a minute")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--precision", default="fp32", choices=list(FIGURES), help="fp32, or mixed precision for both")
    parser.add_argument("--model", help="architecture of open_clip's registry (default: ViT-B-32)")
    parser.add_argument("--workers", type=int, help="processes that decode, of each side")
    parser.add_argument("--threads", type=int, default=0, help="0: the machine's cores")
    parser.add_argument("--out", type=Path, help="write a section of this page as well")
    chosen = parser.parse_args(arguments)
    plan = plan_of(chosen)
    load = os.getloadavg()[0]
    try:
        check_mixed(plan.precision, plan.device)
        found = run_in_worlds([1], "benchmarks.classification_cases:measure", plan, threads=chosen.threads)[1]
    except RequestError as error:
        print(f"classification: {error}", file=sys.stderr)
        return 2
    if not found["apart"] <= FIGURES[plan.precision]:
        print(f"classification: figures differ by {found['apart']:.2g}, so no times are compared", file=sys.stderr)
        return 1
    tell("ImageNet's protocol end to end", table(found, plan), record(found, plan, load), chosen.out, arguments)
    return 0


def plan_of(chosen: argparse.Namespace) -> "Plan":
    from benchmarks.classification_cases import FULL, GPU, GPU_QUICK, QUICK

    plan = (QUICK if chosen.quick else FULL) if chosen.device == "cpu" else (GPU_QUICK if chosen.quick else GPU)
    plan = replace(plan, device=chosen.device, precision=chosen.precision)
    given = {"workers": chosen.workers, "model": chosen.model}
    return replace(plan, **{name: value for name, value in given.items() if value is not None})


def times_of(found: dict[str, Any], part: str = "") -> Times:
    """Of all, or of one part."""
    if not part:
        return Times(found["seconds"])
    return Times({arm: found["parts"][f"{arm} {part}"] for arm in ARMS})


def bound(found: dict[str, Any], plan: "Plan") -> float:
    """Images a second that the pure rates allow: the lower one, or, where workers and tower have the same cores, what
    one after the other makes."""
    rates = found["decode_rate"], found["forward_rate"]
    return min(rates) if plan.device != "cpu" else 1 / sum(1 / rate for rate in rates)


def share(found: dict[str, Any], plan: "Plan") -> float:
    """What our images reach of that."""
    return plan.images / times_of(found, "images").median("ours") / bound(found, plan)


def spent(found: dict[str, Any]) -> str:
    """Phases that take a hundredth of our time and more, the longest first."""
    whole = sum(found["phases"].values())
    by_time = sorted(found["phases"].items(), key=lambda pair: -pair[1])
    return ", ".join(f"{name} {seconds / whole:.0%}" for name, seconds in by_time if seconds >= 0.01 * whole)


def table(found: dict[str, Any], plan: "Plan") -> list[str]:
    """What was measured, as Markdown."""
    lines = [
        f"ImageNet's protocol with {plan.model}, {plan.classes:,} of 1,000 classes, {plan.images:,} images, "
        f"{plan.classes * 80:,} prompts, in {plan.precision} on {plan.device}, batches of {plan.batch_size}, "
        f"{plan.workers} workers; medians, ratio with quartiles.",
        "",
        row(["seconds", "clip-benchmark", "ours", "ratio"]),
        row(["---"] * 4),
    ]
    for name, part in (("all", ""), ("head alone", "head"), ("images alone", "images")):
        times = times_of(found, part)
        lines.append(row([name, *(f"{times.median(arm):.2f}" for arm in ARMS), ratio(times, "peer")]))
    limit = "the bound, the lower of them," if plan.device != "cpu" else "with both on the same cores the bound"
    return [
        *lines,
        "",
        f"With nothing else to do {found['decode_rate']:,.1f} images a second are decoded and preprocessed and "
        f"{found['forward_rate']:,.1f} pass the tower; {limit} is {bound(found, plan):,.1f}. Ours reach "
        f"{share(found, plan):.0%} of it, digests and the start of workers included.",
        "",
        f"Where our time goes (`run --profile`): {spent(found)}.",
        "",
        f"Figures are at most {found['apart']:.1g} apart; top-1 is {found['figures']['top1']:.4f}, which is chance.",
    ]


def record(found: dict[str, Any], plan: "Plan", load: float) -> dict[str, Any]:
    """What the last line holds; `load` is the machine's load average before, of whatever else ran."""
    times = times_of(found)
    figures: dict[str, Any] = {
        "classes": plan.classes,
        "images": plan.images,
        "prompts": plan.classes * 80,
        "peer_seconds": times.median("peer"),
        "ours_seconds": times.median("ours"),
        "ratio_quartiles": times.quartiles("peer", "ours"),
        "decode_rate": found["decode_rate"],
        "forward_rate": found["forward_rate"],
        "share_of_bound": share(found, plan),
        "apart": found["apart"],
        "phase_seconds": found["phases"],
        **{key: getattr(plan, key) for key in ("workers", "batch_size", "precision")},
    }
    for part in PARTS:
        alone = times_of(found, part)
        figures |= {f"{part}_{arm}_seconds": alone.median(arm) for arm in ARMS}
        figures[f"{part}_ratio"] = alone.ratio("peer", "ours")
    ratios = {"classification": times.ratio("peer", "ours")}
    return last_line("classification", ratios, figures, plan.device, found["threads"], load)


if __name__ == "__main__":
    sys.exit(main())
