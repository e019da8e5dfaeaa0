"""COCO's retrieval and SugarCrepe in one run beside clip-benchmark, which encodes every image again for every row.

    python benchmarks/shared_images.py [--quick] [--device cuda] [--out results/speed.md]

A ViT-B/32 with random weights on files in the layout of COCO val2017 and SugarCrepe, made of toybox's scenes in the
true proportions: one in 25 of the 5,000 images, 25,000 captions and 7,511 rows (one in 100 with --quick, all on a
GPU). The peer is clip-benchmark's own evaluate functions, datasets and collation, set after set, with as many workers.
Decoding, encoding and scoring are part of it, and so are our digests, checks and intervals. Both must give the same
figures to 1e-4, or the exit code is 1. The ratio is the median over repetitions. Prints one JSON line last.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.peers.mixed import FIGURES, check_mixed
from benchmarks.printed import last_line, ratio, row
from benchmarks.shared_images_cases import ARMS, FULL, GPU, ORDINALS, QUICK, Plan
from benchmarks.speed_page import tell
from benchmarks.timing import Times
from benchmarks.worlds import run_in_worlds
from cosmos_core.errors import RequestError


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a hundredth of the data: about a minute")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--precision", default="fp32", choices=list(FIGURES), help="fp32, or mixed precision for both")
    parser.add_argument("--workers", type=int, help="processes that decode, of each side")
    parser.add_argument("--threads", type=int, default=0, help="0: the machine's cores")
    parser.add_argument("--out", type=Path, help="write a section of this page as well")
    chosen = parser.parse_args(arguments)
    plan = QUICK if chosen.quick else GPU if chosen.device != "cpu" else FULL
    plan = replace(plan, device=chosen.device, precision=chosen.precision)
    if chosen.workers is not None:
        plan = replace(plan, workers=chosen.workers)
    load = os.getloadavg()[0]
    try:
        check_mixed(plan.precision, plan.device)
        found = run_in_worlds([1], "benchmarks.shared_images_cases:measure", plan, threads=chosen.threads)[1]
    except RequestError as error:
        print(f"shared_images: {error}", file=sys.stderr)
        return 2
    if not found["apart"] <= FIGURES[plan.precision]:
        print(f"shared_images: figures differ by {found['apart']:.2g}, so no times are compared", file=sys.stderr)
        return 1
    tell("COCO and SugarCrepe together", table(found, plan), record(found, plan, load), chosen.out, arguments)
    return 0


def table(found: dict[str, Any], plan: Plan) -> list[str]:
    """What was measured, as Markdown."""
    times = Times(found["seconds"])
    items = sum(plan.rows.values())
    return [
        f"{plan.model} in {plan.precision} on {plan.device}, {plan.workers} workers: {plan.images:,} images with "
        f"{plan.images * len(ORDINALS):,} captions, and {items:,} rows of SugarCrepe's seven files; medians, ratio "
        "with quartiles.",
        "",
        row(["", "clip-benchmark", "ours", "ratio"]),
        row(["---"] * 4),
        row(["seconds", f"{times.median('peer'):.1f}", f"{times.median('ours'):.1f}", ratio(times, "peer")]),
        row(["images encoded", *(f"{found['encoded'][arm]:,}" for arm in ARMS), ""]),
        "",
        f"Recall and accuracy are at most {found['apart']:.1g} apart.",
    ]


def record(found: dict[str, Any], plan: Plan, load: float) -> dict[str, Any]:
    """What the last line holds; `load` is the machine's load average before, of whatever else ran."""
    times = Times(found["seconds"])
    figures = {
        "images": plan.images,
        "rows": sum(plan.rows.values()),
        "workers": plan.workers,
        "peer_seconds": times.median("peer"),
        "ours_seconds": times.median("ours"),
        "ratio_quartiles": times.quartiles("peer", "ours"),
        "peer_images_encoded": found["encoded"]["peer"],
        "ours_images_encoded": found["encoded"]["ours"],
        "apart": found["apart"],
    }
    ratios = {"shared_images": times.ratio("peer", "ours")}
    return last_line("shared_images", ratios, figures, plan.device, found["threads"], load)


if __name__ == "__main__":
    sys.exit(main())
