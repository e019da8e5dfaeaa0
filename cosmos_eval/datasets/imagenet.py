"""ImageNet-1k validation (Russakovsky et al., IJCV 2015): class folders, or one flat folder with a file of labels."""

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cosmos_core.short_repr import short_repr
from cosmos_core.text_files import parse_integer, read_lines
from cosmos_eval.datasets.base import FileImage
from cosmos_eval.datasets.class_order import check_order
from cosmos_eval.datasets.consistency import first
from cosmos_eval.datasets.data import ClassificationData, Data
from cosmos_eval.datasets.dataset_checks import Survey
from cosmos_eval.datasets.folders import class_folders, classes_of_folders, is_image, templates_by_class
from cosmos_eval.datasets.imagenet_order import imagenet_names, wrong_order

WNID = re.compile(r"n\d{8}")


def imagenet_wnids() -> list[str]:
    """The 1,000 class ids in sorted order, which is the usual class index; as clip-benchmark lists them."""
    from clip_benchmark.datasets.builder import all_imagenet_wordnet_ids

    return list(all_imagenet_wordnet_ids)


def read_imagenet(benchmark: Any, data_root: Path) -> Data:
    """The 1,000 classes in the order of their wnids, whichever of the two layouts lies in `path`.

    Class folders: `path/<wnid>/*.JPEG`. Flat: `path/ILSVRC2012_val_*.JPEG` with `labels`, a text file of lines
    `<image> <label>` where the label is a wnid or the class index from 0 (Kaggle's LOC_val_solution.csv is one).
    The devkit's ILSVRC2012_validation_ground_truth.txt is refused: its ids from 1 to 1000 are in another order; so are
    labels made of it, by images whose class is known. Classes without an image compete all the same, and are told.

    Options: `path` (folder), `labels` (file, for the flat layout).

    Raises:
        DataProblems: fewer images than expected (with the class folders that are missing), images of the label
            file missing, labels that are no class or in another order.
    """
    survey = Survey(benchmark, data_root)
    wnids = imagenet_wnids()
    (root,) = survey.there(survey.place("path", "folder", holding=wnids[0]))
    words = benchmark.words()
    names = _names(words.class_names, wnids, survey)
    asked = "templates" in benchmark.prompts
    if len(names) != len(wnids) or (asked and words.templates is None):
        survey.refuse(
            f"needs prompts with {len(wnids):,} class names (imagenet1k) and templates, found {len(names):,} names"
        )
    folders = [folder for folder in class_folders(root) if WNID.fullmatch(folder)]
    if not folders:
        return survey.finish(replace(_flat(root, wnids, names, words.templates, survey), empty_classes_allowed=True))
    unknown = sorted(set(folders) - set(wnids))
    if unknown:
        survey.add(f"finds class folders in {root} that are not among ImageNet-1k's: {first(unknown)}")
    there = set(folders)
    in_order = [wnid if wnid in there else None for wnid in wnids]
    data = classes_of_folders(root, in_order, names, words.templates, survey)
    if len(there) < len(wnids) and survey.expected.get("images", len(data.images)) != len(data.images):
        missing = [wnid for wnid in wnids if wnid not in there]
        survey.add(f"needs {len(wnids):,} class folders in {root}, found {len(there):,}; missing: {first(missing)}")
    return survey.finish(replace(data, empty_classes_allowed=True))


def _names(given: Any, wnids: list[str], survey: Survey) -> list[str]:
    """The class names by wnid, from a map or a list in the order of the wnids."""
    if isinstance(given, dict):
        without = [wnid for wnid in wnids if wnid not in given]
        if without:
            survey.refuse(f"has no class name for {len(without):,} of ImageNet-1k's classes: {first(without)}")
        return [given[wnid] for wnid in wnids]
    names = list(given or ())
    published = imagenet_names()
    if len(names) == len(published) == len(wnids) and names != published:
        check_order(names, published, "prompts.class_names", survey)
    return names


def _flat(root: Path, wnids: list[str], names: list[str], templates: Any, survey: Survey) -> ClassificationData:
    with os.scandir(root) as entries:
        there = any(is_image(entry.name) for entry in entries)
    if not there:
        survey.refuse(f"finds neither class folders (n01440764, ...) nor images in {root}")
    if "labels" not in survey.options:
        survey.refuse(f"finds a flat folder {root}; give dataset.labels, a file of lines 'image label'")
    (path,) = survey.there(survey.place("labels", "file"))
    labels = _labels(path, wnids, survey)
    if wrong := wrong_order(list(labels), list(labels.values()), wnids, f" in {path}"):
        survey.refuse(wrong)
    labelled = sorted(labels.items())
    survey.images(root, [name for name, _ in labelled])
    return ClassificationData(
        images=[FileImage(name, root / name) for name, _ in labelled],
        labels=np.array([label for _, label in labelled], dtype=np.int64),
        class_names=names,
        templates=templates_by_class(templates, names, survey),
    )


def _labels(path: Path, wnids: list[str], survey: Survey) -> dict[str, int]:
    """Image name -> class index."""
    index = {wnid: i for i, wnid in enumerate(wnids)}
    labels: dict[str, int] = {}
    for number, line in enumerate(read_lines(path), start=1):
        parts = line.replace(",", " ").split()
        if not parts or parts[0] == "ImageId":
            continue
        if len(parts) == 1:
            survey.refuse(
                f"finds no label in line {number} of {path}; lines are 'image label' (the devkit's list of ids "
                "from 1 is in another class order)"
            )
        name, label = parts[0], parts[1]
        if not is_image(name):
            name += ".JPEG"
        if label in index:
            value = index[label]
        elif (number_of_class := parse_integer(label, len(wnids) - 1)) is not None:
            value = number_of_class
        else:
            survey.refuse(
                f"finds the label {short_repr(label)} in line {number} of {path}; it must be a wnid or 0 to "
                f"{len(wnids) - 1}"
            )
        if name in labels:
            survey.refuse(f"finds {name} twice in {path}, again in line {number}")
        labels[name] = value
    return labels
