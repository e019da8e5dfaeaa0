"""CUB-200-2011 (Wah et al., 2011) as its archive is unpacked: four lists of ids beside the folder of images."""

from pathlib import Path
from typing import Any

import numpy as np

from cosmos_core.short_repr import short_repr
from cosmos_core.text_files import parse_integer, read_lines
from cosmos_eval.datasets.class_order import assign_class_names
from cosmos_eval.datasets.data import ClassificationData, Data
from cosmos_eval.datasets.dataset_checks import DatasetChecker
from cosmos_eval.datasets.image_folder import templates_by_class
from cosmos_eval.datasets.image_sources import FileImage

SPLITS = {"test": "0", "train": "1"}
"""Split -> its value in train_test_split.txt."""


def read_cub(benchmark: Any, data_root: Path) -> Data:
    """Read the images of a split, in the order of `images.txt`, with the classes in the order of `classes.txt`.

    Each line of `images.txt`, `classes.txt`, `image_class_labels.txt` and `train_test_split.txt` is an id and a value:
    the path of an image below `images`, the name of a class, the id of a class, and 1 for train or 0 for test.

    `prompts.class_names` is a list or a map as for an image folder; without it, a class is called as `bird_name` makes
    of its folder.

    Options: `path` (folder of the lists and of `images`), `split` (test or train).

    Raises:
        DataProblems: missing files or images, a line that is not an id and a value, an id that another list lacks.
    """
    checker = DatasetChecker(benchmark, data_root)
    split = checker.options["split"]
    if split not in SPLITS:
        checker.refuse(f"has the split {short_repr(split)}; CUB-200-2011 has {' and '.join(SPLITS)}")
    (root,) = checker.require(checker.find_path("path", "folder", containing="images.txt"))
    lists = ("images", "classes", "image_class_labels", "train_test_split")
    for path in [root / f"{name}.txt" for name in lists]:
        if not path.is_file():
            checker.add_missing(f"the file {path}", path)
    if not (root / "images").is_dir():
        checker.add_missing(f"the folder {root / 'images'}", root / "images")
    checker.raise_if_problems()
    names, classes, label_of_image, split_of_image = (_read_list(root / f"{name}.txt", checker) for name in lists)
    for name, values in (("image_class_labels", label_of_image), ("train_test_split", split_of_image)):
        if values.keys() != names.keys():
            different = min(values.keys() ^ names.keys())
            checker.refuse(f"finds image {different} in only one of images.txt and {name}.txt in {root}")
    unknown = next((image for image, value in split_of_image.items() if value not in SPLITS.values()), None)
    if unknown is not None:
        checker.refuse(
            f"finds {short_repr(split_of_image[unknown])} for image {unknown} in {root / 'train_test_split.txt'}; it "
            "must be 1 (train) or 0 (test)"
        )
    folders = list(classes.values())
    prompts = benchmark.resolve_prompts()
    in_order, class_names = assign_class_names(prompts.class_names, folders, checker)
    if prompts.class_names is None:
        class_names = [bird_name(folder) for folder in folders]
    index_of_class = {key: in_order.index(folder) for key, folder in classes.items()}
    chosen = [image for image, value in split_of_image.items() if value == SPLITS[split]]
    labels = []
    for image in chosen:
        label = parse_integer(label_of_image[image])
        if label not in index_of_class:
            checker.refuse(f"finds class {short_repr(label_of_image[image])} of image {image}, which classes.txt lacks")
        labels.append(index_of_class[label])
    checker.check_images(root / "images", [names[image] for image in chosen])
    return checker.finish(
        ClassificationData(
            images=[FileImage(names[image], root / "images" / names[image]) for image in chosen],
            labels=np.array(labels, dtype=np.int64),
            class_names=class_names,
            templates=templates_by_class(prompts.templates, class_names, checker),
        )
    )


def bird_name(folder: str) -> str:
    """Return the name of a class: `001.Black_footed_Albatross` is Black-footed Albatross.

    The number is left out, and the words before the last are joined by hyphens, as PerceptionCLIP (An et al., ICLR
    2024) names them.
    """
    *first, last = folder.rpartition(".")[2].split("_")
    return f"{'-'.join(first)} {last}" if first else last


def _read_list(path: Path, checker: DatasetChecker) -> dict[int, str]:
    """Return id -> value of each line.

    Raises:
        DataProblems: a line that is not an id and a value, an id that comes twice, or no line.
    """
    values: dict[int, str] = {}
    for number, line in enumerate(read_lines(path), start=1):
        key, _, value = line.strip().partition(" ")
        index = parse_integer(key)
        if not key:
            continue
        if index is None or not value.strip():
            checker.refuse(f"finds {short_repr(line)} in {path}:{number}; a line is an id and a value")
        if index in values:
            checker.refuse(f"finds the id {index} twice in {path}, again in line {number}")
        values[index] = value.strip()
    if not values:
        checker.refuse(f"finds no lines in {path}; unpack the archive again")
    return values
