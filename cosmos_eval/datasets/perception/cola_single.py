"""Cola, single-object setting (Ray et al., NeurIPS 2023): images ranked for an object with several attributes."""

from pathlib import Path
from typing import Any

import numpy as np

from cosmos_core.json_text import read_json
from cosmos_core.short_repr import short_repr
from cosmos_eval.datasets.class_order import check_class_order
from cosmos_eval.datasets.data import Data, MultilabelData
from cosmos_eval.datasets.data.multilabel import UNDECIDED
from cosmos_eval.datasets.dataset_checks import DatasetChecker, is_outside_folder
from cosmos_eval.datasets.image_folder import templates_by_class
from cosmos_eval.datasets.image_sources import FileImage
from cosmos_eval.datasets.perception.annotation_files import parts_of_address, require_value


def read_cola_single(benchmark: Any, data_root: Path) -> Data:
    """Read images and their classes from a map of `labels`, the names of the C classes, and `data`, a list of
    [path of an image, its objects and attributes, C labels, C marks of difficult images]; PACO's rows have no objects.
    The list [labels, data], which the authors' script reads, is the same.

    Labels and marks are 0 or 1. An image counts for a class where its mark is 1; elsewhere it is undecided, so that the
    average precision is that of the authors' difficult images. The name of a class is a text, or
    [[attribute, ...], object], which are joined by spaces. An image is the last two parts of its path below `images` if
    that file exists, else the last part.

    Options: `path` (the JSON), `images` (folder).

    Raises:
        DataProblems: another form, labels or marks of another number or value, missing images.
        RequestError: not JSON.
    """
    checker = DatasetChecker(benchmark, data_root)
    path, image_folder = checker.require(checker.find_path("path", "file"), checker.find_path("images", "folder"))
    content = read_json(path)
    if isinstance(content, list) and len(content) == 2:
        content = dict(zip(("labels", "data"), content, strict=True))
    class_names = [_class_name(label, path, checker) for label in _require_rows(content, "labels", path, checker)]
    prompts = benchmark.resolve_prompts()
    if prompts.class_names is not None:
        check_class_order(list(prompts.class_names), class_names, "prompts.class_names", checker)
        class_names = list(prompts.class_names)
    rows = _require_rows(content, "data", path, checker)
    labels = np.empty((len(rows), len(class_names)), dtype=np.int8)
    addresses: list[tuple[str, ...]] = []
    for number, row in enumerate(rows):
        where = f"row {number} of {path}"
        if not isinstance(row, list) or len(row) not in (3, 4) or not isinstance(row[0], str):
            checker.refuse(
                f"finds {short_repr(row)} as {where}; a row is an image, its objects, its labels and difficult labels"
            )
        addresses.append(parts_of_address(row[0].replace("\\", "/"), where, checker))
        present, difficult = (
            _parse_marks(marks, noun, len(class_names), where, checker)
            for noun, marks in (("labels", row[-2]), ("difficult labels", row[-1]))
        )
        labels[number] = np.where(difficult == 1, present, UNDECIDED)
    folder = checker.find_path("images", "folder", containing=addresses[0][-1]) or image_folder
    names = [_find_image(parts, folder) for parts in addresses]
    checker.check_images(folder, names)
    return checker.finish(
        MultilabelData(
            [FileImage(name, folder / name) for name in names],
            labels,
            class_names,
            templates_by_class(prompts.templates, class_names, checker),
        )
    )


def _require_rows(content: Any, key: str, path: Path, checker: DatasetChecker) -> list[Any]:
    rows: list[Any] = require_value(content, key, list, str(path), checker)
    if not rows:
        checker.refuse(f"has an empty {key!r} in {path}")
    return rows


def _class_name(label: Any, path: Path, checker: DatasetChecker) -> str:
    """Return the name of a class: a text, or attributes and an object."""
    if isinstance(label, list) and len(label) == 2 and isinstance(label[0], list):
        label = [*label[0], label[1]]
    words = [label] if isinstance(label, str) else label
    if not isinstance(words, list) or not words or not all(isinstance(word, str) and word.strip() for word in words):
        checker.refuse(
            f"finds {short_repr(label)} among the labels of {path}; a label is a text, or a list of attributes and an "
            "object"
        )
    return " ".join(words)


def _parse_marks(marks: Any, noun: str, class_count: int, where: str, checker: DatasetChecker) -> np.ndarray:
    """Return (C,) int8 marks."""
    if not isinstance(marks, list) or len(marks) != class_count or not all(mark in (0, 1) for mark in marks):
        checker.refuse(f"finds no list of {class_count:,} {noun}, each 0 or 1, in {where}")
    return np.array(marks, dtype=np.int8)


def _find_image(parts: tuple[str, ...], folder: Path) -> str:
    """Return the path of an image below the folder."""
    nested = "/".join(parts[-2:])
    return nested if not is_outside_folder(nested) and (folder / nested).is_file() else parts[-1]
