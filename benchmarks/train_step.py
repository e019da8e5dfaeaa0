"""Measure a training step, compared with a plain implementation of the formulas, in 1, 2 and 4 processes.

    python benchmarks/train_step.py [--quick] [--out results/train_step.md]

Two things are compared on the same batch, in turns: the loss (forward and backward on random unit features) and the
whole step (toybox's network on its scenes and captions). The peer, in `peers/`, loops over pairs of views and gathers
both sides of each pair again; it updates, steps and clamps one parameter at a time; its towers are the same modules as
ours. It gathers by up to three methods, and the fastest one counts. Both must give the same losses and gradients, or
nothing is timed and the exit code is 1. The ratio is the median over repetitions of the peer's time divided by ours.
The last line printed is JSON.
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

from benchmarks.output import ratio, rounded, row
from benchmarks.processes import run_in_processes
from benchmarks.timing import Times
from benchmarks.train_step_plan import FULL, QUICK, TOLERANCE, TrainStepPlan
from cosmos_core.errors import RequestError

PEERS = {"step": "plain", "step_same_forward": "plain, our forward"}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions and smaller batches: about a minute")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4], help="numbers of processes")
    parser.add_argument(
        "--threads", type=int, default=0, help="threads of each process; 0: its share of the cores, at least 1"
    )
    parser.add_argument("--repetitions", type=int, default=0, help="with the most processes; 0: the default")
    parser.add_argument("--out", type=Path, help="also write the tables to this file")
    options = parser.parse_args(arguments)
    plan = replace(QUICK if options.quick else FULL, largest=max(options.processes))
    if options.repetitions:
        plan = replace(plan, loss_repetitions=options.repetitions, step_repetitions=options.repetitions)
    load = os.getloadavg()[0]
    try:
        measured_by_size = run_in_processes(
            options.processes, "benchmarks.train_step_cases:measure", plan, threads=options.threads
        )
    except RequestError as error:
        print(f"train_step: {error}", file=sys.stderr)
        return 2
    differences = describe_differences(measured_by_size)
    if differences:
        print(f"train_step: results differ, so no times are compared: {'; '.join(differences)}", file=sys.stderr)
        return 1
    text = "\n".join(
        [
            *loss_table(measured_by_size, plan),
            "",
            *step_table(measured_by_size),
            "",
            *collectives_table(measured_by_size),
        ]
    )
    print(text)
    if options.out:
        command = "python benchmarks/train_step.py" + " --quick" * options.quick + f" --out {options.out}"
        options.out.write_text(page(text, measured_by_size, command), encoding="utf-8")
    print(json.dumps(record(measured_by_size, load)))
    return 0


def describe_differences(measured_by_size: dict[int, dict[str, Any]]) -> list[str]:
    """Describe the losses and gradients that differ by more than rounding."""
    differences = []
    for size, measured in measured_by_size.items():
        cases = [("loss", measured["loss_difference"])]
        cases += [(f"step of {step['views']}", step["difference"]) for step in measured["steps"]]
        for name, difference in cases:
            if not difference <= TOLERANCE:
                differences.append(f"{name} in {size} processes by {difference:.2g} (allowed {TOLERANCE:g})")
    return differences


def record(measured_by_size: dict[int, dict[str, Any]], load: float) -> dict[str, Any]:
    """Return the record of the last line; `load` is the load average of the machine before the start."""
    ratios: dict[str, float] = {}
    figures: dict[str, Any] = {}
    for size, measured in measured_by_size.items():
        times, fastest = Times(measured["loss"]), measured["fastest"]
        ratios[f"loss_{size}_processes"] = times.ratio(fastest, "ours")
        figures[f"loss_{size}_processes"] = {
            **{f"{arm}_seconds": times.median(arm) for arm in times.seconds},
            "fastest_peer": fastest,
            "ratio_quartiles": times.quartiles(fastest, "ours"),
            "largest_difference": measured["loss_difference"],
        }
        for step in measured["steps"]:
            times = Times(step["seconds"])
            figures[f"step_{size}_processes, {step['views']}"] = {
                **{f"{arm}_seconds": times.median(arm) for arm in times.seconds},
                **{key: times.ratio(peer, "ours") for key, peer in PEERS.items()},
                **{f"{key}_quartiles": times.quartiles(peer, "ours") for key, peer in PEERS.items()},
                "largest_difference": step["difference"],
            }
        if "collectives" in measured:
            figures["collectives"] = measured["collectives"]
    for key, peer in PEERS.items():
        all_ratios = [
            Times(step["seconds"]).ratio(peer, "ours")
            for measured in measured_by_size.values()
            for step in measured["steps"]
        ]
        if all_ratios:
            ratios[key] = min(all_ratios)
    return {
        "name": "train_step",
        "ratios": {key: round(value, 3) for key, value in ratios.items()},
        "figures": rounded(figures),
        "environment": {**environment(measured_by_size), "load_before": load},
    }


def environment(measured_by_size: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """Return versions, hardware, and how the processes share the cores."""
    merged = dict(next(iter(measured_by_size.values()))["environment"])
    cores = merged["hardware"]["cores"]
    threads = {size: measured["environment"]["hardware"]["threads"] for size, measured in measured_by_size.items()}
    oversubscribed = [str(size) for size in measured_by_size if size * threads[size] > cores]
    merged["processes"] = {"backend": "gloo", "threads_each": threads}
    if oversubscribed:
        merged["processes"]["oversubscribed"] = f"{', '.join(oversubscribed)} processes share {cores} cores"
    return merged


def loss_table(measured_by_size: dict[int, dict[str, Any]], plan: TrainStepPlan) -> list[str]:
    gathers = list(
        dict.fromkeys(arm for measured in measured_by_size.values() for arm in measured["loss"] if arm != "ours")
    )
    names = [gather.replace("_", " ") for gather in gathers]
    lines = [
        f"Loss, forward and backward: {plan.loss.label}, {plan.width} dimensions. Milliseconds, medians; the ratio is "
        "to the fastest gather method of the peer, with quartiles.",
        "",
        row(["processes", "threads each", "cosmos_core", *(f"plain, {name}" for name in names), "ratio"]),
        row(["---"] * (len(names) + 4)),
    ]
    for size, measured in measured_by_size.items():
        times = Times(measured["loss"])
        peers = [milliseconds(times, arm) if arm in measured["loss"] else "–" for arm in gathers]
        threads = str(measured["environment"]["hardware"]["threads"])
        lines.append(row([str(size), threads, milliseconds(times, "ours"), *peers, ratio(times, measured["fastest"])]))
    return lines


def step_table(measured_by_size: dict[int, dict[str, Any]]) -> list[str]:
    lines = [
        "Whole step: teacher and student forward, loss, backward, EMA, AdamW, clamp. Milliseconds, medians. The second "
        "peer uses our forward, so that only the loss, the EMA and the optimizer differ.",
        "",
        row(["processes", "batch", "cosmos_core", "plain", "plain, our forward", "ratio", "ratio, our forward"]),
        row(["---"] * 7),
    ]
    for size, measured in measured_by_size.items():
        for step in measured["steps"]:
            times = Times(step["seconds"])
            arms = [milliseconds(times, arm) for arm in ("ours", *PEERS.values())]
            lines.append(row([str(size), step["views"], *arms, *(ratio(times, peer) for peer in PEERS.values())]))
    return lines


def collectives_table(measured_by_size: dict[int, dict[str, Any]]) -> list[str]:
    counted = [
        (size, measured["collectives"]) for size, measured in measured_by_size.items() if "collectives" in measured
    ]
    if not counted:
        return ["Collectives: none with one process."]
    size, counts = counted[0]
    views = list(next(iter(counts.values())))
    lines = [
        f"Collectives in one loss (forward and backward) and in one whole step, {size} processes, by image views + "
        "captions. With gloo, the gradient of a gather is one scatter for each rank.",
        "",
        row(["", *views]),
        row(["---"] * (len(views) + 1)),
    ]
    for name, by_views in counts.items():
        lines.append(
            row([name.replace("_", " ").replace("ours", "cosmos_core"), *(str(by_views[view]) for view in views)])
        )
    return lines


def page(text: str, measured_by_size: dict[int, dict[str, Any]], command: str) -> str:
    """Return the page of `results/`: the tables, the command that makes them, and the machine and versions."""
    measured_on = environment(measured_by_size)
    hardware, packages = measured_on["hardware"], measured_on["packages"]
    shared = measured_on["processes"].get("oversubscribed")
    return (
        "# A training step compared with a plain implementation of the published formulas\n\n"
        f"Made by `{command}`. {hardware['cpu']}, {hardware['cores']} cores, Python {measured_on['python']}, torch "
        f"{packages['torch']}, open_clip_torch {packages['open_clip_torch']}, gloo"
        + (f"; {shared}" if shared else "")
        + f".\n\n{text}\n"
    )


def milliseconds(times: Times, arm: str) -> str:
    return f"{times.median(arm) * 1e3:.1f}"


if __name__ == "__main__":
    sys.exit(main())
