"""Names of cached items: images by their keys in the datasets, texts by themselves.

Features are found by content, so evaluation needs no names. `cosmos-eval cache export` does: the folder that it writes
is used on a machine that has no weights and may have other files, and there images are found by name.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from cosmos_core.json_text import parse_json
from cosmos_eval.cache.feature_cache import ModelCache
from cosmos_eval.cache.shard import NAMES_PREFIX, DamagedFileError, checksum, read_checksummed

SUFFIX = ".json"


def write_names(model_cache: ModelCache, kind: str, benchmark: str, names: Sequence[str], keys: Sequence[str]) -> None:
    """Store that a benchmark calls the item with key `keys[i]` by the name `names[i]`.

    If an undamaged file says the same already, only its time of last use is set. As for features, a failed write
    causes a note and does not end the run.
    """
    content = json.dumps({"benchmark": benchmark, "names": list(names), "keys": list(keys)}).encode()
    path = model_cache.folder / f"{NAMES_PREFIX[kind]}-{checksum(content)}{SUFFIX}"
    try:
        read_checksummed(path)
    except (DamagedFileError, OSError):
        model_cache.write(NAMES_PREFIX[kind], SUFFIX, content)
        return
    with suppress(OSError):  # a read-only cache
        os.utime(path)


def read_names(folder: Path, kind: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield benchmark, names and keys of every file of names in a model folder; damaged files are left out."""
    for path in sorted(folder.glob(f"{NAMES_PREFIX[kind]}-*{SUFFIX}")):
        try:
            content = parse_json(read_checksummed(path), path)
            benchmark, names, keys = (content[field] for field in ("benchmark", "names", "keys"))
        except (DamagedFileError, OSError, ValueError, LookupError, TypeError):
            continue
        if not (isinstance(benchmark, str) and _is_list_of_strings(names) and _is_list_of_strings(keys)):
            continue
        if len(names) == len(keys):
            yield benchmark, names, keys


def _is_list_of_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)
