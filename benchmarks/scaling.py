"""Measure how much faster several processes evaluate than one: retrieval and classification, end to end.

    python benchmarks/scaling.py [--quick] [--ranks 2] [--device cuda] [--out results/speed.md]

The `--model` of open_clip's registry, with random weights, is evaluated on toybox scenes saved as JPEG of 640 by 480:
retrieval with two captions for each image, and classification. One process alone and all processes together take turns,
each process with `--threads` threads. The time includes decoding, encoding, scoring and intervals, but not loading the
model, reading annotations and hashing images. Both must give bit-identical metrics, or the exit code is 1. The last
line printed is JSON.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.output import last_line
from benchmarks.processes import run_in_processes
from benchmarks.speed_page import print_and_write
from benchmarks.timing import Times
from cosmos_core.errors import RequestError

if TYPE_CHECKING:
    from cosmos_eval.engine.rank_group import RankGroup
    from cosmos_eval.models.open_clip import OpenClipModel
    from cosmos_eval.run.plan import PlannedBenchmark

ARMS = ("one", "all")
MODEL = "COSMOS_SCALING_MODEL"
"""The environment variable with the architecture and the device of the model, for every process."""


@dataclass(frozen=True)
class ScalingPlan:
    """Sizes of the benchmark, and where it runs."""

    images: int
    """Images of retrieval; classification has the same number."""
    repetitions: int
    batch_size: int = 32
    classes: int = 48
    ranks: int = 2
    device: str = "cpu"
    model: str = "ViT-B-32"
    workers: int = 0


FULL, QUICK = {"images": 500, "repetitions": 3}, {"images": 96, "repetitions": 1, "batch_size": 8}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="96 images instead of 500, in batches of 8, so that each process has several",
    )
    parser.add_argument("--ranks", type=int, default=2, help="number of processes")
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--workers", type=int, default=0, help="processes that decode, for each rank")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda: one GPU for each process")
    parser.add_argument("--model", default="ViT-B-32", help="architecture of open_clip's registry")
    parser.add_argument("--out", type=Path, help="also write a section of this page")
    options = parser.parse_args(arguments)
    sizes = QUICK if options.quick else FULL
    plan = ScalingPlan(
        **sizes, ranks=options.ranks, device=options.device, model=options.model, workers=options.workers
    )
    os.environ[MODEL] = f"{plan.model} {plan.device}"
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        write_images(plan, Path(folder))
        try:
            measured = run_in_processes(
                [plan.ranks], "benchmarks.scaling:measure", plan, folder, threads=options.threads
            )
        except RequestError as error:
            print(f"scaling: {error}", file=sys.stderr)
            return 2
    seconds, is_same = measured[plan.ranks]
    if not is_same:
        print("scaling: the metrics differ, so no times are compared", file=sys.stderr)
        return 1
    times = Times(seconds)
    line = record(times, plan, options.threads, load)
    lines = table(times, plan, options.threads)
    print_and_write("Several processes", lines, line, options.out, arguments)
    return 0


def write_images(plan: ScalingPlan, root: Path) -> None:
    """Write the data of both benchmarks as image files and JSON lines, and their definitions."""
    import yaml
    from PIL import Image

    from cosmos_eval.datasets.toybox import captions, class_scenes, distinct_scenes, render
    from cosmos_eval.datasets.toybox.words import CLASSES

    scenes = distinct_scenes(0, "test", plan.images)
    single = class_scenes(0, "test", -(-plan.images // plan.classes))[: plan.images]
    lines: dict[str, list[dict[str, Any]]] = {"retrieval": [], "classification": []}
    for name, drawn in (("retrieval", scenes), ("classification", [scene for _, scene in single])):
        for i, scene in enumerate(drawn):
            file = f"{name}-{i:05d}.jpg"
            Image.fromarray(render(scene, 640)[:480]).save(root / file, quality=90)
            label = (
                {"captions": list(captions(scene).full)} if name == "retrieval" else {"label": CLASSES[single[i][0]]}
            )
            lines[name].append({"image": file, **label})
    tasks: dict[str, dict[str, Any]] = {
        "retrieval": {"task": "retrieval", "metrics": {"primary": "text_to_image_recall@1", "k": [1, 5, 10]}},
        "classification": {
            "task": "classification",
            "metrics": {"primary": "top1"},
            "prompts": {"templates": ["{c}", "a large {c}", "the {c} is large"]},
        },
    }
    for name, fields in tasks.items():
        (root / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines[name]), encoding="utf-8")
        dataset = {"reader": "jsonl", "path": f"{name}.jsonl"}
        definition = {"name": name, "version": 1, "dataset": dataset, "source": "rendered", **fields}
        (root / f"{name}.yaml").write_text(yaml.safe_dump(definition, sort_keys=False), encoding="utf-8")


def model() -> "OpenClipModel":
    """Build the model named in the environment, with the same weights in every process."""
    from benchmarks.random_model import random_model

    arch, device = os.environ[MODEL].split()
    return random_model(arch, device=device)


def measure(world: Any, plan: ScalingPlan, folder: str) -> tuple[dict[str, list[float]], bool] | None:
    """Return the seconds of both arms in turns, and whether all turns gave the same metrics; on rank 0 only."""
    from cosmos_eval.engine.rank_group import RankGroup, build_rank_group
    from cosmos_eval.progress import Silent
    from cosmos_eval.run.plan import make_plan

    ranks = build_rank_group(world, Silent())
    if not ranks.is_main:
        ranks.serve()
        return None
    planned = make_plan([Path(folder) / f"{name}.yaml" for name in ("retrieval", "classification")])
    arms = {"one": RankGroup(), "all": ranks}
    seconds: dict[str, list[float]] = {arm: [] for arm in arms}
    metrics = []
    for turn in range(plan.repetitions):
        for arm in ARMS if turn % 2 == 0 else ARMS[::-1]:
            turn_seconds, turn_metrics = one_turn(arms[arm], plan, planned)
            seconds[arm].append(turn_seconds)
            metrics.append(turn_metrics)
    ranks.finish()
    return seconds, all(turn_metrics == metrics[0] for turn_metrics in metrics)


def one_turn(ranks: "RankGroup", plan: ScalingPlan, planned: "Sequence[PlannedBenchmark]") -> tuple[float, Any]:
    """Return the seconds of both benchmarks, from the files to the intervals, and their metrics."""
    from cosmos_eval.run.options import RunOptions
    from cosmos_eval.run.session import Session

    options = RunOptions(device=plan.device, batch_size=plan.batch_size, workers=plan.workers)
    session = Session(None, options, ranks=ranks)
    results = session.evaluate_model("python:benchmarks.scaling:model", planned)
    return sum(result.timing.seconds for result in results), [result.metrics for result in results]


def table(times: Times, plan: ScalingPlan, threads: int) -> list[str]:
    """Return the lines of the Markdown text."""
    low, high = times.quartiles("one", "all")
    return [
        f"{plan.images:,} images with {2 * plan.images:,} captions and {plan.images:,} images of "
        f"{plan.classes} classes, {plan.model} on {plan.device}, {threads} thread{'s' * (threads > 1)} per process.",
        "",
        f"| | one process | {plan.ranks} processes | ratio |",
        "|---|---|---|---|",
        f"| seconds | {times.median('one'):.1f} | {times.median('all'):.1f} | "
        f"{times.ratio('one', 'all'):.2f} ({low:.2f} to {high:.2f}) |",
        "",
        "Metrics and intervals are bit-identical.",
    ]


def record(times: Times, plan: ScalingPlan, threads: int, load: float) -> dict[str, Any]:
    """Return the record of the last line; `load` is the load average of the machine before the start."""
    figures = {
        "ranks": plan.ranks,
        "images": 2 * plan.images,
        "one_seconds": times.median("one"),
        "all_seconds": times.median("all"),
        "images_per_second": round(2 * plan.images / times.median("all"), 1),
    }
    return last_line("scaling", {"scaling": times.ratio("one", "all")}, figures, plan.device, threads, load)


if __name__ == "__main__":
    sys.exit(main())
