"""ObjectNet (Barbu et al., NeurIPS 2019) as its archive is unpacked: `objectnet-1.0/images` and its `mappings`."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_core.json_text import read_json
from cosmos_core.printable import plural
from cosmos_core.short_repr import short_repr
from cosmos_eval.datasets.consistency import format_names
from cosmos_eval.datasets.data import ClassificationData, Data
from cosmos_eval.datasets.dataset_checks import DatasetChecker
from cosmos_eval.datasets.image_folder import list_class_folders, read_class_folders
from cosmos_eval.datasets.image_sources import EditedImage, FileImage

FOLDER_NAMES = "folder_to_objectnet_label.json"
"""Folder of images -> name of its class; all 313 classes."""
IMAGENET_CLASSES = "objectnet_to_imagenet_1k.json"
"""Name of a class -> its classes of ImageNet-1k, joined by `; `; only the 113 classes that ImageNet-1k has, too."""


def read_objectnet(benchmark: Any, data_root: Path) -> Data:
    """Read the classes that ImageNet-1k has, too, of `path/images/<folder>/*.png`.

    Classes are in the order of their sorted folders, with ObjectNet's names in lower case: the classes, names and
    order of clip-benchmark's dataset, and so of its shards. Which classes these are is read from the archive's own
    `mappings`. Folders of the other 200 classes are left out; they need not be there.

    Options: `path` (folder with `images` and `mappings`), `border` (pixels that are cut off each side before
    preprocessing; the authors draw a red border of one pixel around each image; 0 as clip-benchmark).

    Raises:
        DataProblems: missing files, a mapping without one of the classes, folders that are missing, unexpected counts.
        RequestError: a mapping is not JSON.
    """
    checker = DatasetChecker(benchmark, data_root)
    (root,) = checker.require(checker.find_path("path", "folder", containing="mappings"))
    border = int(checker.options.get("border", 0))
    image_folder = root / "images"
    if not image_folder.is_dir():
        checker.add_missing(f"the folder {image_folder}", image_folder)
    names_by_folder = _read_mapping(root / "mappings" / FOLDER_NAMES, checker)
    imagenet_classes = _read_mapping(root / "mappings" / IMAGENET_CLASSES, checker)
    checker.raise_if_problems()
    unnamed = sorted(set(imagenet_classes) - set(names_by_folder.values()))
    if unnamed:
        checker.refuse(
            f"finds no folder in mappings/{FOLDER_NAMES} for classes of mappings/{IMAGENET_CLASSES}: "
            f"{format_names(unnamed)}; unpack the archive again"
        )
    folders = sorted(folder for folder, name in names_by_folder.items() if name in imagenet_classes)
    existing = set(list_class_folders(image_folder))
    missing = [folder for folder in folders if folder not in existing]
    if missing:
        checker.refuse(
            f"needs {plural(len(folders), 'class folder')} in {image_folder} and lacks {len(missing):,} of them: "
            f"{format_names(missing)}; unpack the whole archive"
        )
    prompts = benchmark.resolve_prompts()
    class_names = [names_by_folder[folder].lower() for folder in folders]
    data = read_class_folders(image_folder, folders, class_names, prompts.templates, checker)
    if border:
        data = _cut_borders(data, border)
    return checker.finish(data)


def _read_mapping(path: Path, checker: DatasetChecker) -> dict[str, str]:
    """Return a map of texts from a JSON file; an empty one if the file is missing, which is then a problem."""
    if not path.is_file():
        checker.add_missing(f"the file {path}", path)
        return {}
    content = read_json(path)
    if not isinstance(content, dict) or not content:
        checker.refuse(f"finds no map in {path}; unpack the archive again")
    for key, value in content.items():
        if not isinstance(value, str) or not value.strip():
            checker.refuse(
                f"finds {short_repr(value)} for {json.dumps(key)} in {path}; it must be text: unpack the archive again"
            )
    return content


def _cut_borders(data: ClassificationData, border: int) -> ClassificationData:
    images = [BorderlessImage(image.key, image.path, border) for image in data.images if isinstance(image, FileImage)]
    return replace(data, images=images)


@dataclass(frozen=True)
class BorderlessImage(EditedImage):
    """An image in a file, without some pixels of each side."""

    border: int

    @property
    def recipe(self) -> bytes:
        return f"border {self.border}\n".encode()

    def edit(self, image: Image.Image) -> Image.Image:
        right, lower = image.width - self.border, image.height - self.border
        if right <= self.border or lower <= self.border:
            raise RequestError(
                f"{self.path} has {image.width} x {image.height} pixels, nothing is left without a border of "
                f"{self.border}: lower dataset.border"
            )
        return image.crop((self.border, self.border, right, lower))
