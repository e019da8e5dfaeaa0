"""ARO's Visual Genome Relation and Attribution (Yuksekgonul et al., ICLR 2023): a caption against the same caption with
its two objects, or their attributes, exchanged."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cosmos_core.image_files import max_pixels
from cosmos_core.short_repr import short_repr
from cosmos_eval.datasets.data import Data
from cosmos_eval.datasets.dataset_checks import DatasetChecker
from cosmos_eval.datasets.perception.annotation_files import read_rows, require_value
from cosmos_eval.datasets.perception.crops import Box
from cosmos_eval.datasets.perception.items import LEAVE_OUT, AnnotatedItem, ItemCollector

BOX_KEYS = ("bbox_x", "bbox_y", "bbox_w", "bbox_h")
SUBSET_KINDS = ("relation", "attributes")
GROUP = "asymmetric"
"""The group of all subsets except those that the definition lists as `symmetric`."""

MAX_COORDINATE = 10**6
"""Largest number of pixels in a box, positive or negative."""


def read_aro(benchmark: Any, data_root: Path) -> Data:
    """Read items of a box of an image, its true caption and a false one, in the order of the file.

    The file is a list of {image_path, bbox_x, bbox_y, bbox_w, bbox_h, true_caption, false_caption, ...}; the box is cut
    out of the image before preprocessing. The subset of an item is its `relation_name`, or its two `attributes` joined
    by "_". The authors' mean over relations leaves out symmetric ones: if the definition lists these, the group
    `asymmetric` has the items of the other subsets.

    Options: `path` (the JSON), `images` (folder), `subsets` (relation or attributes), `symmetric` (names of subsets),
    `leave_out_missing`.

    Raises:
        DataProblems: a row without one of its keys, an empty caption, a box without width or height, missing images, or
            an unknown value of `subsets`.
        RequestError: not JSON (with line and column).
    """
    checker = DatasetChecker(benchmark, data_root)
    subset_kind = checker.options["subsets"]
    if subset_kind not in SUBSET_KINDS:
        checker.refuse(f"has subsets {subset_kind!r}; known: {', '.join(SUBSET_KINDS)}")
    path = checker.find_path("path", "file")
    if path is None:
        checker.find_path("images", "folder")
        checker.raise_if_problems()
    assert path is not None
    collector = ItemCollector(checker)
    symmetric = checker.options.get("symmetric")
    for number, row, where in read_rows(path, checker):
        if subset_kind == "relation":
            subset = str(require_value(row, "relation_name", str, where, checker))
        else:
            subset = _read_attributes(row, where, checker)
        collector.add(
            AnnotatedItem(
                name=f"row {number}",
                images=(require_value(row, "image_path", str, where, checker),),
                texts=(
                    require_value(row, "true_caption", str, where, checker),
                    require_value(row, "false_caption", str, where, checker),
                ),
                subset=subset,
                box=_read_box(row, where, checker),
                groups={} if symmetric is None else {GROUP: "" if subset in symmetric else subset},
            )
        )
    return checker.finish(collector.build(collector.require_image_folder()))


def _read_box(row: Any, where: str, checker: DatasetChecker) -> Box:
    """Return the box of a row in whole pixels."""
    return box_in_pixels([require_value(row, key, float, where, checker) for key in BOX_KEYS], where, checker)


def box_in_pixels(box: Sequence[float], where: str, checker: DatasetChecker) -> Box:
    """Return a box (x, y, width, height) in whole pixels: its corners are rounded, as in `Image.crop`, which ARO's and
    CREPE's authors call.

    Raises:
        DataProblems: larger than any image that is read, or without pixels.
    """
    x, y, width, height = box
    # the part of a box outside its image is filled with black, so a huge box would fill the memory
    if max(map(abs, (x, y, width, height))) > MAX_COORDINATE or width * height > max_pixels():
        shown = ", ".join(short_repr(number) for number in (x, y, width, height))
        checker.refuse(f"has a box larger than any image that is read, ({shown}) (x, y, width, height), in {where}")
    rounded = round(x), round(y), round(x + width) - round(x), round(y + height) - round(y)
    if (rounded[2] < 1 or rounded[3] < 1) and not checker.options.get(LEAVE_OUT, False):
        checker.refuse(f"has a box without pixels, {rounded} (x, y, width, height), in {where}")
    return rounded


def _read_attributes(row: Any, where: str, checker: DatasetChecker) -> str:
    """Return the two attributes of a row, joined by "_"."""
    attributes = require_value(row, "attributes", list, where, checker)
    if len(attributes) != 2 or not all(isinstance(text, str) and text.strip() for text in attributes):
        checker.refuse(f"finds no list of two texts as 'attributes' in {where}")
    return "_".join(attributes)
