"""Tar shards of evaluation and of training, and folders of resized images."""

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from cosmos_core.data.shards import LostSamples, entries
from cosmos_core.errors import RequestError
from cosmos_eval import datasets
from cosmos_eval.datasets.data import ClassificationData
from cosmos_eval.datasets.image_sources import ArrayImage
from cosmos_eval.datasets.resized import read_resized, write_resized
from cosmos_eval.models.preprocess import ImagePreprocess
from tests.datasets.test_datasets_webdataset import WDS, make_image, write_tar
from tests.datasets.test_datasets_webdataset import shards as evaluation_shards
from tests.fuzz.running import Target
from tests.helpers.datasets_on_disk import define


def _make(folder: Path) -> list[Path]:
    root = evaluation_shards(folder)
    return [*sorted(root.rglob("*.tar")), *sorted(root.rglob("*.txt"))]


def _load(folder: Path) -> Any:
    data = datasets.load(define(folder, "classification", WDS, {"templates": "dataset"}), folder)
    assert isinstance(data, ClassificationData)
    return data.fingerprint, [np.asarray(one.load()).tobytes() for one in data.images]


def _make_training(folder: Path) -> list[Path]:
    members = []
    for i in range(3):
        members.append((f"{i:04d}.png", make_image(i)))
        members.append((f"{i:04d}.json", json.dumps({"caption": f"a dog {i}", "raw_caption": ["x", "y"]}).encode()))
    members += [("0003.png", make_image(3)), ("0003.txt", "größer".encode())]
    write_tar(folder / "train-0.tar", members)
    (folder / "train-1.tar.gz").write_bytes(gzip.compress((folder / "train-0.tar").read_bytes(), mtime=0))
    return [folder / "train-0.tar", folder / "train-1.tar.gz"]


def _load_training(folder: Path) -> Any:
    """Samples by key: broken ones and lost ones are counted by the training, and end it above a share."""
    found = []
    for name in ("train-0.tar", "train-1.tar.gz"):
        for entry in entries(str(folder / name), name):
            if isinstance(entry, LostSamples):
                found.append(("lost", entry.samples))
                continue
            try:
                key, image, caption = entry.read()
            except ValueError as error:  # a broken sample
                found.append(("broken", type(error).__name__))
                continue
            content = image if isinstance(image, bytes) else Path(str(image)).read_bytes()
            found.append((key, hashlib.sha256(content).hexdigest(), str(caption)))
    return found


def _make_resized(folder: Path) -> list[Path]:
    images = [
        ArrayImage(f"{i}", np.random.default_rng(i).integers(0, 256, (9, 12, 3), dtype=np.uint8)) for i in range(3)
    ]
    preprocess = ImagePreprocess(4)
    write_resized(images, preprocess.geometry(), preprocess.pixels, folder / "small")
    return sorted((folder / "small").iterdir())


def _load_resized(folder: Path) -> Any:
    resized = read_resized(folder / "small")
    if len(resized.locations) < 3:
        raise RequestError("some are missing: they would be resized again")
    return {tuple(resized.pixels(digest).ravel().tolist()) for digest in resized.locations}


TARGETS = [
    Target("evaluation-shards", _make, _load, weight=4),
    Target("training-shards", _make_training, _load_training, weight=4),
    Target("resized-images", _make_resized, _load_resized, checked=True, weight=2),
]
