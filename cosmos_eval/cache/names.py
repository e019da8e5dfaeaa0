"""What items of a store are called: images by the keys of their datasets, texts by themselves. Rows are found by
content and need no names; vectors that leave for another machine do."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from cosmos_core.json_text import parse_json
from cosmos_eval.cache.shard import NAMES_PREFIX, Damaged, checksum, read_named
from cosmos_eval.cache.store import Space

SUFFIX = ".json"


def write_names(space: Space, kind: str, benchmark: str, names: Sequence[str], keys: Sequence[str]) -> None:
    """Keep that `names[i]` of a benchmark is the item `keys[i]`; what is kept already, and whole, is left alone.

    As with rows, a disk that refuses costs a note.
    """
    content = json.dumps({"benchmark": benchmark, "names": list(names), "keys": list(keys)}).encode()
    path = space.folder / f"{NAMES_PREFIX[kind]}-{checksum(content)}{SUFFIX}"
    try:
        read_named(path)
    except (Damaged, OSError):
        space.write(NAMES_PREFIX[kind], SUFFIX, content)
        return
    with suppress(OSError):
        os.utime(path)


def read_names(folder: Path, kind: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """Benchmark, names and keys of every file of a space; damaged ones are left out."""
    for path in sorted(folder.glob(f"{NAMES_PREFIX[kind]}-*{SUFFIX}")):
        try:
            content = parse_json(read_named(path), path)
            benchmark, names, keys = (content[part] for part in ("benchmark", "names", "keys"))
        except (Damaged, OSError, ValueError, LookupError, TypeError):
            continue
        lists = all(isinstance(some, list) and all(isinstance(one, str) for one in some) for some in (names, keys))
        if isinstance(benchmark, str) and lists and len(names) == len(keys):
            yield benchmark, names, keys
