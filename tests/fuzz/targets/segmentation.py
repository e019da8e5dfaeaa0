"""Segmentation data: lists of names and masks."""

from pathlib import Path
from typing import Any

import numpy as np

from cosmos_eval import datasets
from tests.fuzz.running import Target
from tests.helpers import segmentation_on_disk


def _make(folder: Path) -> list[Path]:
    root = segmentation_on_disk.write_segmentation(folder, "voc21")
    return [*sorted(root.rglob("*.png")), *sorted(root.rglob("*.txt"))]


def _load(folder: Path) -> Any:
    data: Any = datasets.load(segmentation_on_disk.small("voc21"), folder)
    return data.fingerprint, [np.asarray(mask.load()).tobytes() for mask in data.masks]


TARGETS = [Target("segmentation", _make, _load, weight=2)]
