"""What items of a store are called: pictures by the keys of their datasets, texts by themselves. Rows are found by
content and need no names; vectors that leave for another machine do."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from cosmos_eval.engine.store import Space
from cosmos_eval.engine.store_shard import NAMES, Damaged, checksum, read_named

SUFFIX = ".json"


def write_names(space: Space, kind: str, benchmark: str, names: Sequence[str], keys: Sequence[str]) -> None:
    """Keep that `names[i]` of a benchmark is the item `keys[i]`; what is kept already, and whole, is left alone.

    As with rows, a disk that refuses costs a note.
    """
    content = json.dumps({"benchmark": benchmark, "names": list(names), "keys": list(keys)}).encode()
    path = space.folder / f"{NAMES[kind]}-{checksum(content)}{SUFFIX}"
    try:
        read_named(path)
    except (Damaged, OSError):
        space.write(NAMES[kind], SUFFIX, content)
        return
    with suppress(OSError):
        os.utime(path)


def read_names(folder: Path, kind: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """Benchmark, names and keys of every file of a space; damaged ones are left out."""
    for path in sorted(folder.glob(f"{NAMES[kind]}-*{SUFFIX}")):
        with suppress(Damaged, OSError):
            content = json.loads(read_named(path))
            yield content["benchmark"], content["names"], content["keys"]
