"""ImageNet-1k validation (Russakovsky et al., IJCV 2015): class folders, or one flat folder with a file of labels."""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from cosmos_core.text_files import read_lines
from cosmos_eval.datasets.base import ClassificationData, Data, FilePicture
from cosmos_eval.datasets.consistency import first
from cosmos_eval.datasets.folders import class_folders, classes_of_folders, is_picture, templates_by_class
from cosmos_eval.datasets.survey import Survey

WNID = re.compile(r"n\d{8}")


def imagenet_wnids() -> list[str]:
    """The 1,000 class ids in sorted order, which is the usual class index; as clip-benchmark lists them."""
    from clip_benchmark.datasets.builder import all_imagenet_wordnet_ids

    return list(all_imagenet_wordnet_ids)


def read_imagenet(benchmark: Any, data_root: Path) -> Data:
    """The 1,000 classes in the order of their wnids, whichever of the two layouts lies in `path`.

    Class folders: `path/<wnid>/*.JPEG`. Flat: `path/ILSVRC2012_val_*.JPEG` with `labels`, a text file of lines
    `<picture> <label>` where the label is a wnid or the class index from 0 (Kaggle's LOC_val_solution.csv is one).
    The devkit's ILSVRC2012_validation_ground_truth.txt is refused: its ids from 1 to 1000 are in another order.

    Options: `path` (folder), `labels` (file, for the flat layout).

    Raises:
        DataProblems: class folders missing (named), pictures of the label file missing, labels that are no class.
    """
    survey = Survey(benchmark, data_root)
    wnids = imagenet_wnids()
    (root,) = survey.there(survey.place("path", "folder", holding=wnids[0]))
    words = benchmark.words()
    names = list(words.class_names or ())
    if len(names) != len(wnids) or words.templates is None:
        survey.refuse(
            f"needs prompts with {len(wnids):,} class names (imagenet1k) and templates, found {len(names):,} names"
        )
    folders = [folder for folder in class_folders(root) if WNID.fullmatch(folder)]
    if folders:
        missing = sorted(set(wnids) - set(folders))
        if missing:
            survey.add(
                f"needs {len(wnids):,} class folders in {root}, found {len(folders):,}; missing: {first(missing)}"
            )
        unknown = sorted(set(folders) - set(wnids))
        if unknown:
            survey.add(f"finds class folders in {root} that are not among ImageNet-1k's: {first(unknown)}")
        survey.stop_if_any()
        return survey.finish(classes_of_folders(root, wnids, names, words.templates, survey))
    return survey.finish(_flat(root, wnids, names, words.templates, survey))


def _flat(root: Path, wnids: list[str], names: list[str], templates: Any, survey: Survey) -> ClassificationData:
    with os.scandir(root) as entries:
        there = any(is_picture(entry.name) for entry in entries)
    if not there:
        survey.refuse(f"finds neither class folders (n01440764, ...) nor pictures in {root}")
    if "labels" not in survey.options:
        survey.refuse(f"finds a flat folder {root}; give dataset.labels, a file of lines 'picture label'")
    (path,) = survey.there(survey.place("labels", "file"))
    labelled = sorted(_labels(path, wnids, survey).items())
    survey.pictures(root, [name for name, _ in labelled])
    return ClassificationData(
        pictures=[FilePicture(name, root / name) for name, _ in labelled],
        labels=np.array([label for _, label in labelled], dtype=np.int64),
        class_names=names,
        templates=templates_by_class(templates, names, survey),
    )


def _labels(path: Path, wnids: list[str], survey: Survey) -> dict[str, int]:
    """Picture name -> class index."""
    index = {wnid: i for i, wnid in enumerate(wnids)}
    labels: dict[str, int] = {}
    for number, line in enumerate(read_lines(path), start=1):
        parts = line.replace(",", " ").split()
        if not parts or parts[0] == "ImageId":
            continue
        if len(parts) == 1:
            survey.refuse(
                f"finds no label in line {number} of {path}; lines are 'picture label' (the devkit's list of ids "
                "from 1 is in another class order)"
            )
        name, label = parts[0], parts[1]
        if not is_picture(name):
            name += ".JPEG"
        if label in index:
            value = index[label]
        elif label.isdecimal() and int(label) < len(wnids):
            value = int(label)
        else:
            survey.refuse(
                f"finds the label {label!r} in line {number} of {path}; it must be a wnid or 0 to {len(wnids) - 1}"
            )
        if name in labels:
            survey.refuse(f"finds {name} twice in {path}, again in line {number}")
        labels[name] = value
    return labels
