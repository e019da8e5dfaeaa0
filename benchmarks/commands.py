"""Measure the time of whole commands, `clip_benchmark eval` and `cosmos-eval run`, on the same data and weights.

    python benchmarks/commands.py [--quick] [--device cuda] [--out results/speed.md]

Both evaluate classification (20 of ImageNet's classes with its 80 templates, 10 images each) and retrieval (100 images,
five captions each) in clip-benchmark's webdataset layout, with a ViT-B/32 whose random weights are in a file. Whole
processes are timed from outside: they start Python, load the model (clip-benchmark once for each dataset), read shards,
encode, score and write results; cosmos-eval also computes intervals and writes samples. Both use float32, two workers
and no cache. Both must give the same figures to 1e-4, or the exit code is 1. The ratio is the median over repetitions.
The last line printed is JSON.
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
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.output import last_line, ratio, row
from benchmarks.speed_page import print_and_write
from benchmarks.studies.imagenet_words import first_words
from benchmarks.timing import Times, take_turns
from cosmos_core.errors import RequestError
from cosmos_core.files import add_member

SAME = 1e-4
ARMS = ("peer", "ours")
K = (1, 5, 10)
CLASSIFICATION, RETRIEVAL = "classification", "flickr8k"
"""Folders of the two datasets. clip-benchmark recognises the second as a retrieval dataset by its name."""
SHARDS = 2
"""Shards of each dataset, one for each worker, because clip-benchmark's loader gives whole shards to workers."""
METRICS = {
    CLASSIFICATION: {"acc1": "top1", "acc5": "top5", "mean_per_class_recall": "mean_per_class"},
    RETRIEVAL: {
        f"{retrieved}_retrieval_recall@{k}": f"{direction}_recall@{k}"
        for retrieved, direction in (("text", "image_to_text"), ("image", "text_to_image"))
        for k in K
    },
}
"""Dataset -> clip-benchmark's name of a metric -> ours."""
DEFINITIONS: dict[str, dict[str, Any]] = {
    CLASSIFICATION: {
        "task": "classification",
        "prompts": {"class_names": "dataset", "templates": "dataset"},
        "metrics": {"primary": "top1"},
    },
    RETRIEVAL: {"task": "retrieval", "metrics": {"primary": "text_to_image_recall@1", "k": [*K]}},
}
"""Our definitions, without name and data."""


@dataclass(frozen=True)
class CommandsPlan:
    """Sizes of the benchmark."""

    classes: int
    per_class: int
    pairs: int
    repetitions: int
    device: str = "cpu"
    workers: int = 2
    model: str = "ViT-B-32"


FULL = CommandsPlan(classes=20, per_class=10, pairs=100, repetitions=3)
QUICK = CommandsPlan(classes=6, per_class=4, pairs=16, repetitions=1)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few images and classes, one repetition: about a minute")
    parser.add_argument("--device", default="cpu", help="cpu or cuda; clip-benchmark uses a GPU wherever there is one")
    parser.add_argument("--out", type=Path, help="also write a section of this page")
    options = parser.parse_args(arguments)
    plan = replace(QUICK if options.quick else FULL, device=options.device)
    load = os.getloadavg()[0]
    try:
        with tempfile.TemporaryDirectory() as folder:
            measured = measure(plan, Path(folder))
    except RequestError as error:
        print(f"commands: {error}", file=sys.stderr)
        return 2
    difference = measured["largest_difference"]
    if not difference <= SAME:
        print(f"commands: figures differ by {difference:.2g}, so no times are compared", file=sys.stderr)
        return 1
    print_and_write("Whole commands", table(measured, plan), record(measured, plan, load), options.out, arguments)
    return 0


def measure(plan: CommandsPlan, root: Path) -> dict[str, Any]:
    """Run both commands in turns: seconds, and the largest difference of their figures."""
    from cosmos_core.world import World

    write_data(plan, root)
    write_weights(plan, root)
    arms = {"peer": partial(peer, plan, root), "ours": partial(ours, plan, root)}
    times = take_turns(arms, plan.repetitions, World())
    expected, figures = peer_figures(root), our_figures(root)
    difference = max(abs(value - expected[name]) for name, value in figures.items())
    return {"seconds": times.seconds, "figures": figures, "largest_difference": difference}


def write_data(plan: CommandsPlan, root: Path) -> None:
    """Write both datasets as shards of JPEG images of 500 by 375, and our definitions of them."""
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
    classification = root / CLASSIFICATION
    (classification / "classnames.txt").write_text("\n".join(class_names), encoding="utf-8")
    (classification / "zeroshot_classification_templates.txt").write_text("\n".join(templates), encoding="utf-8")
    (root / RETRIEVAL / "dataset_type.txt").write_text("retrieval")


def write_weights(plan: CommandsPlan, root: Path) -> None:
    """Write random weights to a file that both commands read."""
    import torch

    from benchmarks.random_model import random_model

    torch.save(random_model(plan.model).network.state_dict(), root / "random.pt")


def peer(plan: CommandsPlan, root: Path) -> None:
    """Run clip-benchmark's command on both datasets."""
    options = ["--dataset", f"wds/{CLASSIFICATION}", f"wds/{RETRIEVAL}", "--dataset_root", str(root / "{dataset}")]
    options += ["--model", plan.model, "--pretrained", str(root / "random.pt"), "--no_amp", "--recall_k", *map(str, K)]
    options += ["--num_workers", str(plan.workers), "--output", str(root / "peer-{dataset}.json")]
    run(["-c", "import sys; from clip_benchmark.cli import main; sys.exit(main())", "eval", *options])


def ours(plan: CommandsPlan, root: Path) -> None:
    """Run our command on both datasets, with a new output folder."""
    shutil.rmtree(root / "out", ignore_errors=True)
    options = ["--model", f"open_clip:{plan.model}/{root / 'random.pt'}#gelu", "--data-root", str(root)]
    for name in METRICS:
        options += ["--benchmark", str(root / f"{name}.yaml")]
    options += ["--device", plan.device, "--precision", "fp32", "--workers", str(plan.workers)]
    run(["-m", "cosmos_eval", "run", *options, "--out", str(root / "out")])


def run(arguments: list[str]) -> None:
    """Run a command of this Python as a process.

    Raises:
        RequestError: it fails; with the last line of its standard error.
    """
    process = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    if process.returncode:
        lines = process.stderr.strip().splitlines() or ["no error message"]
        raise RequestError(f"{' '.join(arguments)} ended with exit code {process.returncode}: {lines[-1]}")


def peer_figures(root: Path) -> dict[str, float]:
    """Read clip-benchmark's figures, under our names."""
    figures: dict[str, float] = {}
    for dataset, names in METRICS.items():
        metrics = json.loads((root / f"peer-{dataset}.json").read_text(encoding="utf-8"))["metrics"]
        figures |= {f"{dataset} {our_name}": metrics[name] for name, our_name in names.items()}
    return figures


def our_figures(root: Path) -> dict[str, float]:
    from cosmos_eval.results.store import read_results

    results = {result.benchmark.name: result for result in read_results(root / "out")}
    return {
        f"{dataset} {name}": results[dataset].metrics[name].value
        for dataset, names in METRICS.items()
        for name in names.values()
    }


def table(measured: dict[str, Any], plan: CommandsPlan) -> list[str]:
    """Return the lines of the Markdown text."""
    times = Times(measured["seconds"])
    return [
        f"{plan.classes * plan.per_class:,} images of {plan.classes} classes with {plan.classes * 80:,} prompts, and "
        f"{plan.pairs:,} images with {plan.pairs * 5:,} captions; {plan.model} in fp32 on {plan.device}, "
        f"{plan.workers} workers; medians, ratio with quartiles.",
        "",
        row(["", "`clip_benchmark eval`", "`cosmos-eval run`", "ratio"]),
        row(["---"] * 4),
        row(["seconds", *(f"{times.median(arm):.1f}" for arm in ARMS), ratio(times, "peer")]),
        "",
        f"Figures differ by at most {measured['largest_difference']:.1g}.",
    ]


def record(measured: dict[str, Any], plan: CommandsPlan, load: float) -> dict[str, Any]:
    """Return the record of the last line; `load` is the load average of the machine before the start."""
    times = Times(measured["seconds"])
    figures = {
        "classification_images": plan.classes * plan.per_class,
        "prompts": plan.classes * 80,
        "retrieval_images": plan.pairs,
        "peer_seconds": times.median("peer"),
        "ours_seconds": times.median("ours"),
        "ratio_quartiles": times.quartiles("peer", "ours"),
        "largest_difference": measured["largest_difference"],
    }
    return last_line(
        "commands", {"commands": times.ratio("peer", "ours")}, figures, plan.device, os.cpu_count() or 1, load
    )


if __name__ == "__main__":
    sys.exit(main())
