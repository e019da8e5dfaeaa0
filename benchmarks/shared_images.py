"""Measure COCO retrieval and SugarCrepe in one run, which share images, compared with clip-benchmark.

    python benchmarks/shared_images.py [--quick] [--device cuda] [--out results/speed.md]

A ViT-B/32 with random weights is evaluated on toybox scenes in the layout of COCO val2017 and SugarCrepe. The
proportions are those of the datasets: one in 25 of the 5,000 images, 25,000 captions and 7,511 rows (one in 100 with
--quick, all on a GPU). The peer is clip-benchmark's own evaluate functions, datasets and collation, one dataset after
the other, with the same number of workers; it encodes an image again for every row. The time includes decoding,
encoding and scoring, and also the digests, checks and intervals of cosmos-eval. Both must give the same figures to
1e-4, or the exit code is 1. The ratio is the median over repetitions. The last line printed is JSON.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.output import last_line, ratio, row
from benchmarks.peers.mixed import FIGURES, check_mixed
from benchmarks.processes import run_in_processes
from benchmarks.shared_images_cases import ARMS, FULL, GPU, ORDINALS, QUICK, SharedImagesPlan
from benchmarks.speed_page import print_and_write
from benchmarks.timing import Times
from cosmos_core.errors import RequestError


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a hundredth of the data: about a minute")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--precision", default="fp32", choices=list(FIGURES), help="fp32, or mixed precision for both")
    parser.add_argument("--workers", type=int, help="processes that decode, on each side")
    parser.add_argument("--threads", type=int, default=0, help="0: as many as the machine has cores")
    parser.add_argument("--out", type=Path, help="also write a section of this page")
    options = parser.parse_args(arguments)
    plan = QUICK if options.quick else GPU if options.device != "cpu" else FULL
    plan = replace(plan, device=options.device, precision=options.precision)
    if options.workers is not None:
        plan = replace(plan, workers=options.workers)
    load = os.getloadavg()[0]
    try:
        check_mixed(plan.precision, plan.device)
        measured = run_in_processes([1], "benchmarks.shared_images_cases:measure", plan, threads=options.threads)[1]
    except RequestError as error:
        print(f"shared_images: {error}", file=sys.stderr)
        return 2
    difference = measured["largest_difference"]
    if not difference <= FIGURES[plan.precision]:
        print(f"shared_images: figures differ by {difference:.2g}, so no times are compared", file=sys.stderr)
        return 1
    lines, line = table(measured, plan), record(measured, plan, load)
    print_and_write("COCO and SugarCrepe together", lines, line, options.out, arguments)
    return 0


def table(measured: dict[str, Any], plan: SharedImagesPlan) -> list[str]:
    """Return the lines of the Markdown text."""
    times = Times(measured["seconds"])
    items = sum(plan.rows.values())
    return [
        f"{plan.model} in {plan.precision} on {plan.device}, {plan.workers} workers: {plan.images:,} images with "
        f"{plan.images * len(ORDINALS):,} captions, and {items:,} rows of SugarCrepe's seven files; medians, ratio "
        "with quartiles.",
        "",
        row(["", "clip-benchmark", "cosmos-eval", "ratio"]),
        row(["---"] * 4),
        row(["seconds", f"{times.median('peer'):.1f}", f"{times.median('ours'):.1f}", ratio(times, "peer")]),
        row(["images encoded", *(f"{measured['encoded'][arm]:,}" for arm in ARMS), ""]),
        "",
        f"Recall and accuracy differ by at most {measured['largest_difference']:.1g}.",
    ]


def record(measured: dict[str, Any], plan: SharedImagesPlan, load: float) -> dict[str, Any]:
    """Return the record of the last line; `load` is the load average of the machine before the start."""
    times = Times(measured["seconds"])
    figures = {
        "images": plan.images,
        "rows": sum(plan.rows.values()),
        "workers": plan.workers,
        "peer_seconds": times.median("peer"),
        "ours_seconds": times.median("ours"),
        "ratio_quartiles": times.quartiles("peer", "ours"),
        "peer_images_encoded": measured["encoded"]["peer"],
        "ours_images_encoded": measured["encoded"]["ours"],
        "largest_difference": measured["largest_difference"],
    }
    ratios = {"shared_images": times.ratio("peer", "ours")}
    return last_line("shared_images", ratios, figures, plan.device, measured["threads"], load)


if __name__ == "__main__":
    sys.exit(main())
