"""How much faster two processes evaluate than one: retrieval and classification end to end.

    python benchmarks/scaling.py [--quick] [--ranks 2] [--device cuda] [--out results/speed.md]

The `--model` of open_clip's registry with random weights, on images of the embedded world saved as JPEG of 640 by
480: retrieval with two captions an image, and classification. One process alone and all processes together take
turns, each process with `--threads` threads; a turn is decoding, encoding, scoring and intervals, without loading the
model, reading annotations and hashing images. Both must give the same metrics to the bit, or the exit code is 1.
Prints one JSON line last.
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

from benchmarks.printed import last_line
from benchmarks.speed_page import tell
from benchmarks.timing import Times
from benchmarks.worlds import run_in_worlds
from cosmos_core.errors import RequestError

if TYPE_CHECKING:
    from cosmos_eval.engine.ranks import Crew
    from cosmos_eval.models.open_clip import OpenClipModel
    from cosmos_eval.run.plan import Planned

ARMS = ("one", "all")
MODEL = "COSMOS_SCALING_MODEL"
"""The environment variable that tells every process which architecture to make, and where."""


@dataclass(frozen=True)
class Plan:
    """How much is evaluated, and where."""

    images: int
    """Of retrieval; classification has as many."""
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
        help="96 images instead of 500, in batches of 8, so that there are some for each process",
    )
    parser.add_argument("--ranks", type=int, default=2, help="processes")
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--workers", type=int, default=0, help="processes that decode, of each rank")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda: a card for each process")
    parser.add_argument("--model", default="ViT-B-32", help="architecture of open_clip's registry")
    parser.add_argument("--out", type=Path, help="write a section of this page as well")
    chosen = parser.parse_args(arguments)
    sizes = QUICK if chosen.quick else FULL
    plan = Plan(**sizes, ranks=chosen.ranks, device=chosen.device, model=chosen.model, workers=chosen.workers)
    os.environ[MODEL] = f"{plan.model} {plan.device}"
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        write_images(plan, Path(folder))
        try:
            found = run_in_worlds([plan.ranks], "benchmarks.scaling:measure", plan, folder, threads=chosen.threads)
        except RequestError as error:
            print(f"scaling: {error}", file=sys.stderr)
            return 2
    seconds, same = found[plan.ranks]
    if not same:
        print("scaling: the metrics differ, so no times are compared", file=sys.stderr)
        return 1
    times = Times(seconds)
    made = record(times, plan, chosen.threads, load)
    tell("From one process to several", table(times, plan, chosen.threads), made, chosen.out, arguments)
    return 0


def write_images(plan: Plan, root: Path) -> None:
    """The data of both benchmarks, in files that a user's own data would be in, and their definitions."""
    import yaml
    from PIL import Image

    from cosmos_eval.datasets.toybox import captions, class_scenes, distinct_scenes, render
    from cosmos_eval.datasets.toybox.words import CLASSES

    scenes = distinct_scenes(0, "test", plan.images)
    single = class_scenes(0, "test", -(-plan.images // plan.classes))[: plan.images]
    lines: dict[str, list[dict[str, Any]]] = {"pairs": [], "things": []}
    for name, drawn in (("pairs", scenes), ("things", [scene for _, scene in single])):
        for i, scene in enumerate(drawn):
            file = f"{name}-{i:05d}.jpg"
            Image.fromarray(render(scene, 640)[:480]).save(root / file, quality=90)
            label = {"captions": list(captions(scene).full)} if name == "pairs" else {"label": CLASSES[single[i][0]]}
            lines[name].append({"image": file, **label})
    tasks: dict[str, dict[str, Any]] = {
        "pairs": {"task": "retrieval", "metrics": {"primary": "text_to_image_recall@1", "k": [1, 5, 10]}},
        "things": {
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
    """The model of the environment, the same weights in every process."""
    from benchmarks.random_model import random_model

    arch, device = os.environ[MODEL].split()
    return random_model(arch, device=device)


def measure(world: Any, plan: Plan, folder: str) -> tuple[dict[str, list[float]], bool] | None:
    """Seconds of both arms, in turns, and whether all turns gave the same metrics."""
    from cosmos_eval.engine.ranks import Crew, crew_of
    from cosmos_eval.progress import Silent
    from cosmos_eval.run.plan import make_plan

    crew = crew_of(world, Silent())
    if not crew.is_main:
        crew.serve()
        return None
    planned = make_plan([Path(folder) / f"{name}.yaml" for name in ("pairs", "things")])
    arms = {"one": Crew(), "all": crew}
    seconds: dict[str, list[float]] = {arm: [] for arm in arms}
    metrics = []
    for turn in range(plan.repetitions):
        for arm in ARMS if turn % 2 == 0 else ARMS[::-1]:
            took, found = one_turn(arms[arm], plan, planned)
            seconds[arm].append(took)
            metrics.append(found)
    crew.finish()
    return seconds, all(found == metrics[0] for found in metrics)


def one_turn(crew: "Crew", plan: Plan, planned: "Sequence[Planned]") -> tuple[float, Any]:
    """Seconds of both benchmarks from files to intervals, and their metrics."""
    from cosmos_eval.run.options import RunOptions
    from cosmos_eval.run.session import Session

    options = RunOptions(device=plan.device, batch_size=plan.batch_size, workers=plan.workers)
    session = Session(None, options, crew=crew)
    results = session.measure("python:benchmarks.scaling:model", planned)
    return sum(result.timing.seconds for result in results), [result.metrics for result in results]


def table(times: Times, plan: Plan, threads: int) -> list[str]:
    """What was measured, as Markdown."""
    low, high = times.quartiles("one", "all")
    return [
        f"{plan.images:,} images with {2 * plan.images:,} captions and {plan.images:,} of {plan.classes} "
        f"classes, {plan.model} on {plan.device}, {threads} thread{'s' * (threads > 1)} a process.",
        "",
        f"| | one process | {plan.ranks} processes | ratio |",
        "|---|---|---|---|",
        f"| seconds | {times.median('one'):.1f} | {times.median('all'):.1f} | "
        f"{times.ratio('one', 'all'):.2f} ({low:.2f} to {high:.2f}) |",
        "",
        "Metrics and intervals are the same to the bit.",
    ]


def record(times: Times, plan: Plan, threads: int, load: float) -> dict[str, Any]:
    """What the last line holds; `load` is the machine's load average before, of whatever else ran."""
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
