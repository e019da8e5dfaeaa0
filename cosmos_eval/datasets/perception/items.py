"""Collecting the items of a perception benchmark, and leaving out those whose images are missing or damaged."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from cosmos_core.printable import plural
from cosmos_eval.datasets.consistency import format_names
from cosmos_eval.datasets.data import PerceptionData
from cosmos_eval.datasets.dataset_checks import IMAGE_SUFFIXES, DatasetChecker, is_outside_folder
from cosmos_eval.datasets.image_sources import FileImage, ImageSource
from cosmos_eval.datasets.perception.crops import Box, CroppedImage, is_outside
from cosmos_eval.datasets.perception.decode_check import decode_all
from cosmos_eval.progress import current_reporter

LEAVE_OUT = "leave_out_missing"
"""The option that leaves out items whose images are missing or cannot be decoded. Without it a missing image is a
problem."""


@dataclass(frozen=True)
class AnnotatedItem:
    """One item of an annotation file; its images are given by name."""

    name: str
    """Where a person finds the item in the file: `row 7`, `line 12`."""
    images: tuple[str, ...]
    texts: tuple[str, ...]
    subset: str
    box: Box | None = None
    """The box that is cut out of each of its images; None for the whole image."""
    groups: dict[str, str] = field(default_factory=dict)
    """Group -> the item's part in it (see `PerceptionData.groups`); "" for no part."""
    sets: dict[str, str] = field(default_factory=dict)
    """Kind of set -> the item's set (see `PerceptionData.sets`)."""


class ItemCollector:
    """Collects items with equal numbers of images and of texts, and builds `PerceptionData` from them.

    The name of an image is its path below the image folder. With `any_ending` it is the name of a file without its
    ending, and the folder has no subfolders.
    """

    def __init__(self, checker: DatasetChecker, *, any_ending: bool = False) -> None:
        self.checker = checker
        self.any_ending = any_ending
        self.items: list[AnnotatedItem] = []

    def add(self, item: AnnotatedItem) -> None:
        """Add an item.

        Raises:
            DataProblems: an image name that leads out of the folder, or an empty text.
        """
        outside = next((name for name in item.images if not name or is_outside_folder(name)), None)
        if outside is not None:
            self.checker.refuse(f"names an image outside its folder in {item.name}: {outside!r}")
        empty = next((number for number, text in enumerate(item.texts, start=1) if not text.strip()), None)
        if empty is not None:
            self.checker.refuse(f"has an empty text in {item.name} (text {empty} of {len(item.texts)})")
        self.items.append(item)

    def require_image_folder(self) -> Path:
        """Return the folder of the option `images`; of several alternatives the one with the first item's image.

        Raises:
            DataProblems: there is none, or the reader has found other problems.
        """
        first_image = self.items[0].images[0] if self.items and not self.any_ending else None
        folder = self.checker.find_path("images", "folder", containing=first_image)
        self.checker.raise_if_problems()
        assert folder is not None
        return folder

    def build(self, image_folder: Path, right_texts: int = 1) -> PerceptionData:
        """Build the data; items with missing images are left out if the definition says so, else they are a problem.

        Args:
            image_folder: the folder that the images' names are in.
            right_texts: how many of each item's texts are right, where not only the first is.

        Raises:
            DataProblems: there are no items, or an image name has two files.
        """
        if not self.items:
            self.checker.refuse("finds no items")
        names = list(dict.fromkeys(name for item in self.items for name in item.images))
        file_of_name = self._find_files(image_folder, names)
        reasons: dict[str, str] = {}
        if self.checker.options.get(LEAVE_OUT, False):
            reasons = self._find_reasons(image_folder, file_of_name)
            self.checker.record_counts(images=len(names), items=len(self.items))
        else:
            self.checker.check_images(image_folder, list(file_of_name.values()))
        data = self._build_data(reasons, {name: image_folder / file for name, file in file_of_name.items()})
        return replace(data, right_texts=right_texts)

    def _find_files(self, image_folder: Path, names: Sequence[str]) -> dict[str, str]:
        """Return the file of each image name; `name.jpg` if there is none with any ending."""
        if not self.any_ending:
            return {name: name for name in names}
        return find_any_ending(image_folder, names, self.checker)

    def _find_reasons(self, image_folder: Path, file_of_name: dict[str, str]) -> dict[str, str]:
        """Return the reasons for leaving out items.

        The keys are names of images that cannot be decoded (all of their items are left out), and names of items whose
        box is outside an image.
        """
        decoded = decode_all(image_folder, file_of_name, current_reporter())
        reasons = {name: f"{file_of_name[name]} {result.problem}" for name, result in decoded.items() if result.problem}
        for item in self.items:
            for name in item.images:
                if item.box is not None and name not in reasons and is_outside(item.box, decoded[name].size):
                    reasons[item.name] = f"the box {item.box} is outside {file_of_name[name]}"
        return reasons

    def _build_data(self, reasons: dict[str, str], path_of_name: dict[str, Path]) -> PerceptionData:
        images: list[ImageSource] = []
        image_index: dict[tuple[str, Box | None], int] = {}  # equal boxes of an image are one image
        text_index: dict[str, int] = {}
        items: list[AnnotatedItem] = []
        left_out = []
        for item in self.items:
            reason = next((reasons[name] for name in (item.name, *item.images) if name in reasons), None)
            if reason is not None:
                left_out.append(f"{item.name}: {reason}")
                continue
            items.append(item)
            for name in item.images:
                if (name, item.box) not in image_index:
                    image_index[name, item.box] = len(images)
                    images.append(_image_source(name, path_of_name[name], item.box))
            for text in item.texts:
                text_index.setdefault(text, len(text_index))
        # the shapes are those of all items, so that they are right if every item is left out
        images_per_item, texts_per_item = len(self.items[0].images), len(self.items[0].texts)
        item_images = [[image_index[name, item.box] for name in item.images] for item in items]
        item_texts = [[text_index[text] for text in item.texts] for item in items]
        group_names = dict.fromkeys(group for item in items for group in item.groups)
        return PerceptionData(
            images=images,
            texts=list(text_index),
            item_images=np.array(item_images, dtype=np.int64).reshape(-1, images_per_item),
            item_texts=np.array(item_texts, dtype=np.int64).reshape(-1, texts_per_item),
            subsets=[item.subset for item in items],
            groups={group: [item.groups.get(group, "") for item in items] for group in group_names},
            sets={kind: self._sets_of(kind, items) for kind in dict.fromkeys(k for item in items for k in item.sets)},
            left_out=tuple(left_out),
        )

    def _sets_of(self, kind: str, items: Sequence[AnnotatedItem]) -> list[str]:
        """Return the set of each item; "" where an item of the set is left out, for the set cannot be judged then."""
        sizes = Counter(item.sets.get(kind, "") for item in self.items)
        kept = Counter(item.sets.get(kind, "") for item in items)
        return [name if kept[name] == sizes[name] else "" for name in (item.sets.get(kind, "") for item in items)]


def find_any_ending(image_folder: Path, names: Sequence[str], checker: DatasetChecker) -> dict[str, str]:
    """Return the file of each image that is given by its name without an ending; `name.jpg` if there is none.

    Raises:
        DataProblems: a name has two files.
    """
    files_of_stem: dict[str, list[str]] = {}
    for file in sorted(os.listdir(image_folder)):  # noqa: PTH208 - names, tens of thousands
        stem, ending = os.path.splitext(file)  # noqa: PTH122 - hot
        if ending.lower() in IMAGE_SUFFIXES:
            files_of_stem.setdefault(stem, []).append(file)
    ambiguous = [" and ".join(files_of_stem[name]) for name in names if len(files_of_stem.get(name, ())) > 1]
    if ambiguous:
        checker.refuse(
            f"finds {plural(len(ambiguous), 'image')} twice in {image_folder}: {format_names(ambiguous)}; keep one of "
            "each"
        )
    return {name: files_of_stem.get(name, [f"{name}.jpg"])[0] for name in names}


def _image_source(name: str, path: Path, box: Box | None) -> ImageSource:
    if box is None:
        return FileImage(name, path)
    return CroppedImage(f"{name}[{','.join(map(str, box))}]", path, box)
