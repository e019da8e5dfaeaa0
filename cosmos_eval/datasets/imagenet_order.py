"""Whether labels of ImageNet's validation images count classes in the order of the wnids: by images of known class.

Two orders are about: that of the sorted wnids, and the devkit's, whose ids belong to other classes. Nothing in a list
of numbers tells them apart but the images themselves. The first ones' classes are known; for the others there are the
ReaL labels (Beyer et al., "Are we done with ImageNet?", 2020), which timm ships: in the right order nine of ten labels
are among them, in another one about one in three hundred.
"""

import json
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cosmos_eval.datasets.prompts import resolve_words

CLASSES = 1000
FIRST_LABELS = (65, 970, 230, 809, 516, 57, 334, 415, 674, 332, 109, 286, 370, 757, 595, 147, 108, 23, 478, 517)
"""Class indices of the first validation images, ILSVRC2012_val_00000001.JPEG and on. The devkit's ids of the same are
490, 361, 171, 822, 297, ..."""
FEWEST_IMAGES, FEWEST_CLASSES = 10, 5
"""Of which ReaL labels are asked for: the labels of one odd class may all differ from them."""
LEAST_SHARE = 0.1
ADVICE = (
    "its labels are in another order (the devkit's ids are); write wnids, or indices from 0 in the order of the wnids"
)
_VALIDATION = re.compile(r"ILSVRC2012_val_(\d{8})(?:\.|$)")


def imagenet_names() -> list[str]:
    """OpenAI's names of the 1,000 classes, in the order of the wnids, as open_clip has them."""
    return list(resolve_words({"class_names": "imagenet1k", "templates": "simple-7"}, None).class_names or ())


def is_imagenet(class_names: Sequence[str]) -> bool:
    """Whether a dataset's classes are ImageNet's, by OpenAI's names in the order of the wnids."""
    return len(class_names) == CLASSES and list(class_names) == imagenet_names()


def wrong_order(keys: Sequence[str], labels: Iterable[Any], classes: Sequence[str], where: str = "") -> str:
    """Why labels cannot be class indices in the order of the wnids; empty where nothing speaks against it.

    Args:
        keys: of images; those named as ImageNet's validation images are looked at, whatever folder or ending they have.
        labels: the class index of each.
        classes: a name of each class, in the order of the wnids.
        where: the file that has the labels, for the message, as ` in labels.txt`.

    Returns:
        Words that follow the benchmark's name.
    """
    if len(classes) != CLASSES:
        return ""
    numbered = [
        (int(match[1]), key, int(label))
        for key, label in zip(keys, labels, strict=True)
        if (match := _VALIDATION.match(key.rpartition("/")[2]))
    ]
    for number, key, label in sorted(numbered):
        if 1 <= number <= len(FIRST_LABELS) and label != FIRST_LABELS[number - 1]:
            right = FIRST_LABELS[number - 1]
            return f"finds {key} labelled {label}{where}, where its class is {right} ({classes[right]}): {ADVICE}"
    real = real_labels() if len(numbered) >= FEWEST_IMAGES else []
    compared = [
        (key, label, real[number - 1])
        for number, key, label in numbered
        if 1 <= number <= len(real) and real[number - 1]
    ]
    if len(compared) < FEWEST_IMAGES or len({label for _, label, _ in compared}) < FEWEST_CLASSES:
        return ""
    others = [(key, label, right[0]) for key, label, right in compared if label not in right]
    if len(compared) - len(others) >= LEAST_SHARE * len(compared):
        return ""
    key, label, right = others[0]
    return (
        f"finds {len(others):,} of {len(compared):,} images labelled otherwise than they are known to be{where}, such "
        f"as {key} labelled {label}, where its class is {right} ({classes[right]}): {ADVICE}"
    )


@lru_cache(maxsize=1)
def real_labels() -> list[list[int]]:
    """The ReaL labels of the 50,000 validation images in the order of their names, several or none an image; nothing
    where timm does not have them."""
    package = find_spec("timm")
    folders = package.submodule_search_locations if package is not None else None
    path = Path((folders or ["."])[0]) / "data/_info/imagenet_real_labels.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return found if isinstance(found, list) and len(found) == 50_000 else []
