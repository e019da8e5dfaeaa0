"""Captions in a JSON or JSON Lines file whose keys the definition names: DOCCI, and the fine-grained sets of FLAIR."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cosmos_core.json_text import read_json
from cosmos_core.short_repr import short_repr
from cosmos_eval.datasets.data import Data
from cosmos_eval.datasets.dataset_checks import DatasetChecker
from cosmos_eval.datasets.json_lines import read_json_lines
from cosmos_eval.datasets.long_captions.captioned import build_retrieval, rejoin_sentences, require_text

LINES = (".jsonl", ".jsonlines", ".jsonline", ".ndjson")
"""Endings of files with an object a line; any other file is one JSON value."""


def read_json_captions(benchmark: Any, data_root: Path) -> Data:
    """Read images with their captions, in the order in which the images first occur.

    Options: `path` (the file), `images` (folder), `image_key` and `caption_key` (keys of each record; a caption is a
    text or a list of texts), `list_key` (of a JSON file that is a map: the key of its list of records), `split_key` and
    `split` (only records with this value), `rejoin_sentences` (true: as LoTLIP and FLAIR write long captions).

    Raises:
        DataProblems: records of another form (with their number), no record of the split, images missing.
        RequestError: not JSON (with line and column).
    """
    checker = DatasetChecker(benchmark, data_root)
    path = checker.find_path("path", "file")
    folder = checker.find_path("images", "folder")
    path, folder = checker.require(path, folder)
    options = checker.options
    image_key, caption_key = options["image_key"], options["caption_key"]
    split_key, split = options.get("split_key"), options.get("split")
    if (split_key is None) != (split is None):
        checker.refuse("needs both dataset.split_key and dataset.split, or neither")
    rejoin = rejoin_sentences if options.get("rejoin_sentences") else str
    captioned: list[tuple[str, list[str]]] = []
    for where, record in _records(path, options.get("list_key"), checker):
        if split_key is not None and record.get(split_key) != split:
            continue
        name = require_text(record.get(image_key), f"{where}: {image_key}", checker)
        value = record.get(caption_key)
        texts = value if isinstance(value, list) and value else [value]
        captions = [rejoin(require_text(text, f"{where}: {caption_key}", checker)) for text in texts]
        captioned.append((name, captions))
    if not captioned:
        with_split = "" if split_key is None else f" with {split_key} {short_repr(split)}"
        checker.refuse(f"has no record{with_split} in {path}")
    folder = checker.find_path("images", "folder", containing=captioned[0][0]) or folder
    return checker.finish(build_retrieval(checker, folder, captioned))


def _records(path: Path, list_key: str | None, checker: DatasetChecker) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield where each record is, for messages, and the record."""
    if path.suffix.lower() in LINES:
        for number, record in read_json_lines(path, checker):
            yield f"{path}:{number}", _require_map(record, f"{path}:{number}", checker)
        return
    content = read_json(path)
    if list_key is not None:
        content = _require_map(content, str(path), checker).get(list_key)
    if not isinstance(content, list):
        wanted = "a list" if list_key is None else f"a map with the list {list_key!r}"
        checker.refuse(f"cannot use {path}: it must be {wanted}; check dataset.list_key")
    for number, record in enumerate(content):
        yield f"record {number} of {path}", _require_map(record, f"record {number} of {path}", checker)


def _require_map(value: Any, where: str, checker: DatasetChecker) -> dict[str, Any]:
    if not isinstance(value, dict):
        checker.refuse(f"cannot use {where}: it must be a map, such as {{...}}")
    return value
