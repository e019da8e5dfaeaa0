"""ARO's COCO-Order and Flickr-Order (Yuksekgonul et al., ICLR 2023): a caption against shuffles of its words.

The shuffles are read from a file, which `prepare_aro_order` makes from the captions of a retrieval benchmark.
"""

import importlib
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.files import atomic_write_text
from cosmos_core.json_text import LARGEST_JSON, parse_json
from cosmos_core.short_repr import short_repr
from cosmos_core.text_files import read_content
from cosmos_eval.datasets.data import Data, RetrievalData
from cosmos_eval.datasets.dataset_checks import DatasetChecker
from cosmos_eval.datasets.perception.annotation_files import require_list, require_value
from cosmos_eval.datasets.perception.items import AnnotatedItem, ItemCollector
from cosmos_eval.datasets.perception.shuffles import (
    Tagger,
    build_shuffle_file,
    format_shuffle_file,
    is_unchanged,
    sha256_of,
)

SUBSET = "order"
CAPTIONS_OF = {"aro-coco-order": "coco-karpathy-retrieval", "aro-flickr30k-order": "flickr30k-test-retrieval"}
"""Benchmark -> the retrieval benchmark whose captions are shuffled. Both name images alike, so that they share
features."""
FILES = {"aro-coco-order": "aro/coco_order.json", "aro-flickr30k-order": "aro/flickr30k_order.json"}
"""Benchmark -> its file of shuffles, below the data root."""


def read_aro_order(benchmark: Any, data_root: Path) -> Data:
    """Read items of an image, a caption and shuffles of the caption.

    The file is a list of {image, caption, shuffles: [...]}, or a map with this list as `items` and the name of the
    tagger as `tagger`. All items have the same number of shuffles. A shuffle may equal the caption, except for spaces.
    Such a shuffle is not a negative: it is replaced by another shuffle of the item, so that only different ones decide,
    as in the authors' code. An item whose shuffles all equal the caption is left out. The tagger and the SHA-256 of the
    file are part of the data's identity.

    Options: `path` (the file), `images` (folder), `shuffles` (their number for each item), `leave_out_missing`.

    Raises:
        DataProblems: an item without one of its keys, an empty text, another number of shuffles, missing images.
        RequestError: not JSON (with line and column).
    """
    checker = DatasetChecker(benchmark, data_root)
    path = checker.find_path("path", "file")
    if path is None:
        checker.find_path("images", "folder")
        checker.raise_if_problems()
    assert path is not None
    file_content = read_content(path, LARGEST_JSON)  # read once, so that the hash below is that of what is parsed
    content = parse_json(file_content, path)
    tagger = content.get("tagger", "") if isinstance(content, dict) else ""
    if tagger is not None and not isinstance(tagger, str):
        checker.refuse(f"finds {short_repr(tagger)} as 'tagger' in {path}; it must be a text, or left out")
    rows = require_list(content.get("items") if isinstance(content, dict) else content, path, checker)
    collector = ItemCollector(checker)
    without_negative = []
    expected_count = checker.options.get("shuffles")
    for number, row in enumerate(rows):
        where = f"item {number} of {path}"
        caption = require_value(row, "caption", str, where, checker)
        shuffles = require_value(row, "shuffles", list, where, checker)
        expected_count = expected_count or len(shuffles)  # without the option: that of the first item
        if len(shuffles) != expected_count or not expected_count or not all(isinstance(text, str) for text in shuffles):
            checker.refuse(f"needs {expected_count} shuffles in {where}, found {len(shuffles)}")
        different = [text for text in shuffles if not is_unchanged(text, caption)]
        image = require_value(row, "image", str, where, checker)
        if not different:
            without_negative.append(f"item {number}: every shuffle of {caption!r} equals the caption")
            continue
        negatives = [different[0] if is_unchanged(text, caption) else text for text in shuffles]
        collector.add(AnnotatedItem(f"item {number}", (image,), (caption, *negatives), SUBSET))
    data = collector.build(collector.require_image_folder())
    checker.record_counts(items=len(rows))
    origin = f"{tagger or 'no tagger'}, sha256 {sha256_of(file_content)}"
    return checker.finish(replace(data, left_out=(*data.left_out, *without_negative), origin=origin))


@dataclass(frozen=True)
class PreparedShuffles:
    """The file that `prepare_aro_order` wrote."""

    path: Path
    items: int
    rules: tuple[str, ...]
    unchanged: int
    """Number of shuffles that equal their caption, except for spaces."""


def prepare_aro_order(
    name: str, captions: Any, data_root: Path, out: Path | None = None, seed: int = 0, tagger: str = ""
) -> PreparedShuffles:
    """Shuffle the captions of a retrieval benchmark and write the file that the benchmark `name` reads.

    Args:
        name: aro-coco-order or aro-flickr30k-order.
        captions: the definition of the retrieval benchmark `CAPTIONS_OF[name]`, whose data are on disk.
        out: the data root to write to; None is `data_root`.
        tagger: `python:module:function`, from a caption to its tokens with their tags; empty for only the two rules
            that need no tags.

    Raises:
        RequestError: the captions are missing, the file exists already, or the tagger cannot be loaded.
    """
    from cosmos_eval.datasets import read

    path = (out or data_root) / FILES[name]
    if path.exists():
        raise RequestError(
            f"{path} exists already; move it away to make another one (its shuffles are other data, so their results "
            "do not compare)"
        )
    function, tagger_name = _load_tagger(tagger) if tagger else (None, "")
    data = read(captions, data_root)
    assert isinstance(data, RetrievalData)
    pairs = ((data.images[i].key, text) for i, text in zip(data.image_of_text, data.texts, strict=True))
    content = build_shuffle_file(pairs, seed, function, tagger_name)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(path, format_shuffle_file(content))
    unchanged = sum(is_unchanged(text, item["caption"]) for item in content["items"] for text in item["shuffles"])
    return PreparedShuffles(path, len(content["items"]), tuple(content["rules"]), unchanged)


def _load_tagger(spec: str) -> tuple[Tagger, str]:
    """Return the function of `python:module:function`, and the spec with the version of function or module.

    Raises:
        RequestError: it is not such a spec, or cannot be imported.
    """
    kind, _, rest = spec.partition(":")
    module_name, _, name = rest.partition(":")
    if kind != "python" or not module_name or not name:
        raise RequestError(f"the tagger {spec!r} is not of the form python:module:function")
    working_folder = str(Path.cwd())
    if working_folder not in sys.path and "" not in sys.path:
        sys.path.insert(0, working_folder)  # as `python -m` does
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # the user's module may raise anything
        raise RequestError(f"cannot import the tagger's module {module_name}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise RequestError(f"{module_name} has no function {name!r}, which --tagger names")
    version = getattr(function, "version", "") or getattr(module, "__version__", "")
    return function, f"{spec} {version}".strip()
