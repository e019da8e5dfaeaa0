"""Annotations of every reader of captions, labels and pairs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cosmos_eval import datasets
from cosmos_eval.protocol.benchmark import Benchmark
from tests.datasets.test_datasets_captions import karpathy
from tests.fuzz.running import Target
from tests.helpers import perception_on_disk
from tests.helpers.datasets_on_disk import COCO, coco_files, define, write_image, write_json
from tests.helpers.tables_on_disk import structs, write_table

PROMPTS = {"templates": ["a {c}"]}
ROWS = {
    "retrieval": [{"image": "a.jpg", "captions": ["one", "two"]}, {"image": "b.png", "captions": ["three"]}],
    "classification": [{"image": "a.jpg", "label": "dog"}, {"image": "b.png", "label": 0}],
    "perception": [
        {"image": "a.jpg", "positive": "right", "negative": "wrong", "subset": "x"},
        {"image": "b.png", "positive": "up", "negative": "down"},
    ],
}


def loaded(benchmark: Benchmark, root: Path) -> Any:
    """What decides a number: the fingerprint of what was read."""
    return datasets.load(benchmark, root).fingerprint


def _of(make: Callable[[Path], tuple[dict[str, Any], list[Path]]], task: str, name: str) -> Target:
    """A target of a user's own definition."""
    prompts = {**PROMPTS, "class_names": ["cat", "dog"]} if name == "jsonl-classification" else PROMPTS
    prompts = prompts if task == "classification" else None

    def written(folder: Path) -> list[Path]:
        dataset, paths = make(folder)
        write_json(folder / "dataset.options", dataset)
        return paths

    def load(folder: Path) -> Any:
        dataset = json.loads((folder / "dataset.options").read_text(encoding="utf-8"))
        return loaded(define(folder, task, dataset, prompts), folder)

    return Target(name, written, load, weight=2)


def _coco(folder: Path) -> tuple[dict[str, Any], list[Path]]:
    coco_files(folder)
    return COCO, [folder / COCO["annotations"]]


def _karpathy(folder: Path) -> tuple[dict[str, Any], list[Path]]:
    return karpathy(folder), [folder / "dataset.json"]


def _jsonl(task: str) -> Callable[[Path], tuple[dict[str, Any], list[Path]]]:
    def make(folder: Path) -> tuple[dict[str, Any], list[Path]]:
        lines = "".join(json.dumps(row) + "\n" for row in ROWS[task])
        (folder / "mine.jsonl").write_text(lines, encoding="utf-8")
        for i, name in enumerate(("a.jpg", "b.png")):
            write_image(folder / name, seed=i)
        return {"reader": "jsonl", "path": "mine.jsonl"}, [folder / "mine.jsonl"]

    return make


def _perception(name: str) -> Target:
    def make(folder: Path) -> list[Path]:
        perception_on_disk.WRITE[name](folder)
        endings = (".json", ".jsonl", ".csv", ".txt")
        return sorted(path for path in folder.rglob("*") if path.suffix in endings)

    return Target(name, make, lambda folder: loaded(perception_on_disk.small(name), folder), weight=2)


def _parquet(task: str) -> Callable[[Path], tuple[dict[str, Any], list[Path]]]:
    """Images in bytes, and what each task needs; Parquet has no checksums, so that other values may be read."""
    columns: dict[str, Any] = {
        "retrieval": {"caption": [["one", "two"], ["three"], ["four"]]},
        "classification": {"label": ["cat", "dog", "cat"]},
        "perception": {"caption": ["a", "b", "c"], "negative": [["d"], ["e"], ["f"]]},
    }[task]

    def make(folder: Path) -> tuple[dict[str, Any], list[Path]]:
        path = write_table(folder / "mine.parquet", {"image": structs(3), **columns}, group=2)
        return {"reader": "parquet", "path": "mine.parquet"}, [path]

    return make


TARGETS = [
    _of(_coco, "retrieval", "coco-captions"),
    _of(_karpathy, "retrieval", "karpathy"),
    *(_of(_jsonl(task), task, f"jsonl-{task}") for task in ROWS),
    *(_of(_parquet(task), task, f"parquet-{task}") for task in ROWS),
    *(_perception(name) for name in perception_on_disk.NAMES),
]
