"""toybox in the layouts of real datasets: COCO, Flickr30k (Karpathy), class folders, VOC and webdataset shards.

Each writer fills one folder and returns how many files it wrote. Images are PNG, so that what a reader decodes equals
the images in memory; with `jpeg` they are JPEG of quality 95, as the real sets are.
"""

import io
import json
import tarfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cosmos_core.files import add_member
from cosmos_eval.datasets.toybox.drawing import instances, mask, render
from cosmos_eval.datasets.toybox.scenes import VERSION, Scene
from cosmos_eval.datasets.toybox.sentences import captions, record
from cosmos_eval.datasets.toybox.words import CLASSES, SHAPES

Advance = Callable[[int], None]

SHARD = 500
"""Samples in a tar."""

# The first colours of VOC's palette (the bits of an index spread over the high bits of red, green and blue).
VOC_PALETTE = ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128))


class ImageWriter:
    """Encodes images; `suffix` is what a layout that leaves it open calls them."""

    def __init__(self, size: int, jpeg: bool = False) -> None:
        self.size, self.jpeg, self.suffix = size, jpeg, ".jpg" if jpeg else ".png"

    def encoded(self, scene: Scene) -> bytes:
        content = io.BytesIO()
        image = Image.fromarray(render(scene, self.size))
        if self.jpeg:
            image.save(content, "JPEG", quality=95)
        else:
            image.save(content, "PNG")
        return content.getvalue()

    def write(self, path: Path, scene: Scene) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.encoded(scene))


def wnids() -> list[str]:
    """Folder names in the form of ImageNet's, in class order; none of them is one of ImageNet's."""
    return [f"n{99000000 + label:08d}" for label in range(len(CLASSES))]


def write_coco(folder: Path, scenes: Sequence[Scene], writer: ImageWriter, done: Advance) -> int:
    """`images/val2017`, `annotations/captions_val2017.json` and `instances_val2017.json`.

    A caption row for each complete description; an instance for each object, its category the shape (1 to 6), its mask
    as compressed run lengths.
    """
    images: list[dict[str, Any]] = []
    said: list[dict[str, Any]] = []
    seen: list[dict[str, Any]] = []
    for image_id, scene in enumerate(scenes, start=1):
        name = f"{image_id:012d}{writer.suffix}"
        writer.write(folder / "images" / "val2017" / name, scene)
        images.append({"id": image_id, "file_name": name, "width": writer.size, "height": writer.size})
        for text in captions(scene).full:
            said.append({"id": len(said) + 1, "image_id": image_id, "caption": text})
        for row in _coco_instances(scene, writer.size):
            seen.append({"id": len(seen) + 1, "image_id": image_id, **row})
        done(1)
    info = {"description": "toybox", "version": str(VERSION)}
    shapes = [{"id": i, "name": shape, "supercategory": "shape"} for i, shape in enumerate(SHAPES, start=1)]
    annotations = folder / "annotations"
    _write_json(annotations / "captions_val2017.json", {"info": info, "images": images, "annotations": said})
    _write_json(
        annotations / "instances_val2017.json",
        {"info": info, "images": images, "annotations": seen, "categories": shapes},
    )
    return len(images) + 2


def _coco_instances(scene: Scene, size: int) -> Iterable[dict[str, Any]]:
    from pycocotools import mask as run_lengths

    index = instances(scene, size)
    for number, thing in enumerate(scene.objects, start=1):
        encoded = run_lengths.encode(np.asfortranarray((index == number).astype(np.uint8)))
        yield {
            "category_id": 1 + SHAPES.index(thing.shape),
            "segmentation": {"size": list(encoded["size"]), "counts": encoded["counts"].decode("ascii")},
            "area": float(run_lengths.area(encoded)),
            "bbox": [float(value) for value in run_lengths.toBbox(encoded)],
            "iscrowd": 0,
        }


def write_karpathy(folder: Path, splits: dict[str, Sequence[Scene]], writer: ImageWriter, done: Advance) -> int:
    """`images/*` and `dataset_flickr30k.json`, the scenes of each split with their complete descriptions."""
    rows: list[dict[str, Any]] = []
    sentences = 0
    for split, scenes in splits.items():
        for scene in scenes:
            name = f"{scene.key}{writer.suffix}"
            writer.write(folder / "images" / name, scene)
            said = [
                {"raw": text, "tokens": text.replace(",", "").split(), "imgid": len(rows), "sentid": sentences + i}
                for i, text in enumerate(captions(scene).full)
            ]
            sentences += len(said)
            ids = [sentence["sentid"] for sentence in said]
            rows.append({"filename": name, "imgid": len(rows), "split": split, "sentids": ids, "sentences": said})
            done(1)
    _write_json(folder / "dataset_flickr30k.json", {"dataset": "flickr30k", "images": rows})
    return len(rows) + 1


def write_class_folders(folder: Path, labelled: Sequence[tuple[int, Scene]], writer: ImageWriter, done: Advance) -> int:
    """`val/<wnid>/*` with wnids in class order, and `classnames.txt`, a class name a line in that order."""
    names = wnids()
    suffix = ".JPEG" if writer.jpeg else ".png"
    for number, (label, scene) in enumerate(labelled):
        writer.write(folder / "val" / names[label] / f"{names[label]}_{number:08d}{suffix}", scene)
        done(1)
    (folder / "classnames.txt").write_text("".join(f"{name}\n" for name in CLASSES), encoding="utf-8")
    return len(labelled) + 1


def write_voc(folder: Path, scenes: Sequence[Scene], writer: ImageWriter, done: Advance) -> int:
    """VOC2012's `JPEGImages`, palette PNGs in `SegmentationClass` and `SegmentationObject`, and its list of names.

    Class 0 is the background, 1 to 6 the shapes; no pixel is void. The images are called .jpg as readers of VOC
    expect; without `jpeg` they hold PNG, which readers tell by the content.
    """
    root = folder / "VOC2012"
    names = []
    for number, scene in enumerate(scenes, start=1):
        name = f"2012_{number:06d}"
        writer.write(root / "JPEGImages" / f"{name}.jpg", scene)
        _write_palette(root / "SegmentationClass" / f"{name}.png", mask(scene, writer.size))
        _write_palette(root / "SegmentationObject" / f"{name}.png", instances(scene, writer.size))
        names.append(name)
        done(1)
    sets = root / "ImageSets" / "Segmentation"
    sets.mkdir(parents=True)
    (sets / "val.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    return 3 * len(names) + 1


def _write_palette(path: Path, index: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(index).convert("P")
    image.putpalette([value for colour in VOC_PALETTE for value in colour])
    image.save(path)


def write_shards(folder: Path, scenes: Sequence[Scene], writer: ImageWriter, done: Advance) -> int:
    """`train-0000.tar` and so on: for every scene `<key>.png` and `<key>.json`, its DreamLIP record."""
    folder.mkdir(parents=True)
    shards = [scenes[at : at + SHARD] for at in range(0, len(scenes), SHARD)]
    for number, shard in enumerate(shards):
        with tarfile.open(folder / f"train-{number:04d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for scene in shard:
                add_member(tar, scene.key + writer.suffix, writer.encoded(scene))
                add_member(tar, f"{scene.key}.json", json.dumps(record(scene)).encode())
                done(1)
    return len(shards)


def _write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
