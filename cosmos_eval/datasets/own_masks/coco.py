"""Masks that are drawn from COCO's JSON (`images`, `categories`, `annotations`): polygons and run lengths.

Where regions of different classes overlap, regions of crowds (`iscrowd`) are drawn first, then objects from the largest
to the smallest, so that a smaller object is on top of a larger one (a cup on a table, a tie on a person); of equal
areas, the later one in the file is on top. The order in the file is not used otherwise: annotation tools, and programs
that merge or split files, write annotations in any order, so it says nothing about depth. `data prepare coco-object`
has the same rule. The area is that of the drawn region; `area` in the file may be that of a box, or outdated.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cosmos_core.errors import RequestError
from cosmos_core.json_text import read_json
from cosmos_core.printable import plural, printable
from cosmos_core.short_repr import short_repr
from cosmos_eval.datasets.coco_regions import ShapeError, area_of, draw_runs, read_runs
from cosmos_eval.datasets.consistency import format_names
from cosmos_eval.datasets.dataset_checks import DatasetChecker
from cosmos_eval.datasets.masks import Mask
from cosmos_eval.datasets.perception.annotation_files import require_value
from cosmos_eval.metrics.iou import IGNORED


@dataclass(frozen=True)
class Region:
    """One annotation of an image."""

    annotation: int | str
    """Its id, for messages."""
    label: int
    """Index of its class."""
    is_crowd: bool
    segmentation: Any
    """As in the JSON: polygons, or run lengths."""


@dataclass(frozen=True, eq=False)
class CocoMask(Mask):
    """The mask of one image of a COCO JSON; it is drawn when it is loaded."""

    key: str
    path: Path
    """The JSON."""
    drawn_size: tuple[int, int]
    """Width and height in the JSON."""
    regions: tuple[Region, ...]
    uncovered: int
    """Label of pixels in no region."""

    modes = ("L",)
    turned = False

    def load(self) -> np.ndarray:
        """Return the labels (H, W) uint8.

        Raises:
            RequestError: a region that cannot be drawn; names the annotation.
        """
        width, height = self.drawn_size
        drawn: list[tuple[bool, int, np.ndarray, int]] = []
        for region in self.regions:
            try:
                runs = read_runs(region.segmentation, height, width)
            except ShapeError as error:
                raise RequestError(
                    f"cannot draw annotation {printable(str(region.annotation))} of {self.key} in "
                    f"{printable(self.path)}: {error}; correct it"
                ) from error
            drawn.append((region.is_crowd, area_of(runs), runs, region.label))
        drawn.sort(key=lambda shape: (not shape[0], -shape[1]))  # stable: of equal areas, the later one comes last
        labels = np.full((height, width), self.uncovered, dtype=np.uint8)
        for _, _, runs, label in drawn:
            labels[draw_runs(runs, height, width)] = label
        return labels


@dataclass
class CocoImages:
    """The content of a COCO JSON, with its types checked."""

    path: Path
    categories: dict[int | str, str]
    """Id -> name, in the order of ids."""
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    """File name of an image -> width and height; sorted by name."""
    annotations: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """File name -> annotations of the image, in the order of the file."""

    def make_masks(self, class_names: Sequence[str], background: str | None, checker: DatasetChecker) -> list[CocoMask]:
        """Return the mask of each image.

        Args:
            class_names: classes by index; categories are matched by name.
            background: class of the pixels in no region; None: they are ignored.

        Raises:
            DataProblems: a category with annotations that is not a class, or a background that is none.
        """
        if background is not None and background not in class_names:
            checker.refuse(
                f"has the background {background!r}, which is not among the classes: {format_names(class_names)}"
            )
        index_of_name = {name: i for i, name in enumerate(class_names)}
        used = {annotation["category_id"] for records in self.annotations.values() for annotation in records}
        unknown = [name for category, name in self.categories.items() if category in used and name not in index_of_name]
        if unknown:
            verb = "is" if len(unknown) == 1 else "are"
            checker.refuse(
                f"has annotations of {format_names(unknown)} in {self.path}, which {verb} not among the classes: "
                f"{format_names(class_names)}; write dataset.class_names as the categories are called"
            )
        uncovered = IGNORED if background is None else index_of_name[background]
        masks = []
        for name, size in self.sizes.items():
            regions = tuple(
                Region(
                    record["id"],
                    index_of_name[self.categories[record["category_id"]]],
                    bool(record.get("iscrowd", 0)),
                    record["segmentation"],
                )
                for record in self.annotations[name]
            )
            masks.append(CocoMask(name, self.path, size, regions, uncovered))
        if background is None:
            empty = [mask.key for mask in masks if not mask.regions]
            if empty:
                checker.add_remark(
                    f"all pixels of {plural(len(empty), 'image')} without an annotation are ignored "
                    f"(dataset.background would give them a class): {format_names(empty)}"
                )
        return masks


def read_coco_json(path: Path, checker: DatasetChecker) -> CocoImages:
    """Read a COCO JSON with segmentations.

    Raises:
        DataProblems: a list, key or type that is missing; an id, name or category that is there twice or is unknown; an
            annotation without segmentation.
        RequestError: not JSON.
    """
    content = read_json(path, finite=True)
    lists: dict[str, list[Any]] = {}
    for name in ("images", "categories", "annotations"):
        value = content.get(name) if isinstance(content, dict) else None
        if not isinstance(value, list):
            checker.refuse(f"has no list {name!r} in {path}; it needs COCO's images, categories and annotations")
        lists[name] = value
    categories: dict[int | str, str] = {}
    for i, category in enumerate(lists["categories"]):
        where = f"categories[{i}] of {path}"
        name = require_value(category, "name", str, where, checker).strip()
        category_id = _require_id(category, "id", where, checker)
        if category_id in categories or name in categories.values():
            checker.refuse(f"has the category {short_repr(name)} (id {category_id}) twice in {path}")
        categories[category_id] = name
    categories = dict(sorted(categories.items(), key=lambda item: (isinstance(item[0], str), item[0])))
    found = CocoImages(path, categories)
    name_of_id: dict[int | str, str] = {}
    for i, image in enumerate(lists["images"]):
        where = f"images[{i}] of {path}"
        name = require_value(image, "file_name", str, where, checker)
        image_id = _require_id(image, "id", where, checker)
        if image_id in name_of_id or name in found.sizes:
            checker.refuse(f"has the image {short_repr(name)} (id {image_id}) twice in {path}")
        name_of_id[image_id] = name
        width, height = (require_value(image, key, int, where, checker) for key in ("width", "height"))
        found.sizes[name] = (width, height)
    if not name_of_id:
        checker.refuse(f"has no images in {path}")
    found.sizes = dict(sorted(found.sizes.items()))
    found.annotations = {name: [] for name in found.sizes}
    _sort_annotations(lists["annotations"], name_of_id, found, checker)
    return found


def _sort_annotations(
    records: list[Any], name_of_id: dict[int | str, str], found: CocoImages, checker: DatasetChecker
) -> None:
    """Check annotations, and add each to those of its image."""
    without_region = []
    for i, record in enumerate(records):
        where = f"annotations[{i}] of {found.path}"
        image_id = _require_id(record, "image_id", where, checker)
        category_id = _require_id(record, "category_id", where, checker)
        annotation = record.get("id", i)
        if not isinstance(annotation, int | str):
            annotation = i
        if image_id not in name_of_id or category_id not in found.categories:
            what = f"image {image_id!r}" if image_id not in name_of_id else f"category {category_id!r}"
            checker.refuse(f"has an annotation of the {what}, which is not listed, in {where}")
        if not record.get("segmentation"):
            without_region.append(str(annotation))
            continue
        found.annotations[name_of_id[image_id]].append({**record, "id": annotation})
    if without_region:
        checker.refuse(
            f"has {len(without_region):,} annotations without a segmentation (boxes only) in {found.path}: "
            f"{format_names(without_region)}; export polygons or masks, or remove them"
        )


def _require_id(record: Any, key: str, where: str, checker: DatasetChecker) -> int | str:
    """Return an id, a whole number or a text."""
    value = record.get(key) if isinstance(record, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | str):
        checker.refuse(f"finds no {key!r} (a whole number or a text) in {where}")
    return value
