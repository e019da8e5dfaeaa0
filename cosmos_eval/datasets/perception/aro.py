"""ARO's Visual Genome Relation and Attribution (Yuksekgonul et al., ICLR 2023): which of two has it, or does it?"""

from pathlib import Path
from typing import Any

from cosmos_core.image_files import max_pixels
from cosmos_core.json_text import read_json
from cosmos_core.short_repr import short_repr
from cosmos_eval.datasets.data import Data
from cosmos_eval.datasets.dataset_checks import Survey
from cosmos_eval.datasets.perception.crops import Box
from cosmos_eval.datasets.perception.items import LEAVE_OUT, Item, Items
from cosmos_eval.datasets.perception.rows import list_of_rows, value

BOX = ("bbox_x", "bbox_y", "bbox_w", "bbox_h")
PARTS = ("relation", "attributes")
GROUP = "asymmetric"
"""The subsets without those that the definition lists as `symmetric`."""

FARTHEST = 10**6
"""Pixels from an image's corner that numbers of a box may have."""


def read_aro(benchmark: Any, data_root: Path) -> Data:
    """Items of a part of an image, its true caption and its false one, in the order of the file.

    A row is {image_path, bbox_x, bbox_y, bbox_w, bbox_h, true_caption, false_caption, ...}; the box is cut out of the
    image before preprocessing. Subsets are `relation_name`, or the two `attributes` joined by "_". The authors'
    mean over relations leaves some out: with a list of them, the group `asymmetric` holds the other subsets' items.

    Options: `path` (the JSON), `images` (folder), `subsets` (relation or attributes), `symmetric` (names of subsets),
    `leave_out_missing`.

    Raises:
        DataProblems: a row without one of its keys, an empty caption, a box without width or height, images missing.
        RequestError: not JSON (with line and column), or no such subsets.
    """
    survey = Survey(benchmark, data_root)
    by = survey.options["subsets"]
    if by not in PARTS:
        survey.refuse(f"has subsets {by!r}; known: {', '.join(PARTS)}")
    path = survey.place("path", "file")
    if path is None:
        survey.place("images", "folder")
        survey.stop_if_any()
    assert path is not None
    items = Items(survey)
    symmetric = survey.options.get("symmetric")
    for number, row in enumerate(list_of_rows(read_json(path), path, survey)):
        where = f"row {number} of {path}"
        subset = _relation(row, where, survey) if by == "relation" else _attributes(row, where, survey)
        items.add(
            Item(
                name=f"row {number}",
                images=(value(row, "image_path", str, where, survey),),
                texts=(
                    value(row, "true_caption", str, where, survey),
                    value(row, "false_caption", str, where, survey),
                ),
                subset=subset,
                box=_box(row, where, survey),
                parts={} if symmetric is None else {GROUP: "" if subset in symmetric else subset},
            )
        )
    folder = items.folder()
    if folder is None:
        survey.stop_if_any()
    assert folder is not None
    return survey.finish(items.data(folder))


def _box(row: Any, where: str, survey: Survey) -> Box:
    """Whole pixels: the corners are rounded, as the authors' `Image.crop` does."""
    x, y, width, height = (value(row, key, float, where, survey) for key in BOX)
    if max(map(abs, (x, y, width, height))) > FARTHEST or width * height > max_pixels():
        # what of a box lies outside its image is made, black
        shown = ", ".join(short_repr(one) for one in (x, y, width, height))
        survey.refuse(f"has a box larger than any image that is read, ({shown}) (x, y, width, height), in {where}")
    box = round(x), round(y), round(x + width) - round(x), round(y + height) - round(y)
    if (box[2] < 1 or box[3] < 1) and not survey.options.get(LEAVE_OUT, False):
        survey.refuse(f"has a box without pixels, {box} (x, y, width, height), in {where}")
    return box


def _relation(row: Any, where: str, survey: Survey) -> str:
    return str(value(row, "relation_name", str, where, survey))


def _attributes(row: Any, where: str, survey: Survey) -> str:
    both = value(row, "attributes", list, where, survey)
    if len(both) != 2 or not all(isinstance(one, str) and one.strip() for one in both):
        survey.refuse(f"finds no two texts as 'attributes' in {where}")
    return "_".join(both)
