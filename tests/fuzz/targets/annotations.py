"""Annotations of every reader of captions, labels and pairs."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cosmos_eval import datasets
from cosmos_eval.protocol.benchmark import Benchmark
from tests.datasets.test_datasets_captions import karpathy
from tests.datasets.test_datasets_webdataset import make_image, write_tar
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
    "multilabel": [
        {"image": "a.jpg", "labels": ["dog", 0], "undecided": ["cow"]},
        {"image": "b.png", "labels": []},
    ],
    "multiple-choice": [
        {"image": "a.jpg", "captions": ["a dog", "a cat"], "answer": 0, "subset": "x"},
        {"images": ["a.jpg", "b.png"], "caption": "a cow", "answer": [1], "subset": "y"},
    ],
}
IN_TABLES = ("retrieval", "classification", "perception")
"""Tasks whose data may be Parquet files."""
CLASS_NAMES = {"jsonl-classification": ["cat", "dog"], "jsonl-multilabel": ["cat", "dog", "cow"]}


def loaded(benchmark: Benchmark, root: Path) -> Any:
    """What decides a number: the fingerprint of what was read."""
    return datasets.load(benchmark, root).fingerprint


def _of(make: Callable[[Path], tuple[dict[str, Any], list[Path]]], task: str, name: str) -> Target:
    """A target of a user's own definition."""
    prompts = {**PROMPTS, "class_names": CLASS_NAMES[name]} if name in CLASS_NAMES else PROMPTS
    prompts = prompts if task in ("classification", "multilabel") else None

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


def _distractors(folder: Path) -> tuple[dict[str, Any], list[Path]]:
    rows = [
        {"images": ["a.jpg", "b.png"], "captions": ["both"]},
        {"image": "a.jpg", "captions": []},
        {"images": [], "captions": ["none"]},
    ]
    (folder / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for i, name in enumerate(("a.jpg", "b.png")):
        write_image(folder / name, seed=i)
    return {"reader": "jsonl", "path": "mine.jsonl", "distractors": "allow"}, [folder / "mine.jsonl"]


def _hf_dataset(folder: Path) -> tuple[dict[str, Any], list[Path]]:
    """Two shards with class names in the features of `datasets`."""
    options = {"reader": "hf-dataset", "repository": "somebody/pets", "revision": "0123456789abcdef" * 2 + "01234567"}
    paths = [
        write_table(
            folder / "hf/somebody--pets" / options["revision"] / f"data/test-{i:05d}-of-00002.parquet",
            {"image": structs(3, 3 * i), "label": [0, 1, 0]},
            group=2,
            class_names=["cat", "dog"],
        )
        for i in range(2)
    ]
    return options, paths


def _label_rows(folder: Path) -> tuple[dict[str, Any], list[Path]]:
    """Shards of clip-benchmark with a numpy row of labels for each image."""
    members: dict[str, bytes] = {}
    for i, row in enumerate(([1, 0, 1], [0, 0, -1])):
        stream = io.BytesIO()
        np.save(stream, np.array(row, dtype=np.int8))
        members |= {f"s{i}.png": make_image(i), f"s{i}.npy": stream.getvalue()}
    (folder / "pets/test").mkdir(parents=True)
    write_tar(folder / "pets/test/0.tar", list(members.items()))
    (folder / "pets/test/nshards.txt").write_text("1")
    (folder / "pets/classnames.txt").write_text("cat\ndog\ncow\n")
    return {"reader": "wds", "path": "pets"}, [
        folder / "pets" / name for name in ("test/0.tar", "classnames.txt", "test/nshards.txt")
    ]


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
    _of(_distractors, "retrieval", "jsonl-distractors"),
    *(_of(_parquet(task), task, f"parquet-{task}") for task in IN_TABLES),
    _of(_hf_dataset, "classification", "hf-dataset"),
    _of(_label_rows, "multilabel", "label-rows"),
    *(_perception(name) for name in perception_on_disk.NAMES),
]
