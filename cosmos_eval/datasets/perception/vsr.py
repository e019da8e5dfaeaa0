"""VSR, Visual Spatial Reasoning (Liu et al., TACL 2023): is a caption about two objects true of an image?"""

from pathlib import Path
from typing import Any

from cosmos_core.text_files import LARGEST_TEXT
from cosmos_eval.datasets.data import Data
from cosmos_eval.datasets.dataset_checks import DatasetChecker
from cosmos_eval.datasets.json_lines import read_json_lines
from cosmos_eval.datasets.perception.annotation_files import require_value
from cosmos_eval.datasets.perception.items import AnnotatedItem, ItemCollector

SUFFIXES = {1: " (True)", 0: " (False)"}
"""Label -> what is added to the caption, as the paper proposes for CLIP."""
CATEGORIES = {
    "adjacency": "adjacent to, alongside, at the side of, at the right side of, at the left side of, attached to, "
    "at the back of, ahead of, against, at the edge of",
    "directional": "off, past, toward, down, deep down, up, away from, along, around, from, into, to, across, "
    "across from, through, down from",
    "orientation": "facing, facing away from, parallel to, perpendicular to",
    "projective": "on top of, beneath, beside, behind, left of, right of, under, in front of, below, above, over, "
    "in the middle of",
    "proximity": "by, close to, near, far from, far away from",
    "topological": "connected to, detached from, has as a part, part of, contains, within, at, on, in, with, "
    "surrounding, among, consists of, out of, between, inside, outside, touching",
}
"""The authors' categories of relations (rel_meta_category_dict.txt); all other relations are `unallocated`."""
CATEGORY_OF = {relation: name for name, relations in CATEGORIES.items() for relation in relations.split(", ")}


def read_vsr(benchmark: Any, data_root: Path) -> Data:
    """Read items of an image and two texts from lines of {image, caption, label, relation, ...}.

    The texts are the caption with ` (True)` and with ` (False)`; the one that fits the label is right. The subset is
    the category of the relation; the groups are `relation` and `label` (true or false captions).

    Options: `path` (the jsonl), `images` (folder with images of COCO's train2017 and val2017), `leave_out_missing`.

    Raises:
        DataProblems: a line that is not a JSON object or lacks a key, a label that is not 0 or 1, missing images.
    """
    checker = DatasetChecker(benchmark, data_root)
    (path,) = checker.require(checker.find_path("path", "file"))
    collector = ItemCollector(checker)
    for number, row in read_json_lines(path, checker, LARGEST_TEXT):
        where = f"{path}:{number}"
        label = require_value(row, "label", int, where, checker)
        if label not in SUFFIXES:
            checker.refuse(f"finds the label {label} in {where}; it must be 0 or 1")
        caption = require_value(row, "caption", str, where, checker)
        relation = require_value(row, "relation", str, where, checker)
        collector.add(
            AnnotatedItem(
                name=f"line {number}",
                images=(require_value(row, "image", str, where, checker),),
                texts=(caption + SUFFIXES[label], caption + SUFFIXES[1 - label]),
                subset=CATEGORY_OF.get(relation, "unallocated"),
                groups={"relation": relation, "label": "true captions" if label else "false captions"},
            )
        )
    return checker.finish(collector.build(collector.require_image_folder()))
