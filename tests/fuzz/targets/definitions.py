"""Definitions of benchmarks, with class names and templates in files beside them."""

import json
from pathlib import Path

from cosmos_eval.protocol.benchmark import load_benchmark, read_suite
from tests.fuzz.running import Target

PETS = """name: pets
version: 1
task: classification
dataset: {reader: image-folder, path: pets, expected: {images: 4, classes: 2}}
prompts: {class_names: names.txt, templates: templates.json}
metrics: {primary: top1}
source: own
published:
  - {why: another crop, points: 0.5}
"""
BASED = "base: cityscapes\nname: mine\nversion: 2\nsegmentation: {short_side: 448}\n"
RETRIEVAL = """name: d
version: 1
task: retrieval
dataset:
  reader: jsonl
  path: &path d.jsonl
metrics: {primary: "text_to_image_recall@1", k: [1, 5]}
summary: 'own'
"""


SUITE = """summary: "our sets"
benchmarks: [pets.yaml, cifar10, retrieval]
averages:
  - {name: both, metric: top1, benchmarks: [pets, cifar10]}
"""


def _make_suite(folder: Path) -> list[Path]:
    made = _make(folder)
    (folder / "ours.yaml").write_text(SUITE, encoding="utf-8")
    return [folder / "ours.yaml", *made[:3]]


def _load_suite(folder: Path) -> object:
    suite = read_suite(folder / "ours.yaml")
    return suite.name, suite.summary, suite.averages, [benchmark.fingerprint for benchmark in suite.benchmarks]


def _make(folder: Path) -> list[Path]:
    contents = {
        "pets.yaml": PETS, "based.yaml": BASED, "retrieval.yaml": RETRIEVAL, "names.txt": "cat\ndog\n",
        "templates.json": json.dumps(["a photo of a {c}.", "a {c}"]),
    }  # fmt: skip
    for name, content in contents.items():
        (folder / name).write_text(content, encoding="utf-8")
    return [folder / name for name in contents]


def _load(folder: Path) -> list[str]:
    return [load_benchmark(folder / f"{name}.yaml").fingerprint for name in ("pets", "retrieval", "based")]


TARGETS = [
    Target("definitions", _make, _load, weight=4),
    Target("own-suites", _make_suite, _load_suite, weight=2),
]
