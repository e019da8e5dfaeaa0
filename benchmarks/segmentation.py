"""Measure time and memory of predicting label maps, compared with SCLIP's method (one window at a time).

    python benchmarks/segmentation.py [--quick] [--device cuda] [--out results/segmentation.md]

A ViT-B/16 with random weights, 150 classes, and windows of 224 pixels with stride 112 are used on toybox images and on
images with VOC's sizes in VOC's layout. The time includes decoding and resizing. The peer is the slow implementation of
the tests: it encodes each window alone, resamples its logits to pixels, averages them at the size of the resized image,
resamples to the original size, and computes softmax and argmax there. Both must give the same logits and labels, or the
exit code is 1. The ratio is the median over repetitions of the peer's time divided by ours. Memory is measured in
separate processes, as the peak above that of weights and images. The last line printed is JSON.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.output import last_line, page, ratio, row
from benchmarks.processes import run_in_processes
from benchmarks.segmentation_cases import ARMS, FULL, GPU, QUICK, SegmentationPlan
from benchmarks.timing import Times
from cosmos_core.errors import RequestError

LOGITS, LABELS = 1e-4, 1e-3
"""Largest differences that are allowed: of any logit, and the share of pixels with another label (near ties)."""
SETS = ("voc", "toybox")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer images and repetitions: about a minute")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--precision", default="fp32", help="on both sides: fp32, bf16 or fp16")
    parser.add_argument("--batch-size", type=int, default=0, help="windows in a batch; 0: 8, on a GPU 64")
    parser.add_argument("--workers", type=int, default=0, help="processes that decode for cosmos-eval")
    parser.add_argument("--threads", type=int, default=0, help="0: as many as the machine has cores")
    parser.add_argument("--out", type=Path, help="also write the tables to this file")
    options = parser.parse_args(arguments)
    plan = QUICK if options.quick else FULL
    if options.device != "cpu":
        plan = replace(GPU, voc=32, toybox=32, repetitions=2, large=QUICK.large) if options.quick else GPU
    plan = replace(plan, device=options.device, precision=options.precision, workers=options.workers)
    if options.batch_size:
        plan = replace(plan, batch_size=options.batch_size)
    load = os.getloadavg()[0]
    try:
        measured = run(plan, options.threads)
    except RequestError as error:
        print(f"segmentation: {error}", file=sys.stderr)
        return 2
    differences = describe_differences(measured["times"])
    if differences:
        print(f"segmentation: results differ, so no times are compared: {'; '.join(differences)}", file=sys.stderr)
        return 1
    text = "\n".join([*speed_table(measured["times"], plan), "", *memory_table(measured["memory"], plan)])
    print(text)
    if options.out:
        command = "python benchmarks/segmentation.py" + " --quick" * options.quick
        command += f" --device {options.device} --workers {options.workers}" * (options.device != "cpu")
        command += f" --out {options.out}"
        title, packages = "Label maps, compared with one window at a time", ("torch", "open_clip_torch")
        content = page(title, text, command, plan.device, packages, measured["times"]["threads"])
        options.out.write_text(content, encoding="utf-8")
    print(json.dumps(record(measured, plan, load)))
    return 0


def run(plan: SegmentationPlan, threads: int) -> dict[str, Any]:
    """Measure times in one process, then the memory of each arm in its own process."""
    module = "benchmarks.segmentation_cases"
    times = run_in_processes([1], f"{module}:measure", plan, threads=threads)[1]
    memory = {arm: run_in_processes([1], f"{module}:peak", plan, arm, threads=threads)[1] for arm in ARMS}
    return {"times": times, "memory": memory}


def describe_differences(times: dict[str, Any]) -> list[str]:
    """Describe the results that differ by more than rounding."""
    differences = []
    for name in SETS:
        difference = times[name]["difference"]
        if not (difference["logits"] <= LOGITS and difference["labels"] <= LABELS):
            differences.append(
                f"{name}: logits by {difference['logits']:.2g}, {difference['labels']:.2%} of the labels"
            )
    return differences


def speed_table(times: dict[str, Any], plan: SegmentationPlan) -> list[str]:
    head = ["images", "windows", "one at a time", "tower only", "cosmos-eval", "tower only", "ratio"]
    lines = [
        f"Seconds per image, {plan.model} in {plan.precision} on {plan.device}, {plan.classes} classes, cosmos-eval in "
        f"batches of {plan.batch_size} windows; medians, ratio with quartiles.",
        "",
        row(head),
        row(["---"] * len(head)),
    ]
    for name in SETS:
        case = times[name]
        times_of_case, count = Times(case["seconds"]), case["images"]
        cells = [f"{count} of {name}", str(case["windows"])]
        for arm in ARMS:
            cells += [f"{times_of_case.median(arm) / count:.3f}", f"{case['tower_seconds'][arm] / count:.3f}"]
        lines.append(row([*cells, ratio(rename_arms(times_of_case), "peer")]))
    return lines


def rename_arms(times: Times) -> Times:
    """Return the times under the names `peer` and `ours`, which `ratio` expects."""
    return Times({"peer": times.seconds["sequential"], "ours": times.seconds["batched"]})


def memory_table(memory: dict[str, dict[str, Any]], plan: SegmentationPlan) -> list[str]:
    from cosmos_eval.tasks.segmentation.label_maps import BUDGET

    height, width = plan.large
    names = {"voc": "two images of VOC", "large": f"one image of {height} x {width}"}
    lines = [
        f"Peak memory above weights and images, MiB. cosmos-eval needs at most {BUDGET // 2**20} MiB for the logits of "
        f"an image, whatever its size, and what the tower needs for {plan.batch_size} windows. The logits of the "
        f"large image at its own size would take {plan.logits_bytes // 2**20:,} MiB.",
        "",
        row(["", "one at a time", "cosmos-eval"]),
        row(["---"] * 3),
    ]
    for case, name in names.items():
        peaks = [memory[arm][case] for arm in ARMS]
        cells = ["not run: too little memory" if peak is None else f"{peak // 2**20:,}" for peak in peaks]
        lines.append(row([name, *cells]))
    return lines


def record(measured: dict[str, Any], plan: SegmentationPlan, load: float) -> dict[str, Any]:
    """Return the record of the last line; `load` is the load average of the machine before the start."""
    from cosmos_eval.tasks.segmentation.label_maps import BUDGET

    figures: dict[str, Any] = {}
    ratios = {}
    for name in SETS:
        case = measured["times"][name]
        times = rename_arms(Times(case["seconds"]))
        ratios[name] = times.ratio("peer", "ours")
        figures[name] = {
            "images": case["images"],
            "windows": case["windows"],
            "peer_seconds": times.median("peer"),
            "ours_seconds": times.median("ours"),
            "peer_tower_seconds": case["tower_seconds"]["sequential"],
            "ours_tower_seconds": case["tower_seconds"]["batched"],
            "ratio": ratios[name],
            "ratio_quartiles": times.quartiles("peer", "ours"),
            "difference": case["difference"],
        }
    for arm, name in zip(ARMS, ("peer", "ours"), strict=True):
        for case, peak in measured["memory"][arm].items():
            figures[f"{case}_{name}_peak_bytes_above_weights"] = peak
    figures["budget_bytes"] = BUDGET
    figures["large_image"] = {"size": plan.large, "logits_bytes": plan.logits_bytes}
    figures["batch_size"], figures["precision"] = plan.batch_size, plan.precision
    worst = {"segmentation": min(ratios.values())}
    return last_line("segmentation", worst, figures, plan.device, measured["times"]["threads"], load)


if __name__ == "__main__":
    sys.exit(main())
