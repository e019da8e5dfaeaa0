"""ImageNet-1k validation (Russakovsky et al., IJCV 2015): class folders, or one flat folder with a file of labels."""

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cosmos_core.printable import plural
from cosmos_core.short_repr import short_repr
from cosmos_core.text_files import parse_integer, read_lines
from cosmos_eval.datasets.class_order import check_class_order
from cosmos_eval.datasets.consistency import format_names
from cosmos_eval.datasets.data import ClassificationData, Data
from cosmos_eval.datasets.dataset_checks import DatasetChecker
from cosmos_eval.datasets.image_folder import is_image_name, list_class_folders, read_class_folders, templates_by_class
from cosmos_eval.datasets.image_sources import FileImage
from cosmos_eval.datasets.imagenet_devkit import map_ground_truth
from cosmos_eval.datasets.imagenet_order import find_wrong_order, imagenet_names

WNID = re.compile(r"n\d{8}")
"""WordNet's id of a class, which names its folder."""


def imagenet_wnids() -> list[str]:
    """Return the 1,000 wnids in sorted order, which is the usual order of class indices, as clip-benchmark has them."""
    from clip_benchmark.datasets.builder import all_imagenet_wordnet_ids

    return list(all_imagenet_wordnet_ids)


def read_imagenet(benchmark: Any, data_root: Path) -> Data:
    """Read the 1,000 classes in the order of their wnids, from one of three layouts in `path`.

    Class folders: `path/<wnid>/*.JPEG` (also those of ImageNet-Sketch, and with `only_class_folders` of ImageNet-A, -R
    and -O, which have 200 of the classes). Numbered: `path/<class index from 0>/*.jpeg`, as ImageNetV2. Flat:
    `path/ILSVRC2012_val_*.JPEG` with `labels`, a text file of lines `<image> <label>` with a wnid or a class index from
    0 as label (Kaggle's LOC_val_solution.csv is such a file).
    Or `labels` is the devkit's ILSVRC2012_validation_ground_truth.txt, with its meta.mat beside it: its ids from 1 to
    1000 are in another order (`imagenet_devkit.py`). Class indices that were made from these ids alone are refused:
    they are recognised by images whose class is known. Classes without an image are candidates all the same, with a
    remark.

    Options: `path` (folder), `labels` (file, for the flat layout), `only_class_folders` (true: only classes with a
    folder are candidates; their number must then be in `expected`, as a lost folder would only be a lost class).

    Raises:
        DataProblems: fewer images than expected (with the missing class folders), images of the label file that are
            missing, labels that are not a class or in another order.
    """
    checker = DatasetChecker(benchmark, data_root)
    wnids = imagenet_wnids()
    (root,) = checker.require(checker.find_path("path", "folder", containing=wnids[0]))
    prompts = benchmark.resolve_prompts()
    names = _class_names(prompts.class_names, wnids, checker)
    needs_templates = "templates" in benchmark.prompts  # not for a task without prompts
    if len(names) != len(wnids) or (needs_templates and prompts.templates is None):
        checker.refuse(
            f"needs prompts with {len(wnids):,} class names (imagenet1k) and templates, found {len(names):,} names"
        )
    all_folders = list_class_folders(root)
    folders = [folder for folder in all_folders if WNID.fullmatch(folder)]
    numbers = [str(index) for index in range(len(wnids))]
    is_numbered = bool(all_folders) and set(all_folders) <= set(numbers)
    if is_numbered:
        wnids, folders = numbers, all_folders
    only_class_folders = bool(checker.options.get("only_class_folders"))
    if only_class_folders and not (folders and "classes" in checker.expected):
        checker.refuse(
            "has only_class_folders, which needs class folders, and their number in dataset.expected (classes): "
            "without it, a lost folder would only make the task easier"
        )
    if not folders:
        data = _read_flat_folder(root, wnids, names, prompts.templates, checker)
        return checker.finish(replace(data, empty_classes_allowed=True))
    unknown = sorted(set(folders) - set(wnids))
    if unknown:
        checker.add_problem(f"has class folders in {root} that are not ImageNet-1k's: {format_names(unknown)}")
    existing = set(folders)
    if only_class_folders:
        kept = [index for index, wnid in enumerate(wnids) if wnid in existing]
        wnids, names = [wnids[index] for index in kept], [names[index] for index in kept]
    in_order = [wnid if wnid in existing else None for wnid in wnids]
    data = read_class_folders(root, in_order, names, prompts.templates, checker)
    if is_numbered:
        keys = [image.key for image in data.images]
        if problem := find_wrong_order(keys, data.labels, names, f" by the folders of {root}"):
            checker.refuse(problem)
    missing = [wnid for wnid in wnids if wnid not in existing]
    # A part of ImageNet may lack classes, but missing images are best explained by missing folders.
    if missing and checker.expected.get("images", len(data.images)) != len(data.images):
        checker.add_problem(
            f"needs {plural(len(wnids), 'class folder')} in {root}, found {len(folders):,}; missing: "
            f"{format_names(missing)}"
        )
    return checker.finish(replace(data, empty_classes_allowed=True))


def _class_names(names: Any, wnids: list[str], checker: DatasetChecker) -> list[str]:
    """Return the class names in the order of the wnids, from a map by wnid or from a list."""
    if isinstance(names, dict):
        nameless = [wnid for wnid in wnids if wnid not in names]
        if nameless:
            checker.refuse(
                f"has no class name for {len(nameless):,} of ImageNet-1k's classes: {format_names(nameless)}"
            )
        return [names[wnid] for wnid in wnids]
    names = list(names or ())
    published = imagenet_names()
    if len(names) == len(published) == len(wnids) and names != published:
        check_class_order(names, published, "prompts.class_names", checker)
    return names


def _read_flat_folder(
    root: Path, wnids: list[str], names: list[str], templates: Any, checker: DatasetChecker
) -> ClassificationData:
    with os.scandir(root) as entries:
        has_images = any(is_image_name(entry.name) for entry in entries)
    if not has_images:
        checker.refuse(f"has neither class folders (n01440764, ...) nor images in {root}")
    if "labels" not in checker.options:
        checker.refuse(
            f"has images without class folders in {root}; give dataset.labels, a file of lines 'image label', "
            "or the devkit's ILSVRC2012_validation_ground_truth.txt"
        )
    (path,) = checker.require(checker.find_path("labels", "file"))
    labels = _read_labels(path, wnids, checker)
    if problem := find_wrong_order(list(labels), list(labels.values()), wnids, f" in {path}"):
        checker.refuse(problem)
    labelled = sorted(labels.items())
    checker.check_images(root, [name for name, _ in labelled])
    return ClassificationData(
        images=[FileImage(name, root / name) for name, _ in labelled],
        labels=np.array([label for _, label in labelled], dtype=np.int64),
        class_names=names,
        templates=templates_by_class(templates, names, checker),
    )


def _read_labels(path: Path, wnids: list[str], checker: DatasetChecker) -> dict[str, int]:
    """Return image name -> class index, from lines `<image> <label>`, Kaggle's with commas, or the devkit's ids."""
    index_of_wnid = {wnid: i for i, wnid in enumerate(wnids)}
    labels: dict[str, int] = {}
    lines = read_lines(path)
    ids = [line for line in lines if line.strip()]
    if ids and all(parse_integer(line.strip()) is not None for line in ids):
        return map_ground_truth(ids, path, wnids, checker)
    for number, line in enumerate(lines, start=1):
        parts = line.replace(",", " ").split()
        if not parts or parts[0] == "ImageId":  # the header of Kaggle's file
            continue
        if len(parts) == 1:
            checker.refuse(
                f"has no label in line {number} of {path}; lines are 'image label', or all are ids, as in the devkit's "
                "ground truth"
            )
        name, label = parts[0], parts[1]
        if not is_image_name(name):
            name += ".JPEG"
        index = index_of_wnid[label] if label in index_of_wnid else parse_integer(label, len(wnids) - 1)
        if index is None:
            checker.refuse(
                f"has the label {short_repr(label)} in line {number} of {path}; it must be a wnid or 0 to "
                f"{len(wnids) - 1}"
            )
        if name in labels:
            checker.refuse(f"has {name} twice in {path}, again in line {number}")
        labels[name] = index
    return labels
