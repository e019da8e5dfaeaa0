"""A user's own segmentation data: masks in colours and indices, COCO's JSON, lists, words, and definitions of these."""

from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat

from cosmos_eval import datasets
from cosmos_eval.datasets.data import SegmentationData
from cosmos_eval.datasets.image_sources import ArrayImage
from cosmos_eval.datasets.imagenet_devkit import read_meta
from cosmos_eval.datasets.masks import ArrayMask
from cosmos_eval.protocol.benchmark import load_benchmark
from tests.fuzz.running import Target
from tests.helpers.own_masks_on_disk import write_definition, write_masks

NAMES = ("floor", "table", "cup")
PALETTE = ((0, 0, 0), (200, 0, 0), (0, 200, 0))


def _data() -> SegmentationData:
    rng = np.random.default_rng(0)
    labels = [rng.integers(0, 3, (6, 9), dtype=np.uint8) for _ in range(2)]
    images = [ArrayImage(f"{i}", rng.integers(0, 256, (6, 9, 3), dtype=np.uint8)) for i in range(2)]
    masks = [ArrayMask(f"{i}", label) for i, label in enumerate(labels)]
    return SegmentationData(images, masks, NAMES, PALETTE)


def _make_masks(folder: Path) -> list[Path]:
    data = _data()
    for form in ("rgb", "index-16", "palette", "coco"):
        options = {**write_masks(folder, data, form), "list": "list.txt"}
        write_definition(folder, form, "words.txt", options)
    (folder / "words.txt").write_text("floor\ntable, desk\ncup, mug\n")
    (folder / "list.txt").write_text("0000\n0001.png\n")
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and path.parent.name != "images"]


def _load_masks(folder: Path) -> Any:
    loaded = []
    for form in ("rgb", "index-16", "palette", "coco"):
        data: Any = datasets.load(load_benchmark(folder / f"{form}.yaml"))
        loaded.append((data.fingerprint, [mask.load().tobytes() for mask in data.masks]))
    return loaded


def _make_meta(folder: Path) -> list[Path]:
    fields = [(name, object) for name in ("ILSVRC2012_ID", "WNID", "words", "num_children")]
    rows = [(i, f"n{i:08d}", f"thing {i}", int(i > 5)) for i in range(1, 8)]
    savemat(folder / "meta.mat", {"synsets": np.array(rows, dtype=fields)})
    return [folder / "meta.mat"]


def _load_meta(folder: Path) -> Any:
    return read_meta(folder / "meta.mat")


TARGETS = [
    Target("own-masks", _make_masks, _load_masks, weight=4, quick=20),
    Target("imagenet-devkit", _make_meta, _load_meta),
]
