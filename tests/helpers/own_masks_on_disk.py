"""Write images and masks in the formats of the reader `masks`, and a definition beside them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image
from pycocotools import mask as coco_mask

from cosmos_eval.datasets.data import SegmentationData

FORMATS = ("index", "index-16", "palette", "rgb", "coco")


def write_definition(folder: Path, name: str, words: Any, dataset: dict[str, Any], **changes: Any) -> Path:
    """Write `NAME.yaml` with the reader `masks`; return its path."""
    definition = {
        "name": name,
        "version": 1,
        "task": "segmentation",
        "dataset": {"reader": "masks", "images": "images", **dataset},
        "prompts": {"templates": ["{c}"], "words": words},
        "metrics": {"primary": "miou"},
        **changes,
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(definition, sort_keys=False))
    return path


def write_images(folder: Path, data: SegmentationData) -> list[str]:
    """Write the images as PNG; return their file names."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    names = [f"{number:04d}.png" for number in range(len(data.images))]
    for image, name in zip(data.images, names, strict=True):
        image.load().save(folder / "images" / name)
    return names


def write_masks(folder: Path, data: SegmentationData, form: str) -> dict[str, Any]:
    """Write the masks in one of the `FORMATS`; return the options of the reader that they need."""
    names = write_images(folder, data)
    if form == "coco":
        return write_coco(folder, data, names)
    masks = folder / form
    masks.mkdir()
    for mask, name in zip(data.masks, names, strict=True):
        write_mask(masks / name, mask.load().astype(np.uint8), form, data.palette)
    options: dict[str, Any] = {"masks": form, "class_names": list(data.class_names)}
    if form == "rgb":
        rgb = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in data.palette]
        options["colours"] = dict(zip(rgb, data.class_names, strict=True))
    return options


def write_mask(path: Path, labels: np.ndarray, form: str, palette: Sequence[tuple[int, int, int]]) -> None:
    """Write one mask as class indices of 8 or 16 bits, as a palette PNG, or as colours."""
    if form == "rgb":
        image = Image.fromarray(np.array(palette, dtype=np.uint8)[labels])
    elif form == "index-16":
        image = Image.fromarray(labels.astype(np.uint16))
    else:
        image = Image.fromarray(labels)
        if form == "palette":
            image.putpalette([channel for colour in palette for channel in colour])
    image.save(path)


def write_coco(folder: Path, data: SegmentationData, names: Sequence[str]) -> dict[str, Any]:
    """Write the masks as COCO's JSON: polygons, compressed and plain run lengths in turn; class 0 is not annotated."""
    annotations = []
    for image_id, mask in enumerate(data.masks):
        labels = mask.load()
        for label in sorted(set(labels.ravel().tolist()) - {0}):
            region = labels == label
            shape = (polygons_of, compressed_runs_of, plain_runs_of)[len(annotations) % 3](region)
            annotations.append(
                {"id": len(annotations), "image_id": image_id, "category_id": 10 + label, "segmentation": shape}
            )
    content = {
        "images": [
            {"id": i, "file_name": name, "width": mask.load().shape[1], "height": mask.load().shape[0]}
            for i, (name, mask) in enumerate(zip(names, data.masks, strict=True))
        ],
        "categories": [{"id": 10 + i, "name": name} for i, name in enumerate(data.class_names) if i],
        "annotations": annotations,
    }
    (folder / "instances.json").write_text(json.dumps(content))
    return {"masks": "instances.json", "background": data.class_names[0]}


def polygons_of(region: np.ndarray) -> list[list[int]]:
    """Return a rectangle for each horizontal run of a region (H, W): pycocotools draws these exactly."""
    polygons = []
    for y, row in enumerate(region):
        steps = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(int), [0]])))
        for left, right in zip(steps[::2].tolist(), steps[1::2].tolist(), strict=True):
            polygons.append([left, y, right, y, right, y + 1, left, y + 1])
    return polygons


def compressed_runs_of(region: np.ndarray) -> dict[str, Any]:
    runs = coco_mask.encode(np.asfortranarray(region.astype(np.uint8)))
    return {"size": list(region.shape), "counts": runs["counts"].decode("ascii")}


def plain_runs_of(region: np.ndarray) -> dict[str, Any]:
    flat = region.T.ravel().astype(int)  # in columns
    borders = np.flatnonzero(np.diff(np.concatenate([[0], flat])))
    counts = np.diff(np.concatenate([[0], borders, [flat.size]]))
    return {"size": list(region.shape), "counts": counts.tolist()}
