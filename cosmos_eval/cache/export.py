"""Stored rows as a folder that `embeddings:` reads: a model is evaluated elsewhere without its weights."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cosmos_core.errors import RequestError
from cosmos_eval.cache.contents import Held
from cosmos_eval.cache.names import read_names
from cosmos_eval.cache.shard import Damaged, read_shard
from cosmos_eval.models.embeddings import write_embeddings


def export_rows(one: Held, out: Path, benchmarks: Sequence[str] = ()) -> tuple[int, int]:
    """Write the images and texts that benchmarks asked for, all of them by default; returns how many of each.

    Args:
        one: where the rows are (`cosmos_eval.cache.contents.chosen`).
        out: `meta.json`, `images.npz` and `texts.npz` go there.

    Raises:
        RequestError: features that are not one vector an item, a benchmark that the store does not know, an image or
            text without a row (a run that was not finished, or whose rows made room for others), or two images of
            one name.
    """
    images = _named(one, "images", benchmarks)
    texts = _named(one, "texts", benchmarks)
    ids = _by_name(images)
    words = {name: key for _, name, key in texts}
    rows = {kind: _rows(one, kind, set(named.values())) for kind, named in (("images", ids), ("texts", words))}
    for kind, named in (("images", ids), ("texts", words)):
        lacking = [name for name, key in named.items() if key not in rows[kind]]
        if lacking:
            raise RequestError(
                f"{len(lacking):,} of {len(named):,} {kind} have no stored row, {lacking[0][:80]!r} first; run their "
                "benchmarks again (results that are finished need --overwrite), or name others with --benchmark"
            )
    about = one.about
    for kind, of_kind in rows.items():
        tokens = next((row for row in of_kind.values() if row.ndim > 1), None)
        if tokens is not None:
            raise RequestError(
                f"{about['spec']} keeps {' x '.join(map(str, tokens.shape))} numbers for each of its {kind}, and "
                "embeddings: folders hold one vector an item; evaluate the model itself"
            )
    meta = {
        **{key: value for key, value in about["model"].items() if isinstance(value, str | int | float | bool)},
        "exported_from": about["spec"],
        "digest": about["digest"],
        "precision": about["precision"],
        "device": about["device"],
    }
    write_embeddings(
        out,
        list(ids),
        np.stack([rows["images"][key] for key in ids.values()]),
        list(words),
        np.stack([rows["texts"][key] for key in words.values()]),
        meta,
    )
    return len(ids), len(words)


def _named(one: Held, kind: str, benchmarks: Sequence[str]) -> list[tuple[str, str, str]]:
    """Benchmark, name and key of each item."""
    files = list(read_names(one.folder, kind))
    known = sorted({benchmark for benchmark, _, _ in files})
    unknown = [name for name in benchmarks if name not in known]
    if unknown or not files:
        asked = f"no {kind} of {unknown[0]}" if unknown else f"no {kind}"
        there = f"there are those of {', '.join(known)}" if known else f"run a benchmark with {kind} first"
        raise RequestError(f"{asked} are stored for {one.about['spec']}; {there}")
    return [
        (benchmark, name, key)
        for benchmark, names, keys in files
        if not benchmarks or benchmark in benchmarks
        for name, key in zip(names, keys, strict=True)
    ]


def _by_name(items: Sequence[tuple[str, str, str]]) -> dict[str, str]:
    found: dict[str, tuple[str, str]] = {}
    for benchmark, name, key in items:
        other, known = found.setdefault(name, (benchmark, key))
        if known != key:
            if other == benchmark:
                raise RequestError(
                    f"{name!r} was two images of {benchmark} in different runs; clear the store and run again"
                )
            one, two = sorted((other, benchmark))
            raise RequestError(
                f"{name!r} is an image of {one} and another one of {two}; export them one by one with --benchmark"
            )
    return {name: key for name, (_, key) in found.items()}


def _rows(one: Held, kind: str, wanted: set[str]) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for path in one.shards(kind):
        try:
            shard = read_shard(path, one.folder.name)
        except (Damaged, OSError):
            continue  # what it held is named as lacking
        for key, row in zip(shard.keys, shard.rows, strict=True):
            if (name := bytes(key).hex()) in wanted:
                found[name] = row
    return found
