"""Check that labels of ImageNet's validation images are class indices in the order of the wnids.

Two orders of the classes are in use: that of the sorted wnids, and that of the devkit's ids. A file of numbers does not
tell which one it uses, but images do whose class is known. The classes of the first 20 images are listed here. For the
others there are the ReaL labels (Beyer et al., "Are we done with ImageNet?", 2020), which timm ships: they include nine
of ten labels in the right order, and about one of three hundred in another order.
"""

import json
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cosmos_eval.datasets.prompts import resolve_prompts

CLASSES = 1000
FIRST_LABELS = (65, 970, 230, 809, 516, 57, 334, 415, 674, 332, 109, 286, 370, 757, 595, 147, 108, 23, 478, 517)
"""Class indices of the first validation images, ILSVRC2012_val_00000001.JPEG and following. Their devkit ids are 490,
361, 171, 822, 297, ..."""
MIN_IMAGES, MIN_CLASSES = 10, 5
"""Fewest images and classes that are compared with ReaL labels: a single unusual class may differ from all of them."""
MIN_AGREEMENT = 0.1
"""Smallest fraction of labels among the ReaL labels; see above."""
ADVICE = (
    "its labels are in another order (the devkit's ids are); write wnids, or indices from 0 in the order of the wnids"
)
_VALIDATION = re.compile(r"ILSVRC2012_val_(\d{8})(?:\.|$)")


def imagenet_names() -> list[str]:
    """Return OpenAI's names of the 1,000 classes, in the order of the wnids, as open_clip has them."""
    return list(resolve_prompts({"class_names": "imagenet1k", "templates": "simple-7"}, None).class_names or ())


def is_imagenet(class_names: Sequence[str]) -> bool:
    """Whether a dataset's classes are ImageNet's: OpenAI's names in the order of the wnids."""
    return len(class_names) == CLASSES and list(class_names) == imagenet_names()


def find_wrong_order(keys: Sequence[str], labels: Iterable[Any], classes: Sequence[str], where: str = "") -> str:
    """Return why labels cannot be class indices in the order of the wnids; empty if they can.

    Args:
        keys: keys of images; those named like ImageNet's validation images, in any folder and format, are checked.
        labels: class index of each image.
        classes: a name of each class, in the order of the wnids.
        where: the file with the labels, for the message, such as ` in labels.txt`.

    Returns:
        The end of a sentence that begins with the benchmark's name.
    """
    if len(classes) != CLASSES:
        return ""
    numbered = [
        (int(match[1]), key, int(label))
        for key, label in zip(keys, labels, strict=True)
        if (match := _VALIDATION.match(key.rpartition("/")[2]))
    ]
    return _compare_with_first_labels(numbered, classes, where) or _compare_with_real_labels(numbered, classes, where)


def _compare_with_first_labels(numbered: list[tuple[int, str, int]], classes: Sequence[str], where: str) -> str:
    """Return the problem with the first validation images, of which one wrong label is enough.

    Args:
        numbered: number, key and label of each image.
    """
    for number, key, label in sorted(numbered):
        if 1 <= number <= len(FIRST_LABELS) and label != FIRST_LABELS[number - 1]:
            right = FIRST_LABELS[number - 1]
            return f"has {key} labelled {label}{where}, but its class is {right} ({classes[right]}): {ADVICE}"
    return ""


def _compare_with_real_labels(numbered: list[tuple[int, str, int]], classes: Sequence[str], where: str) -> str:
    """Return the problem if hardly any label is among the image's ReaL labels."""
    real_labels = load_real_labels() if len(numbered) >= MIN_IMAGES else []
    compared = [
        (key, label, real_labels[number - 1])
        for number, key, label in numbered
        if 1 <= number <= len(real_labels) and real_labels[number - 1]
    ]
    if len(compared) < MIN_IMAGES or len({label for _, label, _ in compared}) < MIN_CLASSES:
        return ""
    wrong = [(key, label, right[0]) for key, label, right in compared if label not in right]
    if len(compared) - len(wrong) >= MIN_AGREEMENT * len(compared):
        return ""
    key, label, right = wrong[0]
    return (
        f"has {len(wrong):,} of {len(compared):,} images with labels that differ from their known classes{where}, such "
        f"as {key} labelled {label}, but its class is {right} ({classes[right]}): {ADVICE}"
    )


@lru_cache(maxsize=1)
def load_real_labels() -> list[list[int]]:
    """Return the ReaL labels of the 50,000 validation images in the order of their names, any number for each image.

    Empty if timm is not installed or has another file.
    """
    package = find_spec("timm")
    folders = package.submodule_search_locations if package is not None else None
    path = Path((folders or ["."])[0]) / "data/_info/imagenet_real_labels.json"
    try:
        labels = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return labels if isinstance(labels, list) and len(labels) == 50_000 else []
