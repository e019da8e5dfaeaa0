"""What'sUp (Kamath et al., EMNLP 2023): which preposition relates two objects, in photos of the same two objects in
different places, and in images of COCO and Visual Genome."""

import re
from pathlib import Path
from typing import Any

from cosmos_core.short_repr import short_repr
from cosmos_eval.datasets.data import Data
from cosmos_eval.datasets.dataset_checks import DatasetChecker
from cosmos_eval.datasets.perception.annotation_files import read_rows, require_value
from cosmos_eval.datasets.perception.items import AnnotatedItem, ItemCollector

OPPOSITES = {"left": "right", "on": "under", "front": "behind"}
"""A preposition -> its opposite; photos of both make a pair."""
PAIR_OF = {word: " and ".join(pair) for pair in OPPOSITES.items() for word in pair}
OPTIONS = 4
NAMES = {"coco": "{:0>12}.jpg", "visual-genome": "{}.jpg"}
"""Value of the option `image_names` -> the name of an image by its id."""
RELATIONS = {"left of": "left", "right of": "right", "above": "above", "front of": "front", "behind": "behind"}
"""Words of a caption of two objects -> its subset; the first that occurs."""
OTHER_RELATION = {"coco": "below", "visual-genome": "top"}
"""The subset of captions with none of these words, as in the authors' code."""


def read_whatsup(benchmark: Any, data_root: Path) -> Data:
    """Read items of an image and four captions, the first right, from a list of {image_path, caption_options}.

    The subset is the preposition of the right caption. The four photos of two objects have the same four captions and
    make a set; photos with opposite prepositions make a pair. In the authors' code the names of the image files say
    which photos belong together. Paths of images lose the leading folder `data`, which is the authors' root.

    Options: `path` (the JSON), `images` (folder that the rest of the paths is in), `leave_out_missing`.

    Raises:
        DataProblems: a row without four captions, a caption without one of the prepositions, missing images.
        RequestError: not JSON.
    """
    checker = DatasetChecker(benchmark, data_root)
    (path,) = checker.require(checker.find_path("path", "file"))
    collector = ItemCollector(checker)
    for number, row, where in read_rows(path, checker):
        captions = require_value(row, "caption_options", list, where, checker)
        if len(captions) != OPTIONS or not all(isinstance(caption, str) for caption in captions):
            checker.refuse(f"finds {short_repr(captions)} as 'caption_options' in {where}; they are {OPTIONS} texts")
        preposition = _find_preposition(captions[0], where, checker)
        objects = " | ".join(sorted(captions))
        collector.add(
            AnnotatedItem(
                name=f"row {number}",
                images=(str(require_value(row, "image_path", str, where, checker)).removeprefix("data/"),),
                texts=tuple(captions),
                subset=preposition,
                sets={"pair": f"{PAIR_OF[preposition]}: {objects}", "set": objects},
            )
        )
    return checker.finish(collector.build(collector.require_image_folder()))


def read_spatial_pairs(benchmark: Any, data_root: Path) -> Data:
    """Read items of an image, a right and a wrong caption from a list of [image id, right, wrong].

    Options:
        path: the JSON.
        images: folder of the images.
        image_names: `coco` (000000000139.jpg) or `visual-genome` (139.jpg).
        objects: `one` or `two`: with one, the subset is the caption's last word, with two its preposition, both as in
            the authors' code.
        leave_out_missing

    Raises:
        DataProblems: a row that is not an id and two texts, an unknown value of an option, missing images.
        RequestError: not JSON.
    """
    checker = DatasetChecker(benchmark, data_root)
    names, objects = checker.options["image_names"], checker.options["objects"]
    for option, value, known in (("image_names", names, tuple(NAMES)), ("objects", objects, ("one", "two"))):
        if value not in known:
            checker.refuse(f"has {option} {value!r}; known: {', '.join(known)}")
    (path,) = checker.require(checker.find_path("path", "file"))
    collector = ItemCollector(checker)
    for number, row, where in read_rows(path, checker):
        is_item = isinstance(row, list) and len(row) == 3 and all(isinstance(text, str) for text in row[1:])
        if not is_item or isinstance(row[0], bool) or not isinstance(row[0], int | str):
            checker.refuse(f"finds {short_repr(row)} as {where}; a row is image id, right, wrong caption")
        image_id, right, wrong = row
        words = right.split() or [""]
        if objects == "one":
            subset = words[-1]
        else:
            subset = next((name for text, name in RELATIONS.items() if text in right), OTHER_RELATION[names])
        collector.add(AnnotatedItem(f"row {number}", (NAMES[names].format(image_id),), (right, wrong), subset))
    return checker.finish(collector.build(collector.require_image_folder()))


def _find_preposition(caption: str, where: str, checker: DatasetChecker) -> str:
    """Return the preposition in a caption, which must be one."""
    found = [word for word in PAIR_OF if word in re.findall(r"\w+", caption.lower())]
    if len(found) != 1:
        checker.refuse(
            f"finds {len(found)} of {', '.join(PAIR_OF)} in {short_repr(caption)} in {where}; it must be one"
        )
    return found[0]
