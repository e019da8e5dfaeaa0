"""ARO's COCO-Order and Flickr-Order (Yuksekgonul et al., ICLR 2023): a caption against shuffles from a file."""

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
from cosmos_eval.datasets.data import Data, PerceptionData, RetrievalData
from cosmos_eval.datasets.dataset_checks import Survey
from cosmos_eval.datasets.perception.items import Item, Items
from cosmos_eval.datasets.perception.rows import list_of_rows, value
from cosmos_eval.datasets.perception.shuffles import Tagger, digest_of, make_order, unmoved, written

SUBSET = "order"
CAPTIONS_OF = {"aro-coco-order": "coco-karpathy-retrieval", "aro-flickr30k-order": "flickr30k-test-retrieval"}
"""Whose captions are shuffled; the image's names are the same, so that images are shared."""
FILES = {"aro-coco-order": "aro/coco_order.json", "aro-flickr30k-order": "aro/flickr30k_order.json"}


def read_order(benchmark: Any, data_root: Path) -> Data:
    """Items of an image and a caption with its shuffles.

    The file is a list of {image, caption, shuffles: [...]}, or a map with that list as `items`, and `tagger`. All items
    have as many shuffles. A shuffle that is the caption itself, spaces aside, is no rival: another of the item stands
    in its place, so that the rule is decided by those that differ, as in the authors' code; an item without any is left
    out. The tagger and the file's SHA-256 are part of the data's identity.

    Options: `path` (the file), `images` (folder), `shuffles` (how many an item must have), `leave_out_missing`.

    Raises:
        DataProblems: an item without one of its keys, an empty text, another number of shuffles, images missing.
        RequestError: not JSON (with line and column).
    """
    survey = Survey(benchmark, data_root)
    path = survey.place("path", "file")
    if path is None:
        survey.place("images", "folder")
        survey.stop_if_any()
    assert path is not None
    raw = read_content(path, LARGEST_JSON)  # once: what is hashed below is what is read here
    content = parse_json(raw, path)
    tagger = content.get("tagger", "") if isinstance(content, dict) else ""
    if tagger is not None and not isinstance(tagger, str):
        survey.refuse(f"finds {short_repr(tagger)} as 'tagger' in {path}; it is a text, or left out")
    rows = list_of_rows(content.get("items") if isinstance(content, dict) else content, path, survey)
    items = Items(survey)
    still = []
    wanted = survey.options.get("shuffles")
    for number, row in enumerate(rows):
        where = f"item {number} of {path}"
        caption = value(row, "caption", str, where, survey)
        given = value(row, "shuffles", list, where, survey)
        wanted = wanted or len(given)
        if len(given) != wanted or not wanted or not all(isinstance(one, str) for one in given):
            survey.refuse(f"needs {wanted} shuffles in {where}, found {len(given)}")
        differ = [one for one in given if not unmoved(one, caption)]
        image = value(row, "image", str, where, survey)
        if not differ:
            still.append(f"item {number}: every shuffle of {caption!r} is itself")
            continue
        rivals = [differ[0] if unmoved(one, caption) else one for one in given]
        items.add(Item(f"item {number}", (image,), (caption, *rivals), SUBSET))
    folder = items.folder()
    if folder is None:
        survey.stop_if_any()
    assert folder is not None
    data = items.data(folder)
    survey.count(items=len(rows))
    origin = f"{tagger or 'no tagger'}, sha256 {digest_of(raw)}"
    return survey.finish(_marked(data, tuple(still), origin))


def _marked(data: PerceptionData, still: tuple[str, ...], origin: str) -> PerceptionData:
    return replace(data, left_out=(*data.left_out, *still), origin=origin)


@dataclass(frozen=True)
class MadeOrder:
    """What `prepare_order` wrote."""

    path: Path
    items: int
    rules: tuple[str, ...]
    unmoved: int
    """Shuffles that are the caption itself, spaces aside."""


def prepare_order(
    name: str, captions: Any, data_root: Path, out: Path | None = None, seed: int = 0, tagger: str = ""
) -> MadeOrder:
    """Shuffle the captions of a retrieval benchmark on the disk into the file that `name` reads.

    Args:
        name: aro-coco-order or aro-flickr30k-order.
        captions: the retrieval benchmark of `CAPTIONS_OF[name]`.
        out: the data root to write; None is `data_root`.
        tagger: `python:module:function`, from a caption to its tokens with their tags; without it only the two rules
            that need none.

    Raises:
        RequestError: the captions are not there, the file is, or the tagger cannot be loaded.
    """
    from cosmos_eval.datasets import read

    path = (out or data_root) / FILES[name]
    if path.exists():
        raise RequestError(f"{path} is there already; move it away to make another, which is another benchmark's data")
    function, called = _tagger(tagger) if tagger else (None, "")
    data = read(captions, data_root)
    assert isinstance(data, RetrievalData)
    pairs = ((data.images[i].key, text) for i, text in zip(data.image_of_text, data.texts, strict=True))
    content = make_order(pairs, seed, function, called)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(path, written(content))
    still = sum(unmoved(one, item["caption"]) for item in content["items"] for one in item["shuffles"])
    return MadeOrder(path, len(content["items"]), tuple(content["rules"]), still)


def _tagger(spec: str) -> tuple[Tagger, str]:
    """The function of `python:module:function`, and the name with the module's version."""
    kind, _, rest = spec.partition(":")
    module_name, _, name = rest.partition(":")
    if kind != "python" or not module_name or not name:
        raise RequestError(f"the tagger {spec!r} is no python:module:function")
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)  # as `python -m` does
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a user's module raises what it likes
        raise RequestError(f"cannot import the tagger's module {module_name}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise RequestError(f"{module_name} has no function {name!r} for a tagger")
    version = getattr(function, "version", "") or getattr(module, "__version__", "")
    return function, f"{spec} {version}".strip()
