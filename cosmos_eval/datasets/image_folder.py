"""Class folders: a folder for each class with its images, as torchvision's ImageFolder reads it."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cosmos_core.printable import plural
from cosmos_eval.datasets.class_order import assign_class_names
from cosmos_eval.datasets.consistency import format_names
from cosmos_eval.datasets.data import ClassificationData, Data
from cosmos_eval.datasets.dataset_checks import IMAGE_SUFFIXES, DatasetChecker
from cosmos_eval.datasets.image_sources import FileImage
from cosmos_eval.datasets.imagenet_order import find_wrong_order, is_imagenet

SIDE_FOLDERS = ("__MACOSX", "@eaDir", "lost+found")
"""Folders that macOS, Synology (with thumbnails in it) and Linux create beside the data."""
UNREAD_SUFFIXES = frozenset(
    (".heic", ".heif", ".jxl", ".svg", ".psd", ".tga", ".eps", ".exr", ".hdr", ".dng", ".cr2", ".cr3", ".nef", ".arw")
)
"""Endings of images in formats that are not read."""


def read_image_folder(benchmark: Any, data_root: Path) -> Data:
    """Read every image below `path`; its class is the first folder of its path.

    Classes are in the order of the sorted folder names, or of their numbers if all are whole numbers. Images of a
    class are sorted by folder, then by file name. Hidden files, files without the ending of an image, and what systems
    and file servers add are ignored; images in formats that are not read become a remark.

    `prompts.class_names` is a map from folder to name with every folder in it, or a list: of the folders' names in any
    order, or in the folders' order (`class_order.py`). Without it, the folder's name is the class name.

    Options: `path` (folder).

    Raises:
        DataProblems: no folder, no classes, names that do not fit the folders, empty classes, unexpected counts.
    """
    checker = DatasetChecker(benchmark, data_root)
    (root,) = checker.require(checker.find_path("path", "folder"))
    folders = list_class_folders(root)
    if not folders:
        checker.refuse(f"has no class folders in {root}; put the images of each class in a folder of its own")
    prompts = benchmark.resolve_prompts()
    if prompts.templates is None and "templates" in benchmark.prompts:
        checker.refuse("has no prompt templates; give prompts.templates as a list, a file or a named set")
    if inner_folders := _inner_class_folders(root, folders):
        checker.add_remark(
            f"classes are the folders {format_names(folders)} in {root.name}, which contain folders in place of "
            "images, such "
            f"as {format_names(inner_folders)}; if these are the classes, let path name the folder above them"
        )
    allow_missing = "candidates_without_images" in checker.options
    in_order, class_names = assign_class_names(prompts.class_names, folders, checker, allow_missing)
    data = read_class_folders(root, in_order, class_names, prompts.templates, checker)
    if is_imagenet(class_names) and all(folder.isdecimal() for folder in folders):
        keys = [image.key for image in data.images]
        if problem := find_wrong_order(keys, data.labels, class_names, f" by the folders of {root}"):
            checker.refuse(problem)
    return checker.finish(data)


def _inner_class_folders(root: Path, folders: Sequence[str]) -> list[str]:
    """Return the folders in class folders if they may be the true classes; empty if they are not.

    They may be if no class folder has an image of its own, and there are more inner folders than class folders: `path`
    may name one level too high, such as a folder of `train` and `test`.
    """
    inner_folders: list[str] = []
    for folder in folders:
        with os.scandir(root / folder) as entries:
            if any(is_image_name(entry.name) for entry in entries):
                return []
        inner_folders += [f"{folder}/{name}" for name in list_class_folders(root / folder)]
    return inner_folders if len(inner_folders) > len(folders) else []


def read_class_folders(
    root: Path, folders: Sequence[str | None], class_names: list[str], templates: Any, checker: DatasetChecker
) -> ClassificationData:
    """Return the images of class folders; the label is the folder's index in `folders`.

    Args:
        folders: in class order, None for a class without a folder.
        class_names: in class order.
        templates: as in `templates_by_class`.
    """
    checker.image_folder = root
    keys: list[str] = []
    labels: list[int] = []
    unread_images: list[str] = []
    for label, folder in enumerate(folders):
        if folder is None:
            continue
        class_images, class_unread_images = find_images(root / folder)
        keys += [f"{folder}/{name}" for name in class_images]
        labels += [label] * len(class_images)
        unread_images += [f"{folder}/{name}" for name in class_unread_images]
    if unread_images:
        verb = "is" if len(unread_images) == 1 else "are"
        checker.add_remark(
            f"{plural(len(unread_images), 'image')} {verb} ignored, since their format is not read: "
            f"{format_names(unread_images)}; "
            "save them as JPEG or PNG"
        )
    return ClassificationData(
        images=[FileImage(key, root / key) for key in keys],
        labels=np.array(labels, dtype=np.int64),
        class_names=class_names,
        templates=templates_by_class(templates, class_names, checker),
    )


def list_class_folders(root: Path) -> list[str]:
    """Return the names of the folders in `root`, sorted, without hidden and side folders."""
    with os.scandir(root) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not is_side_folder(entry.name))


def is_side_folder(name: str) -> bool:
    """Whether a folder is hidden, or one that a system or a file server puts beside the data."""
    return name.startswith(".") or name in SIDE_FOLDERS


def find_images(folder: Path) -> tuple[list[str], list[str]]:
    """Return the images below a folder, and those in formats that are not read.

    Paths are relative to the folder, with `/`; images of the folder itself come before those of its sorted subfolders.
    """
    images, unread_images = [], []
    visited_folders = set()
    for current, inner_folders, names in os.walk(folder, followlinks=True):
        inner_folders[:] = sorted(name for name in inner_folders if not is_side_folder(name))  # os.walk visits these
        real_path = os.path.realpath(current)
        if real_path in visited_folders:  # a link to a folder above would be followed forever
            inner_folders[:] = []
            continue
        visited_folders.add(real_path)
        relative = Path(current).relative_to(folder).as_posix()
        prefix = "" if relative == "." else f"{relative}/"
        images += [prefix + name for name in sorted(names) if is_image_name(name)]
        unread_images += [prefix + name for name in names if _suffix(name) in UNREAD_SUFFIXES]
    return images, unread_images


def is_image_name(name: str) -> bool:
    """Whether a file is not hidden and has the ending of an image that is read."""
    return not name.startswith(".") and _suffix(name) in IMAGE_SUFFIXES


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - faster than a Path, for millions of names


def templates_by_class(templates: Any, class_names: list[str], checker: DatasetChecker) -> list[str] | list[list[str]]:
    """Return the templates of all classes, or one list for each class, in class order.

    Args:
        templates: a list for all classes, a map from class name to list, or None for a task without prompts.
    """
    if templates is None:
        return []
    if not isinstance(templates, dict):
        return list(templates)
    missing_names = [name for name in class_names if name not in templates]
    if missing_names:
        checker.refuse(
            f"has no prompts for {plural(len(missing_names), 'class', 'classes')}: {format_names(missing_names)}; add "
            "them to prompts.templates"
        )
    return [list(templates[name]) for name in class_names]
