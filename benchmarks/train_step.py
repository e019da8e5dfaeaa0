"""How fast a training step is beside a plain implementation of the published formulas, in 1, 2 and 4 processes.

    python benchmarks/train_step.py [--quick] [--out results/train_step.md]

Compared on the same batch, in turns: the loss (forward and backward on random unit features) and the whole step
(toybox's network on its scenes and captions). The peer, in `peers/`, loops over pairs of views and gathers both sides
of each pair anew; it averages, steps and clamps one parameter at a time; its towers are ours, called plainly. It
gathers in up to three ways, of which the fastest counts. Both must give the same losses and gradients, or nothing is
timed and the exit code is 1. A ratio is the median, over repetitions, of the peer's time by ours in the same
repetition. Prints one JSON line last.
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

from benchmarks.printed import ratio, rounded, row
from benchmarks.timing import Times
from benchmarks.train_step_plan import FULL, QUICK, TOLERANCE, Plan
from benchmarks.worlds import run_in_worlds
from cosmos_core.errors import RequestError

PEERS = {"step": "plain", "step_same_forward": "plain, our forward"}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions and smaller batches: about a minute")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4], help="numbers of processes")
    parser.add_argument("--threads", type=int, default=0, help="of each process; 0: its share of the cores, at least 1")
    parser.add_argument("--repetitions", type=int, default=0, help="in the largest world; 0: the setting's own")
    parser.add_argument("--out", type=Path, help="write the tables here as well")
    chosen = parser.parse_args(arguments)
    plan = replace(QUICK if chosen.quick else FULL, largest=max(chosen.processes))
    if chosen.repetitions:
        plan = replace(plan, loss_repetitions=chosen.repetitions, step_repetitions=chosen.repetitions)
    load = os.getloadavg()[0]
    try:
        worlds = run_in_worlds(chosen.processes, "benchmarks.train_step_cases:measure", plan, threads=chosen.threads)
    except RequestError as error:
        print(f"train_step: {error}", file=sys.stderr)
        return 2
    apart = unequal(worlds)
    if apart:
        print(f"train_step: ours and the peer differ, so no times are compared: {'; '.join(apart)}", file=sys.stderr)
        return 1
    text = "\n".join([*loss_table(worlds, plan), "", *step_table(worlds), "", *collectives_table(worlds)])
    print(text)
    if chosen.out:
        command = "python benchmarks/train_step.py" + " --quick" * chosen.quick + f" --out {chosen.out}"
        chosen.out.write_text(page(text, worlds, command), encoding="utf-8")
    print(json.dumps(record(worlds, load)))
    return 0


def unequal(worlds: dict[int, dict[str, Any]]) -> list[str]:
    """What differs by more than rounding, in words."""
    found = []
    for size, world in worlds.items():
        cases = [("loss", world["loss_difference"])]
        cases += [(f"step of {step['views']}", step["difference"]) for step in world["steps"]]
        for name, apart in cases:
            if not apart <= TOLERANCE:
                found.append(f"{name} in {size} processes by {apart:.2g} (allowed {TOLERANCE:g})")
    return found


def record(worlds: dict[int, dict[str, Any]], load: float) -> dict[str, Any]:
    """What the last line holds; `load` is the machine's load average before, of whatever else ran."""
    ratios: dict[str, float] = {}
    figures: dict[str, Any] = {}
    for size, world in worlds.items():
        times, fastest = Times(world["loss"]), world["fastest"]
        ratios[f"loss_{size}_processes"] = times.ratio(fastest, "ours")
        figures[f"loss_{size}_processes"] = {
            **{f"{arm}_seconds": times.median(arm) for arm in times.seconds},
            "fastest_peer": fastest,
            "ratio_quartiles": times.quartiles(fastest, "ours"),
            "largest_difference": world["loss_difference"],
        }
        for step in world["steps"]:
            times = Times(step["seconds"])
            figures[f"step_{size}_processes, {step['views']}"] = {
                **{f"{arm}_seconds": times.median(arm) for arm in times.seconds},
                **{key: times.ratio(peer, "ours") for key, peer in PEERS.items()},
                **{f"{key}_quartiles": times.quartiles(peer, "ours") for key, peer in PEERS.items()},
                "largest_difference": step["difference"],
            }
        if "collectives" in world:
            figures["collectives"] = world["collectives"]
    for key, peer in PEERS.items():
        all_ratios = [
            Times(step["seconds"]).ratio(peer, "ours") for world in worlds.values() for step in world["steps"]
        ]
        if all_ratios:
            ratios[key] = min(all_ratios)
    return {
        "name": "train_step",
        "ratios": {key: round(value, 3) for key, value in ratios.items()},
        "figures": rounded(figures),
        "environment": {**environment(worlds), "load_before": load},
    }


def environment(worlds: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """Versions, hardware, and how processes share the cores."""
    found = dict(next(iter(worlds.values()))["environment"])
    cores = found["hardware"]["cores"]
    threads = {size: world["environment"]["hardware"]["threads"] for size, world in worlds.items()}
    crowded = [str(size) for size in worlds if size * threads[size] > cores]
    found["processes"] = {"backend": "gloo", "threads_each": threads}
    if crowded:
        found["processes"]["oversubscribed"] = f"{', '.join(crowded)} processes share {cores} cores"
    return found


def loss_table(worlds: dict[int, dict[str, Any]], plan: Plan) -> list[str]:
    gathers = list(dict.fromkeys(arm for world in worlds.values() for arm in world["loss"] if arm != "ours"))
    names = [gather.replace("_", " ") for gather in gathers]
    lines = [
        f"Loss, forward and backward: {plan.loss.label}, features of {plan.width}. Milliseconds, medians; the ratio is "
        "to the peer's fastest way to gather, with quartiles.",
        "",
        row(["processes", "threads each", "ours", *(f"plain, {name}" for name in names), "ratio"]),
        row(["---"] * (len(names) + 4)),
    ]
    for size, world in worlds.items():
        times = Times(world["loss"])
        peers = [milliseconds(times, arm) if arm in world["loss"] else "–" for arm in gathers]
        threads = str(world["environment"]["hardware"]["threads"])
        lines.append(row([str(size), threads, milliseconds(times, "ours"), *peers, ratio(times, world["fastest"])]))
    return lines


def step_table(worlds: dict[int, dict[str, Any]]) -> list[str]:
    lines = [
        "Whole step: teacher and student forward, loss, backward, average, AdamW, clamp. Milliseconds, medians. The "
        "second peer runs our forward, so that only loss, averages and optimizer differ.",
        "",
        row(["processes", "batch", "ours", "plain", "plain, our forward", "ratio", "ratio, our forward"]),
        row(["---"] * 7),
    ]
    for size, world in worlds.items():
        for step in world["steps"]:
            times = Times(step["seconds"])
            arms = [milliseconds(times, arm) for arm in ("ours", *PEERS.values())]
            lines.append(row([str(size), step["views"], *arms, *(ratio(times, peer) for peer in PEERS.values())]))
    return lines


def collectives_table(worlds: dict[int, dict[str, Any]]) -> list[str]:
    found = [(size, world["collectives"]) for size, world in worlds.items() if "collectives" in world]
    if not found:
        return ["Collectives: none in one process."]
    size, counts = found[0]
    views = list(next(iter(counts.values())))
    lines = [
        f"Collectives that are issued in one loss (forward and backward) and in one whole step, {size} processes, by "
        "image views + captions. A gradient through a gather is one scatter for each rank under gloo.",
        "",
        row(["", *views]),
        row(["---"] * (len(views) + 1)),
    ]
    for name, by_views in counts.items():
        lines.append(row([name.replace("_", " "), *(str(by_views[view]) for view in views)]))
    return lines


def page(text: str, worlds: dict[int, dict[str, Any]], command: str) -> str:
    """The tables as a page of `results/`, with the command that makes it and what it ran on."""
    found = environment(worlds)
    hardware, packages = found["hardware"], found["packages"]
    shared = found["processes"].get("oversubscribed")
    return (
        "# A training step beside a plain implementation of the published formulas\n\n"
        f"Made by `{command}`. {hardware['cpu']}, {hardware['cores']} cores, Python {found['python']}, torch "
        f"{packages['torch']}, open_clip_torch {packages['open_clip_torch']}, gloo"
        + (f"; {shared}" if shared else "")
        + f".\n\n{text}\n"
    )


def milliseconds(times: Times, arm: str) -> str:
    return f"{times.median(arm) * 1e3:.1f}"


if __name__ == "__main__":
    sys.exit(main())
