"""Images of every format, as evaluation and as training decode them."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cosmos_core.data.samples import load_image
from cosmos_eval.datasets.image_sources import FileImage
from tests.fuzz.running import Target

ENDINGS = ("png", "jpg", "webp", "gif", "bmp", "tif", "ppm")


def _make(folder: Path) -> list[Path]:
    pixels = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8))
    paths = []
    for ending in ENDINGS:
        paths.append(folder / f"image.{ending}")
        pixels.save(paths[-1])
    paths.append(folder / "deep.png")
    Image.fromarray(np.arange(192, dtype=np.uint16).reshape(12, 16) * 300).save(paths[-1])
    return paths


def _load(folder: Path) -> Any:
    found = []
    for path in sorted(folder.iterdir()):
        found.append(np.asarray(FileImage(path.name, path).load()).tobytes())
        found.append(np.asarray(load_image(path, path.name)).tobytes())
    return found


TARGETS = [Target("images", _make, _load, weight=4)]
