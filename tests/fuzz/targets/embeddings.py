"""Folders of embeddings: the two archives have checksums of their own, the description has none."""

from pathlib import Path
from typing import Any

import numpy as np

from cosmos_eval.models.embeddings import EmbeddingsModel, write_embeddings
from tests.fuzz.running import Target


def _write(folder: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    write_embeddings(folder, list("abcde"), vectors, ["one", "zwei", "三"], vectors[:3], {"arch": "x", "seed": 3})


def _make(folder: Path) -> list[Path]:
    _write(folder)
    return [folder / "images.npz", folder / "texts.npz"]


def _make_meta(folder: Path) -> list[Path]:
    _write(folder)
    return [folder / "meta.json"]


def _load(folder: Path) -> Any:
    model = EmbeddingsModel(folder)
    return model.digest, model.describe()


TARGETS = [
    Target("embeddings", _make, _load, checked=True, weight=2),
    Target("embeddings-meta", _make_meta, _load),
]
