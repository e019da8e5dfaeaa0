"""A folder for each class, as torchvision's ImageFolder reads it."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cosmos_eval.datasets.base import FileImage
from cosmos_eval.datasets.class_order import name_folders
from cosmos_eval.datasets.consistency import first
from cosmos_eval.datasets.data import ClassificationData, Data
from cosmos_eval.datasets.dataset_checks import IMAGE_SUFFIXES, Survey
from cosmos_eval.datasets.imagenet_order import is_imagenet, wrong_order

SIDE_FOLDERS = ("__MACOSX", "@eaDir", "lost+found")
"""Of macOS, of Synology (with thumbnails in it), and of Linux."""
OTHER_IMAGES = frozenset(
    (".heic", ".heif", ".jxl", ".svg", ".psd", ".tga", ".eps", ".exr", ".hdr", ".dng", ".cr2", ".cr3", ".nef", ".arw")
)
"""Endings of images that are not read, or only under another ending."""


def read_image_folder(benchmark: Any, data_root: Path) -> Data:
    """Every image below `path`; its class is the first folder on the way to it.

    Classes are in the order of the sorted folder names, or of their numbers where all are whole numbers; images are
    sorted by folder and file name within a class. Files that are no images (by their ending), hidden ones and what
    file servers put beside them are left out; images in formats that are not read are told. `prompts.class_names` is a
    map from folder to name (every folder must be in it), or a list of the folders' names in any order, or one in the
    folders' order (class_order.py); without it the folder's name is the class name.

    Options: `path` (folder).

    Raises:
        DataProblems: no folder, no classes, names that do not fit the folders, empty classes, counts not as expected.
    """
    survey = Survey(benchmark, data_root)
    (root,) = survey.there(survey.place("path", "folder"))
    folders = class_folders(root)
    if not folders:
        survey.refuse(f"finds no class folders in {root}; images must lie in one folder a class")
    words = benchmark.words()
    names, templates = words.class_names, words.templates
    if templates is None and "templates" in benchmark.prompts:
        survey.refuse("has no prompt templates; give prompts.templates as a list, a file or a named set")
    if deeper := _folders_in_place_of_images(root, folders):
        survey.remark(
            f"classes are the folders {first(folders)} in {root.name}, which hold folders and no image themselves, "
            f"such as {first(deeper)}: were these to be the classes, path would have to name the folder above them"
        )
    in_order, class_names = name_folders(names, folders, survey, "candidates_without_images" in survey.options)
    data = classes_of_folders(root, in_order, class_names, templates, survey)
    if is_imagenet(class_names) and all(folder.isdecimal() for folder in folders):
        keys = [image.key for image in data.images]
        if wrong := wrong_order(keys, data.labels, class_names, f" by the folders of {root}"):
            survey.refuse(wrong)
    return survey.finish(data)


def _folders_in_place_of_images(root: Path, folders: Sequence[str]) -> list[str]:
    """The folders within class folders, where all images lie in such and they are more than the classes."""
    inner: list[str] = []
    for folder in folders:
        with os.scandir(root / folder) as entries:
            if any(is_image(entry.name) for entry in entries):
                return []
        inner += [f"{folder}/{name}" for name in class_folders(root / folder)]
    return inner if len(inner) > len(folders) else []


def classes_of_folders(
    root: Path, folders: Sequence[str | None], class_names: list[str], templates: Any, survey: Survey
) -> ClassificationData:
    """The images of class folders, labelled by the folder's place in `folders`; a class without one is None."""
    survey.images_in = root
    keys: list[str] = []
    labels: list[int] = []
    passed_over: list[str] = []
    for label, folder in enumerate(folders):
        if folder is None:
            continue
        others: list[str] = []
        found = [f"{folder}/{name}" for name in images_below(root / folder, others)]
        passed_over += [f"{folder}/{name}" for name in others]
        keys += found
        labels += [label] * len(found)
    if passed_over:
        verb = "is" if len(passed_over) == 1 else "are"
        survey.remark(
            f"{len(passed_over):,} images {verb} passed over, of formats that are not read: {first(passed_over)}; save "
            "them as JPEG or PNG"
        )
    return ClassificationData(
        images=[FileImage(key, root / key) for key in keys],
        labels=np.array(labels, dtype=np.int64),
        class_names=class_names,
        templates=templates_by_class(templates, class_names, survey),
    )


def class_folders(root: Path) -> list[str]:
    """The names of the folders in `root`, sorted, hidden ones left out."""
    with os.scandir(root) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not is_side_folder(entry.name))


def is_side_folder(name: str) -> bool:
    """Whether a folder is hidden, or one that a system or a file server puts beside the data."""
    return name.startswith(".") or name in SIDE_FOLDERS


def images_below(folder: Path, passed_over: list[str] | None = None) -> list[str]:
    """Paths (with `/`) of the images below `folder`, folders in sorted order and names sorted in each; images in
    formats that are not read are added to `passed_over`."""
    found = []
    walked = set()
    for place, inner, names in os.walk(folder, followlinks=True):
        inner[:] = sorted(name for name in inner if not is_side_folder(name))
        real = os.path.realpath(place)
        if real in walked:  # a link to a folder above would go round for ever
            inner[:] = []
            continue
        walked.add(real)
        relative = Path(place).relative_to(folder).as_posix()
        start = "" if relative == "." else f"{relative}/"
        found += [start + name for name in sorted(names) if is_image(name)]
        if passed_over is not None:
            endings = ((name, os.path.splitext(name)[1].lower()) for name in names)  # noqa: PTH122 - hot
            passed_over += [start + name for name, ending in endings if ending in OTHER_IMAGES]
    return found


def is_image(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122 - hot


def templates_by_class(templates: Any, class_names: list[str], survey: Survey) -> list[str] | list[list[str]]:
    """Templates for every class, or each class's own from a map by class name; none for a task that asks for none."""
    if templates is None:
        return []
    if not isinstance(templates, dict):
        return list(templates)
    without = [name for name in class_names if name not in templates]
    if without:
        survey.refuse(f"has no prompts for {len(without):,} classes: {first(without)}; add them to prompts.templates")
    return [list(templates[name]) for name in class_names]
