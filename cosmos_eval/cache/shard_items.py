"""What was read from shards that are gone: for each, the keys, digests and labels of its samples.

    CACHE/streamed/<shard>-<checksum>.json

`<shard>` is a digest of what identifies the bytes of a shard and how they are read. With these files beside the
features, a later run knows a streamed dataset without downloading it. They are written and checked as all files of the
cache are; a damaged one is removed, and its shard is downloaded again.
"""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cosmos_core.json_text import parse_json
from cosmos_eval.cache.shard import DamagedFileError, read_checksummed, write_checksummed
from cosmos_eval.datasets.image_facts import PLAIN, ImageFacts

FOLDER = "streamed"
FORM = "cosmos-eval streamed shard 1"
"""Name and version of the format, and of what a digest is."""
SUFFIX = ".json"
_FILE = re.compile(r"[0-9a-f]{32}-[0-9a-f]{32}\.json")


@dataclass(frozen=True)
class ShardItems:
    """The samples of one shard, in order, without their images."""

    sha256: str
    """Of the shard."""
    size: int
    """Bytes of the shard."""
    keys: Sequence[str]
    digests: Sequence[str]
    facts: Sequence[ImageFacts]
    labels: Sequence[Any]
    """As the reader stores them: values of JSON."""
    lone_block: int | None = None

    def __len__(self) -> int:
        return len(self.keys)


class ShardItemsStore:
    """The files of one cache; without a folder nothing is found or kept.

    Args:
        cache: folder of the feature cache.
        note: is called once if nothing can be written.
    """

    def __init__(self, cache: Path | None, note: Callable[[str], None] = lambda line: None) -> None:
        self.folder = None if cache is None else cache / FOLDER
        self.note = note

    def find(self, identity: Sequence[str]) -> ShardItems | None:
        """Return what is stored of the shard that these texts identify; None if nothing, or a damaged file."""
        if self.folder is None:
            return None
        for path in sorted(self.folder.glob(f"{_name(identity)}-*{SUFFIX}")):
            try:
                return _parse(read_checksummed(path), path)
            except (DamagedFileError, ValueError, LookupError, TypeError):
                with suppress(OSError):
                    path.unlink()
            except OSError:
                continue
        return None

    def put(self, identity: Sequence[str], items: ShardItems) -> None:
        """Store the samples of a shard. As for features, a failed write causes a note and does not end the run."""
        if self.folder is None:
            return
        facts = {
            str(i): [fact.rule, fact.orientation, fact.turned, fact.rescaled]
            for i, fact in enumerate(items.facts)
            if fact != PLAIN
        }
        content = {
            "form": FORM,
            "sha256": items.sha256,
            "size": items.size,
            "lone_block": items.lone_block,
            "keys": list(items.keys),
            "digests": list(items.digests),
            "facts": facts,
            "labels": list(items.labels),
        }
        try:
            write_checksummed(self.folder, _name(identity), SUFFIX, json.dumps(content).encode())
        except OSError as error:
            self.folder = None
            self.note(f"what was streamed is not recorded ({error.strerror or error}): a later run downloads it again")


def remove_shard_items(cache: Path) -> int:
    """Remove all files of a cache that say what shards hold; return the bytes that were freed."""
    freed = 0
    for path in [path for path in (cache / FOLDER).glob(f"*{SUFFIX}") if _FILE.fullmatch(path.name)]:
        with suppress(FileNotFoundError):
            size = path.stat().st_size
            path.unlink()
            freed += size
    with suppress(OSError):  # absent, or other programs keep files there
        (cache / FOLDER).rmdir()
    return freed


def _name(identity: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps([FORM, *identity]).encode()).hexdigest()[:32]


def _parse(content: bytes, path: Path) -> ShardItems:
    """ValueError, LookupError or TypeError for anything but what `put` writes."""
    fields = parse_json(content, path)
    count = len(fields["keys"])
    if fields["form"] != FORM or not count == len(fields["digests"]) == len(fields["labels"]):
        raise ValueError("another format")
    for key, digest in zip(fields["keys"], fields["digests"], strict=True):
        if not isinstance(key, str) or len(bytes.fromhex(digest)) != 16:
            raise ValueError("another format")
    facts = [PLAIN] * count
    for position, values in fields["facts"].items():
        facts[int(position)] = ImageFacts(*values)
    return ShardItems(
        str(fields["sha256"]),
        int(fields["size"]),
        fields["keys"],
        fields["digests"],
        facts,
        fields["labels"],
        fields["lone_block"],
    )
