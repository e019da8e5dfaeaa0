"""A folder for each class, as torchvision's ImageFolder reads it."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from cosmos_eval.datasets.base import ClassificationData, Data, FilePicture
from cosmos_eval.datasets.consistency import first
from cosmos_eval.datasets.survey import PICTURE_SUFFIXES, Survey


def read_image_folder(benchmark: Any, data_root: Path) -> Data:
    """Every picture below `path`; its class is the first folder on the way to it.

    Classes are in the order of the sorted folder names; pictures are sorted by folder and file name within a class.
    Files that are no pictures (by their ending) and hidden ones are left out. `prompts.class_names` is a list in that
    order or a map from folder to name (every folder must be in it); without it the folder's name is the class name.

    Options: `path` (folder).

    Raises:
        DataProblems: no folder, no classes, names that do not fit the folders, empty classes, counts not as expected.
    """
    survey = Survey(benchmark, data_root)
    (root,) = survey.there(survey.place("path", "folder"))
    folders = class_folders(root)
    if not folders:
        survey.refuse(f"finds no class folders in {root}; pictures must lie in one folder a class")
    words = benchmark.words()
    names, templates = words.class_names, words.templates
    if templates is None:
        survey.refuse("has no prompt templates; give prompts.templates as a list, a file or a named set")
    return survey.finish(classes_of_folders(root, folders, _names(names, folders, survey), templates, survey))


def classes_of_folders(
    root: Path, folders: list[str], class_names: list[str], templates: Any, survey: Survey
) -> ClassificationData:
    """The pictures of class folders, labelled by the folder's place in `folders`."""
    survey.pictures_in = root
    keys: list[str] = []
    labels: list[int] = []
    for label, folder in enumerate(folders):
        found = [f"{folder}/{name}" for name in pictures_below(root / folder)]
        keys += found
        labels += [label] * len(found)
    return ClassificationData(
        pictures=[FilePicture(key, root / key) for key in keys],
        labels=np.array(labels, dtype=np.int64),
        class_names=class_names,
        templates=templates_by_class(templates, class_names, survey),
    )


def class_folders(root: Path) -> list[str]:
    """The names of the folders in `root`, sorted, hidden ones left out."""
    with os.scandir(root) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def pictures_below(folder: Path) -> list[str]:
    """Paths (with `/`) of the pictures below `folder`, folders in sorted order and names sorted in each."""
    found = []
    walked = set()
    for place, inner, names in os.walk(folder, followlinks=True):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        real = os.path.realpath(place)
        if real in walked:  # a link to a folder above would go round for ever
            inner[:] = []
            continue
        walked.add(real)
        relative = Path(place).relative_to(folder).as_posix()
        start = "" if relative == "." else f"{relative}/"
        found += [start + name for name in sorted(names) if is_picture(name)]
    return found


def is_picture(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in PICTURE_SUFFIXES  # noqa: PTH122 - hot


def templates_by_class(templates: Any, class_names: list[str], survey: Survey) -> list[str] | list[list[str]]:
    """Templates for every class, or each class's own from a map by class name."""
    if not isinstance(templates, dict):
        return list(templates)
    without = [name for name in class_names if name not in templates]
    if without:
        survey.refuse(f"has no prompts for {len(without):,} classes: {first(without)}; add them to prompts.templates")
    return [list(templates[name]) for name in class_names]


def _names(names: Any, folders: list[str], survey: Survey) -> list[str]:
    if names is None:
        return list(folders)
    if isinstance(names, dict):
        without = [folder for folder in folders if folder not in names]
        if without:
            survey.refuse(
                f"has no class name for {len(without):,} folders: {first(without)}; add them to prompts.class_names"
            )
        empty = [folder for folder in names if folder not in folders]
        if empty:
            survey.refuse(f"has class names for {len(empty):,} folders that are not there: {first(empty)}")
        return [names[folder] for folder in folders]
    if len(names) != len(folders):
        survey.refuse(f"has {len(names):,} class names for {len(folders):,} class folders: {first(folders)}")
    return list(names)
