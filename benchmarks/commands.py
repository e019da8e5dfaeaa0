"""How long the whole commands take, `clip_benchmark eval` and `cosmos-eval run`, on the same files of data and weights.

    python benchmarks/commands.py [--quick] [--device cuda] [--out results/speed.md]

A classification (20 of ImageNet's classes with its 80 templates, 10 images each) and a retrieval (100 images, five
captions each) in clip-benchmark's webdataset layout, a ViT-B/32 with random weights in a file. Whole processes, timed
from outside: starting Python, loading the model (theirs loads it for each dataset), reading shards, encoding, scoring,
writing results, and intervals and samples of ours. Float32 on both sides, two workers, nothing stored before. Both must
give the same figures to 1e-4, or the exit code is 1. The ratio is the median over repetitions. Prints one JSON line
last.
"""

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.printed import last_line, ratio, row
from benchmarks.speed_page import tell
from benchmarks.studies.imagenet_words import first_words
from benchmarks.timing import Times, take_turns
from cosmos_core.errors import RequestError
from cosmos_core.files import add_member

SAME = 1e-4
ARMS = ("peer", "ours")
K = (1, 5, 10)
CLASSIFICATION, RETRIEVAL = "things", "flickr8k"
"""Folders of the two; by the name of the second clip-benchmark knows that it is a retrieval."""
SHARDS = 2
"""Of each, one for each worker: clip-benchmark's loader deals whole ones out."""
METRICS = {
    CLASSIFICATION: {"acc1": "top1", "acc5": "top5", "mean_per_class_recall": "mean_per_class"},
    RETRIEVAL: {
        f"{theirs}_retrieval_recall@{k}": f"{ours}_recall@{k}"
        for theirs, ours in (("text", "image_to_text"), ("image", "text_to_image"))
        for k in K
    },
}
"""What clip-benchmark calls each figure, and what we do."""
DEFINITIONS: dict[str, dict[str, Any]] = {
    CLASSIFICATION: {
        "task": "classification",
        "prompts": {"class_names": "dataset", "templates": "dataset"},
        "metrics": {"primary": "top1"},
    },
    RETRIEVAL: {"task": "retrieval", "metrics": {"primary": "text_to_image_recall@1", "k": [*K]}},
}
"""Ours, but for name and data."""


@dataclass(frozen=True)
class Plan:
    """How much is done."""

    classes: int
    per_class: int
    pairs: int
    repetitions: int
    device: str = "cpu"
    workers: int = 2
    model: str = "ViT-B-32"


FULL = {"classes": 20, "per_class": 10, "pairs": 100, "repetitions": 3}
QUICK = {"classes": 6, "per_class": 4, "pairs": 16, "repetitions": 1}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few images and classes, once: about a minute")
    parser.add_argument("--device", default="cpu", help="cpu or cuda; their command takes a GPU where there is one")
    parser.add_argument("--out", type=Path, help="write a section of this page as well")
    chosen = parser.parse_args(arguments)
    plan = Plan(**(QUICK if chosen.quick else FULL), device=chosen.device)
    load = os.getloadavg()[0]
    try:
        with tempfile.TemporaryDirectory() as folder:
            found = measure(plan, Path(folder))
    except RequestError as error:
        print(f"commands: {error}", file=sys.stderr)
        return 2
    if not found["apart"] <= SAME:
        print(f"commands: figures differ by {found['apart']:.2g}, so no times are compared", file=sys.stderr)
        return 1
    tell("Whole commands", table(found, plan), record(found, plan, load), chosen.out, arguments)
    return 0


def measure(plan: Plan, root: Path) -> dict[str, Any]:
    """Both commands in turns: seconds, and how far their figures are apart."""
    from cosmos_core.world import World

    write_data(plan, root)
    write_weights(plan, root)
    arms = {"peer": partial(peer, plan, root), "ours": partial(ours, plan, root)}
    times = take_turns(arms, plan.repetitions, World())
    theirs, own = peer_figures(root), our_figures(root)
    return {"seconds": times.seconds, "figures": own, "apart": max(abs(own[name] - theirs[name]) for name in own)}


def write_data(plan: Plan, root: Path) -> None:
    """Both sets as shards of JPEG images of 500 by 375, and our definitions of them."""
    import yaml
    from PIL import Image

    from cosmos_eval.datasets.toybox import captions, distinct_scenes, render

    class_names, templates = first_words(plan.classes)
    scenes = list(distinct_scenes(0, "test", max(plan.pairs, plan.classes * plan.per_class)))
    samples: dict[str, list[tuple[str, str]]] = {
        CLASSIFICATION: [("cls", str(i // plan.per_class)) for i in range(plan.classes * plan.per_class)],
        RETRIEVAL: [
            ("txt", "\n".join(f"{captions(scene).raw}, seen by {n} people" for n in range(1, 6)))
            for scene in scenes[: plan.pairs]
        ],
    }
    for name, labels in samples.items():
        split = root / name / "test"
        split.mkdir(parents=True)
        (split / "nshards.txt").write_text(str(SHARDS))
        for shard in range(SHARDS):
            with tarfile.open(split / f"{shard}.tar", "w") as tar:
                for i in range(shard * len(labels) // SHARDS, (shard + 1) * len(labels) // SHARDS):
                    image = io.BytesIO()
                    Image.fromarray(render(scenes[i], 500)[:375]).save(image, "JPEG", quality=90)
                    add_member(tar, f"{i:06d}.jpg", image.getvalue())
                    add_member(tar, f"{i:06d}.{labels[i][0]}", labels[i][1].encode())
        dataset = {"reader": "wds", "path": name, "expected": {"images": len(labels)}}
        definition = {"name": name, "version": 1, "dataset": dataset, "source": "rendered", **DEFINITIONS[name]}
        (root / f"{name}.yaml").write_text(yaml.safe_dump(definition, sort_keys=False), encoding="utf-8")
    things = root / CLASSIFICATION
    (things / "classnames.txt").write_text("\n".join(class_names), encoding="utf-8")
    (things / "zeroshot_classification_templates.txt").write_text("\n".join(templates), encoding="utf-8")
    (root / RETRIEVAL / "dataset_type.txt").write_text("retrieval")


def write_weights(plan: Plan, root: Path) -> None:
    """Random weights as a file that both commands read."""
    import torch

    from benchmarks.random_model import random_model

    torch.save(random_model(plan.model).network.state_dict(), root / "random.pt")


def peer(plan: Plan, root: Path) -> None:
    """clip-benchmark's command on both sets."""
    options = ["--dataset", f"wds/{CLASSIFICATION}", f"wds/{RETRIEVAL}", "--dataset_root", str(root / "{dataset}")]
    options += ["--model", plan.model, "--pretrained", str(root / "random.pt"), "--no_amp", "--recall_k", *map(str, K)]
    options += ["--num_workers", str(plan.workers), "--output", str(root / "peer-{dataset}.json")]
    run(["-c", "import sys; from clip_benchmark.cli import main; sys.exit(main())", "eval", *options])


def ours(plan: Plan, root: Path) -> None:
    """Our command on both sets, into a folder that is not there yet."""
    shutil.rmtree(root / "out", ignore_errors=True)
    options = ["--model", f"open_clip:{plan.model}/{root / 'random.pt'}#gelu", "--data-root", str(root)]
    for name in METRICS:
        options += ["--benchmark", str(root / f"{name}.yaml")]
    options += ["--device", plan.device, "--precision", "fp32", "--workers", str(plan.workers)]
    run(["-m", "cosmos_eval", "run", *options, "--out", str(root / "out")])


def run(arguments: list[str]) -> None:
    """A command of this Python as a process.

    Raises:
        RequestError: it fails; with the last of what it said.
    """
    ended = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    if ended.returncode:
        said = ended.stderr.strip().splitlines() or ["nothing"]
        raise RequestError(f"{' '.join(arguments)} ended with {ended.returncode}: {said[-1]}")


def peer_figures(root: Path) -> dict[str, float]:
    """By our names for them."""
    found = {}
    for dataset, names in METRICS.items():
        metrics = json.loads((root / f"peer-{dataset}.json").read_text(encoding="utf-8"))["metrics"]
        found |= {f"{dataset} {own}": metrics[name] for name, own in names.items()}
    return found


def our_figures(root: Path) -> dict[str, float]:
    from cosmos_eval.results.store import read_results

    results = {one.benchmark.name: one for one in read_results(root / "out")}
    return {
        f"{dataset} {own}": results[dataset].metrics[own].value
        for dataset, names in METRICS.items()
        for own in names.values()
    }


def table(found: dict[str, Any], plan: Plan) -> list[str]:
    """What was measured, as Markdown."""
    times = Times(found["seconds"])
    return [
        f"{plan.classes * plan.per_class:,} images of {plan.classes} classes with {plan.classes * 80:,} prompts, and "
        f"{plan.pairs:,} images with {plan.pairs * 5:,} captions; {plan.model} in fp32 on {plan.device}, "
        f"{plan.workers} workers; medians, ratio with quartiles.",
        "",
        row(["", "`clip_benchmark eval`", "`cosmos-eval run`", "ratio"]),
        row(["---"] * 4),
        row(["seconds", *(f"{times.median(arm):.1f}" for arm in ARMS), ratio(times, "peer")]),
        "",
        f"Figures are at most {found['apart']:.1g} apart.",
    ]


def record(found: dict[str, Any], plan: Plan, load: float) -> dict[str, Any]:
    """What the last line holds; `load` is the machine's load average before, of whatever else ran."""
    times = Times(found["seconds"])
    figures = {
        "classification_images": plan.classes * plan.per_class,
        "prompts": plan.classes * 80,
        "retrieval_images": plan.pairs,
        "peer_seconds": times.median("peer"),
        "ours_seconds": times.median("ours"),
        "ratio_quartiles": times.quartiles("peer", "ours"),
        "apart": found["apart"],
    }
    return last_line(
        "commands", {"commands": times.ratio("peer", "ours")}, figures, plan.device, os.cpu_count() or 1, load
    )


if __name__ == "__main__":
    sys.exit(main())
