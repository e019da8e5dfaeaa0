"""How fast label maps are beside SCLIP's way to make them, one window of one image at a time, and in what memory.

    python benchmarks/segmentation.py [--quick] [--device cuda] [--out results/segmentation.md]

A ViT-B/16 with random weights, 150 classes, windows of 224 pixels with stride 112, on toybox's images and on images
of VOC's sizes in VOC's layout; decoding and resizing are part of it. The peer is the oracle of the tests: it encodes
each window alone, resamples its logits to pixels, adds them up and divides at the size of the resized image,
resamples to the original size, and takes softmax and argmax there. Both must give the same logits and labels, or the
exit code is 1. A ratio is the median, over repetitions, of the peer's time by ours in the same repetition. Memory is
measured in a process of its own for each: the most that it held, above weights and images. Prints one JSON line last.
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

from benchmarks.printed import last_line, page, ratio, row
from benchmarks.segmentation_cases import ARMS, FULL, GPU, QUICK, Plan
from benchmarks.timing import Times
from benchmarks.worlds import run_in_worlds
from cosmos_core.errors import RequestError

LOGITS, LABELS = 1e-4, 1e-3
"""What the two may differ by: any logit, and the share of pixels whose two best classes are within rounding."""
SETS = ("voc", "toybox")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer images and repetitions: about a minute")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--precision", default="fp32", help="of both: fp32, bf16 or fp16")
    parser.add_argument("--batch-size", type=int, default=0, help="windows of a batch; 0: 8, on a GPU 64")
    parser.add_argument("--workers", type=int, default=0, help="processes that decode for ours")
    parser.add_argument("--threads", type=int, default=0, help="0: the machine's cores")
    parser.add_argument("--out", type=Path, help="write the tables here as well")
    chosen = parser.parse_args(arguments)
    plan = QUICK if chosen.quick else FULL
    if chosen.device != "cpu":
        plan = replace(GPU, voc=32, toybox=32, repetitions=2, large=QUICK.large) if chosen.quick else GPU
    plan = replace(plan, device=chosen.device, precision=chosen.precision, workers=chosen.workers)
    if chosen.batch_size:
        plan = replace(plan, batch_size=chosen.batch_size)
    load = os.getloadavg()[0]
    try:
        found = run(plan, chosen.threads)
    except RequestError as error:
        print(f"segmentation: {error}", file=sys.stderr)
        return 2
    apart = unequal(found["times"])
    if apart:
        print(f"segmentation: ours and the peer differ, so no times are compared: {'; '.join(apart)}", file=sys.stderr)
        return 1
    text = "\n".join([*speed_table(found["times"], plan), "", *memory_table(found["memory"], plan)])
    print(text)
    if chosen.out:
        command = "python benchmarks/segmentation.py" + " --quick" * chosen.quick
        command += f" --device {chosen.device} --workers {chosen.workers}" * (chosen.device != "cpu")
        command += f" --out {chosen.out}"
        title, packages = "Label maps beside one window of one image at a time", ("torch", "open_clip_torch")
        written = page(title, text, command, plan.device, packages, found["times"]["threads"])
        chosen.out.write_text(written, encoding="utf-8")
    print(json.dumps(record(found, plan, load)))
    return 0


def run(plan: Plan, threads: int) -> dict[str, Any]:
    """Times in one process, then the memory of each arm in a process of its own."""
    module = "benchmarks.segmentation_cases"
    times = run_in_worlds([1], f"{module}:measure", plan, threads=threads)[1]
    memory = {arm: run_in_worlds([1], f"{module}:peak", plan, arm, threads=threads)[1] for arm in ARMS}
    return {"times": times, "memory": memory}


def unequal(times: dict[str, Any]) -> list[str]:
    """What differs by more than rounding, in words."""
    found = []
    for name in SETS:
        apart = times[name]["apart"]
        if not (apart["logits"] <= LOGITS and apart["labels"] <= LABELS):
            found.append(f"{name}: logits by {apart['logits']:.2g}, {apart['labels']:.2%} of the labels")
    return found


def speed_table(times: dict[str, Any], plan: Plan) -> list[str]:
    head = ["images", "windows", "one at a time", "of it tower", "ours", "of it tower", "ratio"]
    lines = [
        f"Seconds an image, {plan.model} in {plan.precision} on {plan.device}, {plan.classes} classes, ours in "
        f"batches of {plan.batch_size} windows; medians, ratio with quartiles.",
        "",
        row(head),
        row(["---"] * len(head)),
    ]
    for name in SETS:
        case = times[name]
        taken, count = Times(case["seconds"]), case["images"]
        cells = [f"{count} of {name}", str(case["windows"])]
        for arm in ARMS:
            cells += [f"{taken.median(arm) / count:.3f}", f"{case['tower_seconds'][arm] / count:.3f}"]
        at_a_time = replace_peer(taken)
        lines.append(row([*cells, ratio(at_a_time, "peer")]))
    return lines


def replace_peer(times: Times) -> Times:
    """Under the names that ratios are printed by."""
    return Times({"peer": times.seconds["sequential"], "ours": times.seconds["batched"]})


def memory_table(memory: dict[str, dict[str, Any]], plan: Plan) -> list[str]:
    from cosmos_eval.tasks.segmentation.label_maps import BUDGET

    height, width = plan.large
    names = {"voc": "two of VOC's images", "large": f"one image of {height} x {width}"}
    lines = [
        f"Memory above weights and images, MiB, at its peak. Ours is bounded by {BUDGET // 2**20} MiB for the logits "
        f"of an image, whatever its size, and by what the tower takes for {plan.batch_size} windows; the logits of "
        f"the large image at its own size would be {plan.logits_bytes // 2**20:,} MiB.",
        "",
        row(["", "one at a time", "ours"]),
        row(["---"] * 3),
    ]
    for case, name in names.items():
        bytes_of = [memory[arm][case] for arm in ARMS]
        cells = ["not run: too little memory" if held is None else f"{held // 2**20:,}" for held in bytes_of]
        lines.append(row([name, *cells]))
    return lines


def record(found: dict[str, Any], plan: Plan, load: float) -> dict[str, Any]:
    """What the last line holds; `load` is the machine's load average before, of whatever else ran."""
    from cosmos_eval.tasks.segmentation.label_maps import BUDGET

    figures: dict[str, Any] = {}
    ratios = {}
    for name in SETS:
        case = found["times"][name]
        times = replace_peer(Times(case["seconds"]))
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
            "apart": case["apart"],
        }
    for arm, name in zip(ARMS, ("peer", "ours"), strict=True):
        for case, held in found["memory"][arm].items():
            figures[f"{case}_{name}_peak_bytes_above_weights"] = held
    figures["budget_bytes"] = BUDGET
    figures["large_image"] = {"size": plan.large, "logits_bytes": plan.logits_bytes}
    figures["batch_size"], figures["precision"] = plan.batch_size, plan.precision
    slowest = {"segmentation": min(ratios.values())}
    return last_line("segmentation", slowest, figures, plan.device, found["times"]["threads"], load)


if __name__ == "__main__":
    sys.exit(main())
