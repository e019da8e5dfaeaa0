"""Export cached features to a folder for `embeddings:`, so that a model can be evaluated without its weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cosmos_core.errors import RequestError
from cosmos_eval.cache.contents import CachedModel
from cosmos_eval.cache.item_names import read_names
from cosmos_eval.cache.shard import DamagedFileError, read_shard
from cosmos_eval.models.embeddings import write_embeddings


class _NamedItem(NamedTuple):
    """An image or text as one benchmark names it, and the key of its features."""

    benchmark: str
    name: str
    key: str


def export_features(model: CachedModel, out: Path, benchmarks: Sequence[str] = ()) -> tuple[int, int]:
    """Write `meta.json`, `images.npz` and `texts.npz` to `out`; return the numbers of images and of texts.

    Benchmarks without texts in the cache are exported without: probes ask for none (see `find_without_texts`).

    Args:
        model: from `cosmos_eval.cache.contents.find_cached_models`.
        benchmarks: write only the images and texts of these benchmarks; all of them if empty.

    Raises:
        RequestError: the features are not one vector for each item; the cache has no items of a benchmark; features of
            an item are missing (an unfinished run, or they were removed to keep the size limit); two different images
            have one name; a text has other features in another language.
    """
    images = _items_of_benchmarks(model, "images", benchmarks)
    without_texts = set(find_without_texts(model))
    with_texts = [name for name in dict.fromkeys(item.benchmark for item in images) if name not in without_texts]
    texts = _items_of_benchmarks(model, "texts", with_texts) if with_texts else []
    keys_by_name = {"images": _image_keys_by_name(images), "texts": {item.name: item.key for item in texts}}
    features = {
        "images": _read_features(model, "images", set(keys_by_name["images"].values())),
        "texts": _read_features(model, "texts", {item.key for item in texts}),
    }
    _require_one_language(model, texts, features["texts"])
    for kind, keys in keys_by_name.items():
        _require_features(kind, keys, features[kind])
    for kind, features_by_key in features.items():
        _require_single_vectors(model, kind, features_by_key)
    image_array = np.stack([features["images"][key] for key in keys_by_name["images"].values()])
    none = np.zeros((0, image_array.shape[1]), np.float32)
    text_array = np.stack([features["texts"][key] for key in keys_by_name["texts"].values()]) if texts else none
    write_embeddings(
        out,
        list(keys_by_name["images"]),
        image_array,
        list(keys_by_name["texts"]),
        text_array,
        _meta(model),
    )
    return len(keys_by_name["images"]), len(keys_by_name["texts"])


def find_without_texts(model: CachedModel, benchmarks: Sequence[str] = ()) -> list[str]:
    """Return the names of benchmarks, or of all if empty, that have images in the cache and no texts.

    They are probes, or a run of them was stopped before their texts were encoded.
    """
    of_images, of_texts = ({name for name, _, _ in read_names(model.folder, kind)} for kind in ("images", "texts"))
    return sorted(name for name in of_images - of_texts if not benchmarks or name in benchmarks)


def _meta(model: CachedModel) -> dict[str, str | int | float | bool]:
    """Return the content of `meta.json`: the model's description, and where the features come from."""
    info = model.info
    return {
        **{key: value for key, value in info["model"].items() if isinstance(value, str | int | float | bool)},
        "exported_from": info["spec"],
        "digest": info["digest"],
        "precision": info["precision"],
        "device": info["device"],
    }


def _items_of_benchmarks(model: CachedModel, kind: str, benchmarks: Sequence[str]) -> list[_NamedItem]:
    """Return the items of some benchmarks, or of all of them if `benchmarks` is empty."""
    files = list(read_names(model.folder, kind))
    known_benchmarks = sorted({benchmark for benchmark, _, _ in files})
    unknown_benchmarks = [name for name in benchmarks if name not in known_benchmarks]
    if unknown_benchmarks or not files:
        missing = f"no {kind} of {unknown_benchmarks[0]}" if unknown_benchmarks else f"no {kind}"
        advice = (
            f"benchmarks in this cache: {', '.join(known_benchmarks)}"
            if known_benchmarks
            else f"run a benchmark with {kind} first"
        )
        raise RequestError(f"the cache has {missing} for {model.info['spec']}; {advice}")
    return [
        _NamedItem(benchmark, name, key)
        for benchmark, names, keys in files
        if not benchmarks or benchmark in benchmarks
        for name, key in zip(names, keys, strict=True)
    ]


def _image_keys_by_name(items: Sequence[_NamedItem]) -> dict[str, str]:
    """Return name -> key.

    Raises:
        RequestError: two images have one name.
    """
    first_items: dict[str, _NamedItem] = {}
    for item in items:
        first = first_items.setdefault(item.name, item)
        if first.key == item.key:
            continue
        if first.benchmark == item.benchmark:
            raise RequestError(
                f"{item.name!r} is the name of two images of {item.benchmark}, whose files changed between two runs; "
                "clear the cache and run again"
            )
        benchmark, other_benchmark = sorted((first.benchmark, item.benchmark))
        raise RequestError(
            f"{item.name!r} is an image of {benchmark} and a different image of {other_benchmark}; export them one by "
            "one with --benchmark"
        )
    return {name: item.key for name, item in first_items.items()}


def _read_features(model: CachedModel, kind: str, keys: set[str]) -> dict[str, np.ndarray]:
    """Return key -> features, without the keys that are not stored."""
    features: dict[str, np.ndarray] = {}
    for path in model.shards(kind):
        try:
            shard = read_shard(path, model.folder.name)
        except (DamagedFileError, OSError):
            continue  # the caller reports its items as missing
        for key_bytes, item_features in zip(shard.keys, shard.features, strict=True):
            if (key := bytes(key_bytes).hex()) in keys:
                features[key] = item_features
    return features


def _require_one_language(model: CachedModel, texts: Sequence[_NamedItem], features: dict[str, np.ndarray]) -> None:
    """Raise RequestError if a text has several features, as of a model that is told the language of texts."""
    first_features: dict[str, np.ndarray] = {}
    for item in texts:
        if item.key not in features:
            continue  # reported later, unless another key has them
        own = features[item.key]
        first = first_features.setdefault(item.name, own)
        if first is not own and not (first.shape == own.shape and np.allclose(first, own, atol=1e-3)):
            raise RequestError(
                f"{model.info['spec']} has several embeddings of the text {item.name[:80]!r}, by its language, and an "
                "embeddings: folder holds one for each text; export other benchmarks with --benchmark, or evaluate the "
                "model itself"
            )


def _require_features(kind: str, keys_by_name: dict[str, str], features: dict[str, np.ndarray]) -> None:
    missing_names = [name for name, key in keys_by_name.items() if key not in features]
    if missing_names:
        raise RequestError(
            f"the cache lacks the features of {len(missing_names):,} of {len(keys_by_name):,} {kind}, the first is "
            f"{missing_names[0][:80]!r}; run their benchmarks again (finished results need --overwrite), or export "
            "other benchmarks with --benchmark"
        )


def _require_single_vectors(model: CachedModel, kind: str, features_by_key: dict[str, np.ndarray]) -> None:
    tokens = next((features for features in features_by_key.values() if features.ndim > 1), None)
    if tokens is not None:
        raise RequestError(
            f"{model.info['spec']} has {' x '.join(map(str, tokens.shape))} numbers for each of its {kind}, and an "
            "embeddings: folder holds one vector for each; evaluate the model itself"
        )
