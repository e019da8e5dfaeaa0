"""Small datasets in their true formats, made by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from cosmos_eval.protocol.benchmark import Benchmark, load_benchmark


def write_image(path: Path, seed: int = 0, size: int = 8) -> Path:
    """An image of noise; its ending decides the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def replace_content(path: Path, content: Any) -> None:
    """Replace a file's content by a text, or by a value as JSON; None removes the file."""
    assert path.is_file()
    if content is None:
        path.unlink()
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def define(folder: Path, task: str, dataset: dict[str, Any], prompts: dict[str, Any] | None = None) -> Benchmark:
    """A user's own definition beside the data."""
    primary = {
        "retrieval": "text_to_image_recall@1",
        "classification": "top1",
        "perception": "accuracy",
        "multilabel": "mean_average_precision",
        "multiple-choice": "accuracy",
    }[task]
    value: dict[str, Any] = {"name": "mine", "version": 1, "task": task, "dataset": dataset}
    value["metrics"] = {"primary": primary}
    if prompts:
        value["prompts"] = prompts
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(value, sort_keys=False), encoding="utf-8")
    return load_benchmark(path)


def coco_files(root: Path) -> dict[str, Any]:
    """Two images, the later id with the earlier name, with two and three captions in mixed order."""
    content = {
        "images": [{"id": 7, "file_name": "000000000007.jpg"}, {"id": 3, "file_name": "000000000003.jpg"}],
        "annotations": [
            {"id": 12, "image_id": 7, "caption": "a dog "},
            {"id": 11, "image_id": 3, "caption": "two cats"},
            {"id": 10, "image_id": 7, "caption": "A dog runs."},
            {"id": 9, "image_id": 3, "caption": "cats"},
            {"id": 8, "image_id": 3, "caption": " cats on a mat"},
        ],
    }
    write_json(root / "coco/annotations/captions_val2017.json", content)
    for i, image in enumerate(content["images"]):
        write_image(root / "coco/images/val2017" / str(image["file_name"]), seed=i)
    return content


COCO = {
    "reader": "coco-captions",
    "images": "coco/images/val2017",
    "annotations": "coco/annotations/captions_val2017.json",
}
