"""Items as a reader finds them: images by name, texts, parts; and what is left out for lack of images."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cosmos_eval.datasets.base import FileImage, ImageSource
from cosmos_eval.datasets.consistency import first
from cosmos_eval.datasets.data import PerceptionData
from cosmos_eval.datasets.dataset_checks import IMAGE_SUFFIXES, Survey, escapes
from cosmos_eval.datasets.perception.crops import Box, CroppedImage, shows_nothing
from cosmos_eval.datasets.perception.decodable import decode_all
from cosmos_eval.progress import shown_progress

LEAVE_OUT = "leave_out_missing"
"""The option: items whose images are missing or cannot be decoded are counted and left out. Without it a missing one
is a problem."""


@dataclass(frozen=True)
class Item:
    """One item before its images are looked for."""

    name: str
    """What a person finds it by in the file."""
    images: tuple[str, ...]
    texts: tuple[str, ...]
    subset: str
    box: Box | None = None
    """Cut out of each of its images."""
    parts: dict[str, str] = field(default_factory=dict)
    """The part that it belongs to in each group; "" for none."""


class Items:
    """Collects items of one shape and makes the data of them.

    An image is a file of its name below the folder; with `any_ending` the name is the file's without its ending, and
    the folder is flat.
    """

    def __init__(self, survey: Survey, *, any_ending: bool = False) -> None:
        self.survey = survey
        self.any_ending = any_ending
        self.items: list[Item] = []

    def add(self, item: Item) -> None:
        bad = next((name for name in item.images if not name or escapes(name)), None)
        if bad is not None:
            self.survey.refuse(f"names an image outside its folder in {item.name}: {bad!r}")
        empty = next((number for number, text in enumerate(item.texts, start=1) if not text.strip()), None)
        if empty is not None:
            self.survey.refuse(f"has an empty text in {item.name} (text {empty} of {len(item.texts)})")
        self.items.append(item)

    def folder(self, option: str = "images") -> Path | None:
        """The folder of the images: of several alternatives the one that has the first item's."""
        holding = self.items[0].images[0] if self.items and not self.any_ending else None
        return self.survey.place(option, "folder", holding=holding)

    def data(self, folder: Path) -> PerceptionData:
        """The items whose images are there; the others are a problem, or left out where the definition says so."""
        if not self.items:
            self.survey.refuse("finds no items")
        names = list(dict.fromkeys(name for item in self.items for name in item.images))
        files = self._files(folder, names)
        reasons: dict[str, str] = {}
        if self.survey.options.get(LEAVE_OUT, False):
            reasons = self._reasons(folder, files)
            self.survey.count(images=len(names), items=len(self.items))
        else:
            self.survey.images(folder, list(files.values()))
        return self._assemble(reasons, {name: folder / file for name, file in files.items()})

    def _files(self, folder: Path, names: Sequence[str]) -> dict[str, str]:
        if not self.any_ending:
            return {name: name for name in names}
        found: dict[str, list[str]] = {}
        for file in sorted(os.listdir(folder)):  # noqa: PTH208 - names, tens of thousands
            stem, ending = os.path.splitext(file)  # noqa: PTH122 - hot
            if ending.lower() in IMAGE_SUFFIXES:
                found.setdefault(stem, []).append(file)
        twice = [" and ".join(found[name]) for name in names if len(found.get(name, ())) > 1]
        if twice:
            self.survey.refuse(f"finds {len(twice):,} images twice in {folder}: {first(twice)}; keep one of each")
        return {name: found.get(name, [f"{name}.jpg"])[0] for name in names}

    def _reasons(self, folder: Path, files: dict[str, str]) -> dict[str, str]:
        """Why images, or the boxes of items, cannot be shown: by the image's name, or by the item's."""
        decoded = decode_all(folder, files, shown_progress())
        reasons = {name: f"{files[name]} {one.problem}" for name, one in decoded.items() if one.problem}
        for item in self.items:
            for name in item.images:
                if item.box is not None and name not in reasons and shows_nothing(item.box, decoded[name].size):
                    reasons[item.name] = f"the box {item.box} shows nothing of {files[name]}"
        return reasons

    def _assemble(self, reasons: dict[str, str], paths: dict[str, Path]) -> PerceptionData:
        images: list[ImageSource] = []
        image_place: dict[tuple[str, Box | None], int] = {}
        text_place: dict[str, int] = {}
        kept: list[Item] = []
        left_out = []
        for item in self.items:
            why = next((reasons[name] for name in (item.name, *item.images) if name in reasons), None)
            if why is not None:
                left_out.append(f"{item.name}: {why}")
                continue
            kept.append(item)
            for name in item.images:
                if (name, item.box) not in image_place:
                    image_place[name, item.box] = len(images)
                    images.append(_image(name, paths[name], item.box))
            for text in item.texts:
                text_place.setdefault(text, len(text_place))
        m, n = len(self.items[0].images), len(self.items[0].texts)
        item_images = [[image_place[name, item.box] for name in item.images] for item in kept]
        texts = [[text_place[text] for text in item.texts] for item in kept]
        groups = dict.fromkeys(group for item in kept for group in item.parts)
        return PerceptionData(
            images=images,
            texts=list(text_place),
            item_images=np.array(item_images, dtype=np.int64).reshape(-1, m),
            item_texts=np.array(texts, dtype=np.int64).reshape(-1, n),
            subsets=[item.subset for item in kept],
            groups={group: [item.parts.get(group, "") for item in kept] for group in groups},
            left_out=tuple(left_out),
        )


def _image(name: str, path: Path, box: Box | None) -> ImageSource:
    if box is None:
        return FileImage(name, path)
    return CroppedImage(f"{name}[{','.join(map(str, box))}]", path, box)
