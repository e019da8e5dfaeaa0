"""Write toybox in the layouts of real datasets: COCO, Flickr30k (Karpathy), class folders, VOC and webdataset shards.

Each function fills one folder and returns the number of files it wrote. Images are PNG, so that decoded pixels equal
those of the in-memory benchmarks; with `jpeg` they are JPEG of quality 95, like those of the real datasets.
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
from cosmos_eval.datasets.toybox.captioning import captions, record
from cosmos_eval.datasets.toybox.drawing import instances, mask, render
from cosmos_eval.datasets.toybox.scenes import VERSION, Scene
from cosmos_eval.datasets.toybox.words import CLASSES, SHAPES

Advance = Callable[[int], None]
"""Called with the number of images written since the last call."""

SHARD_SIZE = 500
"""Samples in a tar."""

# The first colours of VOC's palette: bits 0, 1 and 2 of the label become the high bits of red, green and blue.
VOC_PALETTE = ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128))


class ImageWriter:
    """Renders scenes and encodes them as PNG or JPEG.

    `suffix` is the ending of file names; layouts that prescribe another ending use their own.
    """

    def __init__(self, size: int, jpeg: bool = False) -> None:
        self.size, self.jpeg, self.suffix = size, jpeg, ".jpg" if jpeg else ".png"

    def encode(self, scene: Scene) -> bytes:
        content = io.BytesIO()
        image = Image.fromarray(render(scene, self.size))
        if self.jpeg:
            image.save(content, "JPEG", quality=95)
        else:
            image.save(content, "PNG")
        return content.getvalue()

    def write(self, path: Path, scene: Scene) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.encode(scene))


def wnids() -> list[str]:
    """Return folder names like ImageNet's WordNet ids, in class order; ImageNet has none of them."""
    return [f"n{99000000 + label:08d}" for label in range(len(CLASSES))]


def write_coco(folder: Path, scenes: Sequence[Scene], writer: ImageWriter, advance: Advance) -> int:
    """Write `images/val2017`, `annotations/captions_val2017.json` and `instances_val2017.json`.

    Each complete description is a caption. Each object is an instance: its category is its shape (1 to 6), its mask is
    stored as compressed run lengths (RLE).
    """
    images: list[dict[str, Any]] = []
    caption_annotations: list[dict[str, Any]] = []
    instance_annotations: list[dict[str, Any]] = []
    for image_id, scene in enumerate(scenes, start=1):
        name = f"{image_id:012d}{writer.suffix}"
        writer.write(folder / "images" / "val2017" / name, scene)
        images.append({"id": image_id, "file_name": name, "width": writer.size, "height": writer.size})
        for text in captions(scene).full:
            caption_annotations.append({"id": len(caption_annotations) + 1, "image_id": image_id, "caption": text})
        for instance in _coco_instances(scene, writer.size):
            instance_annotations.append({"id": len(instance_annotations) + 1, "image_id": image_id, **instance})
        advance(1)
    info = {"description": "toybox", "version": str(VERSION)}
    shapes = [{"id": i, "name": shape, "supercategory": "shape"} for i, shape in enumerate(SHAPES, start=1)]
    annotations = folder / "annotations"
    _write_json(
        annotations / "captions_val2017.json", {"info": info, "images": images, "annotations": caption_annotations}
    )
    _write_json(
        annotations / "instances_val2017.json",
        {"info": info, "images": images, "annotations": instance_annotations, "categories": shapes},
    )
    return len(images) + 2


def _coco_instances(scene: Scene, size: int) -> Iterable[dict[str, Any]]:
    """Yield the annotation of every object, without `id` and `image_id`."""
    from pycocotools import mask as coco_mask

    label_map = instances(scene, size)
    for label, scene_object in enumerate(scene.objects, start=1):
        rle = coco_mask.encode(np.asfortranarray((label_map == label).astype(np.uint8)))
        yield {
            "category_id": 1 + SHAPES.index(scene_object.shape),
            "segmentation": {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")},
            "area": float(coco_mask.area(rle)),
            "bbox": [float(value) for value in coco_mask.toBbox(rle)],
            "iscrowd": 0,
        }


def write_karpathy(folder: Path, splits: dict[str, Sequence[Scene]], writer: ImageWriter, advance: Advance) -> int:
    """Write `images/*` and `dataset_flickr30k.json`: the scenes of each split with their complete descriptions."""
    images: list[dict[str, Any]] = []
    sentence_count = 0
    for split, scenes in splits.items():
        for scene in scenes:
            name = f"{scene.key}{writer.suffix}"
            writer.write(folder / "images" / name, scene)
            image_id = len(images)
            sentences = []
            for text in captions(scene).full:
                tokens = text.replace(",", "").split()
                sentences.append({"raw": text, "tokens": tokens, "imgid": image_id, "sentid": sentence_count})
                sentence_count += 1
            ids = [sentence["sentid"] for sentence in sentences]
            images.append({"filename": name, "imgid": image_id, "split": split, "sentids": ids, "sentences": sentences})
            advance(1)
    _write_json(folder / "dataset_flickr30k.json", {"dataset": "flickr30k", "images": images})
    return len(images) + 1


def write_class_folders(
    folder: Path, labelled: Sequence[tuple[int, Scene]], writer: ImageWriter, advance: Advance
) -> int:
    """Write `val/<wnid>/*`, a folder for each class, and `classnames.txt`, one class name per line in the same order.

    Args:
        labelled: (label, scene) of each image.
    """
    names = wnids()
    suffix = ".JPEG" if writer.jpeg else ".png"
    for number, (label, scene) in enumerate(labelled):
        writer.write(folder / "val" / names[label] / f"{names[label]}_{number:08d}{suffix}", scene)
        advance(1)
    (folder / "classnames.txt").write_text("".join(f"{name}\n" for name in CLASSES), encoding="utf-8")
    return len(labelled) + 1


def write_voc(folder: Path, scenes: Sequence[Scene], writer: ImageWriter, advance: Advance) -> int:
    """Write VOC2012's `JPEGImages`, palette PNGs in `SegmentationClass` and `SegmentationObject`, the list of names.

    Class 0 is the background, 1 to 6 are the shapes; no pixel is void. Image files are named .jpg, as readers of VOC
    expect; without `jpeg` they contain PNG data, which image libraries detect from the content.
    """
    root = folder / "VOC2012"
    names = []
    for number, scene in enumerate(scenes, start=1):
        name = f"2012_{number:06d}"
        writer.write(root / "JPEGImages" / f"{name}.jpg", scene)
        _write_palette_png(root / "SegmentationClass" / f"{name}.png", mask(scene, writer.size))
        _write_palette_png(root / "SegmentationObject" / f"{name}.png", instances(scene, writer.size))
        names.append(name)
        advance(1)
    sets = root / "ImageSets" / "Segmentation"
    sets.mkdir(parents=True)
    (sets / "val.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    return 3 * len(names) + 1


def _write_palette_png(path: Path, label_map: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(label_map).convert("P")
    image.putpalette([value for colour in VOC_PALETTE for value in colour])
    image.save(path)


def write_shards(folder: Path, scenes: Sequence[Scene], writer: ImageWriter, advance: Advance) -> int:
    """Write `train-0000.tar` and so on: for each scene `<key>.png` (or .jpg) and `<key>.json`, its DreamLIP record."""
    folder.mkdir(parents=True)
    shards = [scenes[start : start + SHARD_SIZE] for start in range(0, len(scenes), SHARD_SIZE)]
    for number, shard in enumerate(shards):
        with tarfile.open(folder / f"train-{number:04d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for scene in shard:
                add_member(tar, scene.key + writer.suffix, writer.encode(scene))
                add_member(tar, f"{scene.key}.json", json.dumps(record(scene)).encode())
                advance(1)
    return len(shards)


def _write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
