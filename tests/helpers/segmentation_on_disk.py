"""Write the eight segmentation datasets in their published formats, with a few small images each."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cosmos_eval import datasets
from cosmos_eval.datasets.data import SegmentationData
from cosmos_eval.protocol.benchmark import Benchmark, load_benchmark

NAMES = ("voc21", "voc20", "context60", "context59", "coco-object", "coco-stuff164k", "ade20k", "cityscapes")
SIZES = ((40, 56), (56, 40), (33, 47))
"""Height and width of each image: landscape, portrait, and odd numbers."""
RAW: dict[str, tuple[int, ...]] = {
    "voc21": (0, 1, 15, 20, 255),
    "voc20": (0, 1, 15, 20, 255),
    "context60": (0, 1, 37, 59, 255),
    "context59": (0, 1, 37, 59, 255),
    "coco-object": (0, 1, 40, 80),
    "coco-stuff164k": (0, 79, 80, 170, 255),
    "ade20k": (0, 1, 75, 150),
    "cityscapes": (0, 9, 18, 255),
}
"""Labels as they are in the files."""
FOLDERS = {
    "voc21": "VOCdevkit/VOC2012",
    "voc20": "VOCdevkit/VOC2012",
    "context60": "VOCdevkit/VOC2010",
    "context59": "VOCdevkit/VOC2010",
    "coco-object": "coco_object",
    "coco-stuff164k": "coco_stuff164k",
    "ade20k": "ADEChallengeData2016",
    "cityscapes": "cityscapes",
}


def raw_labels(name: str, number: int) -> np.ndarray:
    """Return the labels (H, W) uint8 in the mask file of image `number`: a vertical band of each label in `RAW`."""
    height, width = SIZES[number % len(SIZES)]
    bands = np.arange(width) * len(RAW[name]) // width
    return np.repeat(np.array(RAW[name], dtype=np.uint8)[bands][None], height, axis=0)


def files_of(name: str, number: int) -> tuple[str, str]:
    """Return the paths of an image and its mask below the dataset's folder."""
    if name in ("voc21", "voc20"):
        return f"JPEGImages/2007_{number:06d}.jpg", f"SegmentationClass/2007_{number:06d}.png"
    if name in ("context60", "context59"):
        return f"JPEGImages/2008_{number:06d}.jpg", f"SegmentationClassContext/2008_{number:06d}.png"
    if name == "ade20k":
        stem = f"ADE_val_{number + 1:08d}"
        return f"images/validation/{stem}.jpg", f"annotations/validation/{stem}.png"
    if name == "cityscapes":
        town = ("frankfurt", "lindau", "munster")[number % 3]
        stem = f"{town}/{town}_{number:06d}_000019"
        return f"leftImg8bit/val/{stem}_leftImg8bit.png", f"gtFine/val/{stem}_gtFine_labelTrainIds.png"
    ending = "_labelTrainIds" if name == "coco-stuff164k" else "_instanceTrainIds"
    return f"images/val2017/{number + 139:012d}.jpg", f"annotations/val2017/{number + 139:012d}{ending}.png"


def write_segmentation(data_root: Path, name: str, count: int = 3) -> Path:
    """Write the dataset of a benchmark; return its folder. Masks of VOC are palette PNGs, other masks are grey."""
    root = data_root / FOLDERS[name]
    stems = []
    for number in range(count):
        image, mask = (root / path for path in files_of(name, number))
        write_pixels(image, SIZES[number % len(SIZES)], seed=number)
        write_labels(mask, raw_labels(name, number), palette=name.startswith(("voc", "context")))
        stems.append(image.stem)
    sets = {"voc": "Segmentation", "con": "SegmentationContext"}.get(name[:3])
    if sets:
        list_path = root / "ImageSets" / sets / "val.txt"
        list_path.parent.mkdir(parents=True, exist_ok=True)
        # not in alphabetical order, so that tests see that the order of the list is kept
        list_path.write_text("".join(f"{stem}\n" for stem in reversed(stems)), encoding="utf-8")
    return root


def write_pixels(path: Path, size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Write an image of coarse noise of (height, width); return its pixels before compression."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    pixels = Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BILINEAR)
    pixels.save(path)
    return np.asarray(pixels)


def write_labels(path: Path, labels: np.ndarray, palette: bool = False) -> Path:
    """Write a mask as an 8-bit PNG, with a palette like VOC's if `palette`; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels.astype(np.uint8))
    if palette:
        image = image.convert("P")
        image.putpalette([value for index in range(256) for value in (index, 255 - index, index // 2)])
    image.save(path)
    return path


def small(name: str, images: int = 3, **dataset: Any) -> Benchmark:
    """Return the shipped definition with another expected number of images and other options."""
    benchmark = load_benchmark(name)
    expected = {**benchmark.dataset["expected"], "images": images}
    return replace(benchmark, dataset={**benchmark.dataset, "expected": expected, **dataset})


def read(name: str, root: Path, **dataset) -> SegmentationData:
    data = datasets.read(small(name, **dataset), root)
    assert isinstance(data, SegmentationData)
    return data


def problems(name: str, root: Path, deep: bool = False, **dataset) -> tuple[str, ...]:
    messages = datasets.check(small(name, **dataset), root, deep=deep).problems
    assert all("\n" not in message for message in messages)
    return messages
