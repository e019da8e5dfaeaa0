"""Two images and two captions that belong together, in the JSON of Cola and of ColorSwap.

- Cola (Ray et al., NeurIPS 2023), multi-object setting: attributes and objects are exchanged between the captions.
- ColorSwap (Burapacheep et al., Findings of ACL 2024): the captions have the same words, the colours exchanged.
"""

from pathlib import Path
from typing import Any

from cosmos_core.short_repr import short_repr
from cosmos_eval.datasets.data import Data
from cosmos_eval.datasets.dataset_checks import DatasetChecker
from cosmos_eval.datasets.perception.annotation_files import parts_of_address, read_rows, require_value
from cosmos_eval.datasets.perception.items import AnnotatedItem, ItemCollector

COLORSWAP_KEYS = ("image_1", "image_2", "caption_1", "caption_2")


def read_cola(benchmark: Any, data_root: Path) -> Data:
    """Read items from a list of [address of image 1, caption 1, address of image 2, caption 2].

    Images have the last part of their address as name.

    Options: `path` (the JSON), `images` (folder), `leave_out_missing`.

    Raises:
        DataProblems: a row that is not four texts, an empty caption, missing images.
        RequestError: not JSON.
    """
    checker = DatasetChecker(benchmark, data_root)
    (path,) = checker.require(checker.find_path("path", "file"))
    collector = ItemCollector(checker)
    for number, row, where in read_rows(path, checker):
        if not isinstance(row, list) or len(row) != 4 or not all(isinstance(value, str) for value in row):
            checker.refuse(f"finds {short_repr(row)} as {where}; a row is image 1, caption 1, image 2, caption 2")
        image_1, caption_1, image_2, caption_2 = row
        names = tuple(parts_of_address(image, where, checker)[-1] for image in (image_1, image_2))
        collector.add(AnnotatedItem(f"row {number}", names, (caption_1, caption_2), "all"))
    return checker.finish(collector.build(collector.require_image_folder()))


def read_colorswap(benchmark: Any, data_root: Path) -> Data:
    """Read items from a list of {image_1, image_2, caption_1, caption_2, caption_source, ...}.

    The subset is `caption_source` (who wrote the captions), where a row has it.

    Options: `path` (the JSON), `images` (folder that the images' paths are in), `leave_out_missing`.

    Raises:
        DataProblems: a row without one of its keys, an empty caption, missing images.
        RequestError: not JSON.
    """
    checker = DatasetChecker(benchmark, data_root)
    (path,) = checker.require(checker.find_path("path", "file"))
    collector = ItemCollector(checker)
    for number, row, where in read_rows(path, checker):
        image_1, image_2, caption_1, caption_2 = (
            require_value(row, key, str, where, checker) for key in COLORSWAP_KEYS
        )
        has_source = isinstance(row, dict) and row.get("caption_source") is not None
        subset = require_value(row, "caption_source", str, where, checker) if has_source else "all"
        collector.add(AnnotatedItem(f"row {number}", (image_1, image_2), (caption_1, caption_2), subset))
    return checker.finish(collector.build(collector.require_image_folder()))
