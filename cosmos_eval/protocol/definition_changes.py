"""Digests of the parts of a definition, stored in results, to show users what was changed since a result was measured.

The fingerprint shows only that something was changed. These short digests show what: "the templates (new: 'one {c}')".
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from cosmos_eval.protocol.benchmark import Benchmark
from cosmos_eval.protocol.fingerprint import canonical_json, hashed_values

MOST_ENTRIES = 200
"""A list or map with more entries gets one digest as a whole, to keep results small. Published lists of templates have
at most 80 entries."""
NAMES = {
    "dataset": "the dataset options",
    "metrics": "the metrics",
    "class_names": "the class names",
    "templates": "the templates",
    "words": "the query words",
    "segmentation": "the segmentation settings",
    "embeddings": "what is done to embeddings",
    "version": "the version",
    "task": "the task",
}
"""Key of `hashed_values` -> name in messages."""

Digests = dict[str, Any]
"""Key -> digest of its value; for a list of texts a digest of each entry, for a map one for each key."""


def digest_definition(benchmark: Benchmark) -> Digests:
    """Compute the digests of everything in a definition that decides a number.

    They are too short to identify a definition; that is what the fingerprint is for.

    Raises:
        RequestError: as `hashed_values`.
    """
    return _digest_values(hashed_values(benchmark))


def describe_changes(benchmark: Benchmark, stored: Mapping[str, Any]) -> list[str]:
    """Describe how a definition differs from the one that a result was measured with.

    Args:
        benchmark: the definition as it is now.
        stored: digests in the result (`digest_definition` of its definition); empty for older results.

    Returns:
        One description per changed part; empty if nothing changed or nothing is stored.
    """
    if not stored:
        return []
    values = hashed_values(benchmark)
    digests = _digest_values(values)
    return [
        NAMES.get(key, key) + _describe_change(values.get(key), digests.get(key), stored.get(key))
        for key in dict.fromkeys([*digests, *stored])
        if digests.get(key) != stored.get(key)
    ]


def _digest_values(values: Mapping[str, Any]) -> Digests:
    return {key: _digest_entries(value) for key, value in values.items() if key != "name"}


def _describe_change(value: Any, digests: Any, stored: Any) -> str:
    """Describe which entries of a list or map changed, in brackets; empty where there are no digests of entries.

    Args:
        value: the value now.
        digests: of its entries.
        stored: digests of the entries in the result.
    """
    if isinstance(digests, list) and isinstance(stored, list):
        stored_digests = set(stored)
        new = [repr(entry) for entry, digest in zip(value, digests, strict=True) if digest not in stored_digests]
        removed_count = len(stored_digests - set(digests))
        changes = [f"new: {', '.join(new[:3])}{', ...' if len(new) > 3 else ''}"] if new else []
        changes += [f"{removed_count} removed"] if removed_count else []
        return f" ({'; '.join(changes) or 'in another order'})"
    if isinstance(digests, dict) and isinstance(stored, dict):
        keys = [key for key in dict.fromkeys([*digests, *stored]) if digests.get(key) != stored.get(key)]
        return f" ({', '.join(keys[:5])})"
    return ""


def _digest_entries(value: Any) -> Any:
    """Return a digest of each entry of a short list of texts or a short map, else one digest."""
    if isinstance(value, Mapping) and len(value) <= MOST_ENTRIES:
        return {str(key): _digest(entry) for key, entry in value.items()}
    is_short_list = isinstance(value, list | tuple) and len(value) <= MOST_ENTRIES
    if is_short_list and all(isinstance(entry, str) for entry in value):
        return [_digest(entry) for entry in value]
    return _digest(value)


def _digest(value: Any) -> str:
    return hashlib.blake2b(canonical_json(value).encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
