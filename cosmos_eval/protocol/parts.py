"""Which part of a definition was changed since a result was measured: digests of its parts, kept in the result."""

import hashlib
from collections.abc import Mapping
from typing import Any

from cosmos_eval.protocol.benchmark import Benchmark, canonical_json, deciding_values

MOST_ENTRIES = 200
"""Of a list whose entries have digests of their own: published template lists have 80 at most."""
NAMES = {
    "dataset": "the dataset options",
    "metrics": "the metrics",
    "class_names": "the class names",
    "templates": "the templates",
    "words": "the query words",
    "segmentation": "the segmentation settings",
    "version": "the version",
    "task": "the task",
}
"""Keys of `deciding_values`, as messages call them."""

Parts = dict[str, Any]
"""Key -> digest, or a digest for each entry of a list of texts or for each key of a map."""


def protocol_parts(benchmark: Benchmark) -> Parts:
    """Digests of what decides the numbers of a benchmark, part by part; they tell what changed and identify nothing.

    Raises:
        RequestError: as `deciding_values` says.
    """
    return _parts_of(deciding_values(benchmark))


def changed_parts(benchmark: Benchmark, stored: Mapping[str, Any]) -> list[str]:
    """What differs between a definition and the one of a result, in words; empty where that cannot be told.

    Args:
        stored: `protocol_parts` of the definition that the result was measured with; empty for older results.
    """
    if not stored:
        return []
    values = deciding_values(benchmark)
    now = _parts_of(values)
    return [
        NAMES.get(key, key) + _entries(values.get(key), now.get(key), stored.get(key))
        for key in dict.fromkeys([*now, *stored])
        if now.get(key) != stored.get(key)
    ]


def _parts_of(values: Mapping[str, Any]) -> Parts:
    return {key: _digests(value) for key, value in values.items() if key != "name"}


def _entries(value: Any, now: Any, before: Any) -> str:
    """Which entries of a list or a map are new or changed; empty where all of it is."""
    if isinstance(now, list) and isinstance(before, list):
        known = set(before)
        new = [repr(entry) for entry, digest in zip(value, now, strict=True) if digest not in known]
        gone = len(set(before) - set(now))
        told = [f"new: {', '.join(new[:3])}{', ...' if len(new) > 3 else ''}"] if new else []
        told += [f"{gone} gone"] if gone else []
        return f" ({'; '.join(told) or 'in another order'})"
    if isinstance(now, dict) and isinstance(before, dict):
        keys = [key for key in dict.fromkeys([*now, *before]) if now.get(key) != before.get(key)]
        return f" ({', '.join(keys[:5])})"
    return ""


def _digests(value: Any) -> Any:
    if isinstance(value, Mapping) and len(value) <= MOST_ENTRIES:
        return {str(key): _digest(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple) and len(value) <= MOST_ENTRIES and all(isinstance(one, str) for one in value):
        return [_digest(entry) for entry in value]
    return _digest(value)


def _digest(value: Any) -> str:
    return hashlib.blake2b(canonical_json(value).encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
