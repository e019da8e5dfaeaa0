"""Stored features: what is not what was written is dropped, and made again by whoever needs it."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from cosmos_core.errors import RequestError
from cosmos_eval.cache.contents import find_damaged_files, list_cached_models
from cosmos_eval.cache.feature_cache import FeatureCache
from cosmos_eval.cache.item_names import read_names, write_names
from cosmos_eval.cache.shard import Shard
from tests.fuzz.running import Target

ABOUT = {
    "spec": "m",
    "digest": "d" * 64,
    "precision": "fp32",
    "device": "cpu",
    "model": {"arch": "x"},
    "rows": 1,
    "packages": {},
}
KEYS = [f"{i:032x}" for i in range(4)]


def _make(folder: Path) -> list[Path]:
    space = FeatureCache(folder).for_model(ABOUT)
    keys = np.array([list(bytes.fromhex(key)) for key in KEYS], dtype=np.uint8)
    rows = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    space.put("texts", Shard(keys, rows))
    write_names(space, "texts", "toy", ["a", "b", "c", "d"], KEYS)
    return [path for path in space.folder.iterdir() if path.suffix != ".json" or path.name == "space.json"]


def _make_names(folder: Path) -> list[Path]:
    _make(folder)
    (space,) = folder.iterdir()
    return [path for path in space.iterdir() if path.suffix == ".json"]


def _load(folder: Path) -> Any:
    space = FeatureCache(folder).for_model(ABOUT)
    found = {KEYS[at]: row.tobytes() for places, rows in space.find("texts", KEYS) for at, row in zip(places, rows)}  # noqa: B905
    if len(found) < len(KEYS):
        raise RequestError("rows are missing: they would be computed again")
    return found


def _load_names(folder: Path) -> Any:
    (one,) = list_cached_models(folder)
    names = list(read_names(one.folder, "texts"))
    faults = [said for _, said in find_damaged_files(one)]
    if faults or not names or json.dumps(one.info) == "":
        raise RequestError("; ".join(faults) or "no names")
    return names


TARGETS = [
    Target("cache", _make, _load, checked=True, weight=3),
    Target("cache-names", _make_names, _load_names, checked=True),
]
