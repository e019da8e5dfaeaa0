"""Small data sets in true on-disk formats, with the definitions that read them."""

import json
from pathlib import Path

import numpy as np
import yaml
from PIL import Image


def make_image(path: Path, seed: int, size: tuple[int, int] = (24, 20)) -> None:
    """A small image of noise over one colour, as JPEG or PNG by its ending."""
    rng = np.random.default_rng(seed)
    pixels = np.clip(rng.integers(0, 200, 3) + rng.integers(0, 40, (size[1], size[0], 3)), 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def captions_world(root: Path, name: str = "pairs", n: int = 6, expected: int | None = None) -> Path:
    """COCO's layout: n images with two captions each; returns the definition's path."""
    names = [f"{i:012d}.jpg" for i in range(n)]
    for i, file in enumerate(names):
        make_image(root / name / "images" / file, seed=i)
    annotations = {
        "images": [{"id": i, "file_name": file} for i, file in enumerate(names)],
        "annotations": [
            {"id": 2 * i + j, "image_id": i, "caption": f"{name} image {i}, caption {j}"}
            for i in range(n)
            for j in range(2)
        ],
    }
    (root / name / "captions.json").write_text(json.dumps(annotations))
    return definition(
        root,
        name,
        task="retrieval",
        dataset={
            "reader": "coco-captions",
            "images": f"{name}/images",
            "annotations": f"{name}/captions.json",
            "expected": {"images": expected or n, "texts": 2 * (expected or n)},
        },
        metrics={"primary": "text_to_image_recall@1", "k": [1, 5]},
    )


def classes_world(root: Path, name: str = "classes", classes: int = 3, per_class: int = 2) -> Path:
    """A folder a class; returns the definition's path."""
    for c in range(classes):
        for i in range(per_class):
            make_image(root / name / f"class{c}" / f"{i}.png", seed=100 * c + i)
    return definition(
        root,
        name,
        task="classification",
        dataset={
            "reader": "image-folder",
            "path": name,
            "expected": {"images": classes * per_class, "classes": classes},
        },
        prompts={"class_names": [f"thing {c}" for c in range(classes)], "templates": ["a photo of a {c}."]},
        metrics={"primary": "top1"},
    )


def definition(root: Path, name: str, **fields) -> Path:
    """Write a benchmark definition beside its data."""
    path = root / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"name": name, "version": 1, "source": "made by a test", **fields}, sort_keys=False))
    return path


def edit_json(path: Path, change) -> None:
    """Rewrite a JSON file through `change`."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
