"""Torchvision's datasets as clip-benchmark builds them, with its class names and templates; nothing is downloaded."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_core.image_files import to_rgb
from cosmos_core.printable import plural
from cosmos_core.text_files import impostor_at
from cosmos_eval.datasets.cifar import CIFAR, require_published_files, safe_unpickling
from cosmos_eval.datasets.class_order import check_class_order
from cosmos_eval.datasets.consistency import format_names
from cosmos_eval.datasets.data import ClassificationData, Data
from cosmos_eval.datasets.data.base import new_indices
from cosmos_eval.datasets.dataset_checks import DatasetChecker
from cosmos_eval.datasets.image_folder import find_images, templates_by_class
from cosmos_eval.datasets.image_sources import ArrayImage, FileImage, ImageSource
from cosmos_eval.datasets.substitution import substituted

NEEDED: dict[str, tuple[str, ...]] = {
    "caltech101": ("caltech101/101_ObjectCategories",),
    "cars": (
        "stanford_cars/cars_test_annos_withlabels.mat",
        "stanford_cars/devkit/cars_meta.mat",
        "stanford_cars/cars_test",
    ),
    "cifar10": ("cifar-10-batches-py",),
    "cifar100": ("cifar-100-python",),
    "country211": ("country211/{split}",),
    "dtd": ("dtd/dtd/labels/{split}1.txt", "dtd/dtd/images"),
    "eurosat": ("eurosat/2750",),
    "fgvc_aircraft": (
        "fgvc-aircraft-2013b/data/variants.txt",
        "fgvc-aircraft-2013b/data/images_variant_{split}.txt",
        "fgvc-aircraft-2013b/data/images",
    ),
    "fer2013": ("{split}",),
    "flowers": ("flowers-102/setid.mat", "flowers-102/imagelabels.mat", "flowers-102/jpg"),
    "food101": ("food-101/meta/{split}.json", "food-101/images"),
    "gtsrb": ("gtsrb/GTSRB/Final_Test/Images", "gtsrb/GT-final_test.csv"),
    "mnist": tuple(
        f"MNIST/raw/{part}-{kind}-ubyte" for part in ("t10k", "train") for kind in ("images-idx3", "labels-idx1")
    ),
    "pets": ("oxford-iiit-pet/annotations/{split}.txt", "oxford-iiit-pet/images"),
    "renderedsst2": ("rendered-sst2/{split}/negative", "rendered-sst2/{split}/positive"),
    "stl10": tuple(
        f"stl10_binary/{file}"
        for file in ("test_X.bin", "test_y.bin", "class_names.txt", "train_X.bin", "train_y.bin", "unlabeled_X.bin")
    ),
    "sun397": ("SUN397/ClassName.txt",),
}
"""Dataset -> what torchvision reads below the builder's root folder; checked before the builder is called."""

NEEDED_OF_SPLIT: dict[tuple[str, str], tuple[str, ...]] = {
    ("gtsrb", "train"): ("gtsrb/GTSRB/Training",),
    ("renderedsst2", "val"): ("rendered-sst2/valid/negative", "rendered-sst2/valid/positive"),
}
"""Dataset and split -> what torchvision reads of it, where that differs from the other splits."""

CALTECH_FOLDER = "101_ObjectCategories"
_LOCK = RLock()
"""Held while module attributes are replaced (`forbid_commands`), which all threads see."""


def read_torchvision(benchmark: Any, data_root: Path) -> Data:
    """Read a dataset of clip-benchmark's builder, in torchvision's folder layout below `path`.

    The order of images is the dataset's; where torchvision takes the file system's (SUN397), they are sorted by path.

    Options:
        dataset, path, split: clip-benchmark's name, what it calls root, and the split (test).
        without: names of classes that are left out.
        random_split, skip: a random part, given by a seed and a number of images: what PyTorch's `random_split` with
            a generator of that seed leaves after the first `skip` images.
        published: false reads files in CIFAR's layout that are not the published ones. Their checksums are not
            compared, but they may contain only arrays and plain values, too.

    Raises:
        DataProblems: files missing (named), unexpected counts, a checksum that differs (CIFAR, Flowers).
        RequestError: a dataset that is not read from files, or that the builder cannot open.
    """
    checker = DatasetChecker(benchmark, data_root)
    name, split = checker.options["dataset"], checker.options.get("split", "test")
    if name not in NEEDED:
        readable = ", ".join(sorted(NEEDED))
        checker.refuse(
            f"names {name!r}, which is not a dataset of clip-benchmark that can be read; those are {readable}"
        )
    root = _find_root(checker, name, split)
    published = bool(checker.options.get("published", True))
    checksums = require_published_files(root, name, checker) if name in CIFAR and published else None
    dataset = _build(root, name, split, checker, published, checksums)
    labels = _read_labels(dataset)
    images = _list_images(dataset, root, len(labels), checker)
    order = list(range(len(images)))
    if name == "sun397":
        order.sort(key=lambda i: images[i].key)
    class_names = [str(class_name) for class_name in dataset.classes]
    _refuse_stray_folders(dataset, root, len(class_names), checker)
    out_of_range = np.flatnonzero((labels < 0) | (labels >= len(class_names)))
    if len(out_of_range):
        wrong = format_names(f"{images[i].key} ({labels[i]})" for i in out_of_range)
        count = plural(len(out_of_range), "label")
        checker.refuse(f"has {count} outside 0 to {len(class_names) - 1} below {root}: {wrong}")
    labels, order, class_names = _leave_out_classes(labels, order, class_names, checker)
    order = _take_random_part(order, checker)
    prompts = benchmark.resolve_prompts()
    if prompts.class_names is not None:
        if isinstance(prompts.class_names, dict) or len(prompts.class_names) != len(class_names):
            checker.refuse(f"needs prompts.class_names as a list of {len(class_names):,} names, in the dataset's order")
        check_class_order(prompts.class_names, class_names, "prompts.class_names", checker)
        class_names = list(prompts.class_names)
    templates = dataset.templates if prompts.templates is None else prompts.templates
    images_in_order = [images[i] for i in order]
    file_names = [image.key for image in images_in_order if isinstance(image, FileImage)]
    if file_names:
        checker.check_images(root, file_names)
    return checker.finish(
        ClassificationData(
            images=images_in_order,
            labels=labels[order],
            class_names=class_names,
            templates=templates_by_class(templates, class_names, checker),
        )
    )


@dataclass(frozen=True, eq=False)
class IndexedImage(ImageSource):
    """An image that only the code of its dataset can decode."""

    key: str
    dataset: Any
    """A torchvision dataset of (PIL image, label)."""
    index: int

    def content(self) -> bytes:
        return self._pixel_bytes(self._decode())

    def load(self) -> Image.Image:
        image = self._decode()
        self.require_unchanged(self._pixel_bytes(image))
        return image

    def _pixel_bytes(self, image: Image.Image) -> bytes:
        return repr(image.size).encode() + image.tobytes()

    def _decode(self) -> Image.Image:
        try:
            image = self.dataset[self.index][0]
            return to_rgb(image)
        except Exception as error:  # the dataset's code may raise anything for a damaged file
            raise RequestError(f"cannot decode the image {self.key}: {error}; replace the file") from error


def _find_root(checker: DatasetChecker, name: str, split: str) -> Path:
    """Return the folder for the builder, in which everything that is needed exists.

    Of several alternatives in `path`, the one with most of the needed files is chosen, and what it lacks is reported.
    If none has any, one message names all alternatives.
    """
    option_value = checker.options["path"]
    alternatives = [option_value] if isinstance(option_value, str) else option_value
    folders = [checker.resolve_path(folder) for folder in alternatives]
    needed = [path.format(split=split) for path in NEEDED_OF_SPLIT.get((name, split), NEEDED[name])]
    root = max(folders, key=lambda folder: sum((folder / path).exists() for path in needed))
    if not any((root / path).exists() for path in needed):
        others = f" (and with it {', '.join(needed[1:])})" if needed[1:] else ""
        checker.add_missing(" or ".join(str(folder / needed[0]) for folder in folders) + others)
        needed = []
    for path in needed:
        if not (root / path).exists():
            checker.add_missing(str(root / path), root / path)
        elif (root / path).is_file() and (impostor := impostor_at(root / path)):
            checker.add_problem(f"cannot read {root / path}: it is {impostor}")
    checker.raise_if_problems()
    return root


def _build(
    root: Path, name: str, split: str, checker: DatasetChecker, published: bool, checksums: dict[str, str] | None
) -> Any:
    """Return the torchvision dataset that clip-benchmark builds."""
    from clip_benchmark.datasets.builder import build_dataset

    try:
        with forbid_commands(), safe_unpickling(published, checksums):
            return build_dataset(name, root=str(root), transform=None, split=split, download=False)
    except RequestError:
        raise
    except (Exception, SystemExit) as error:  # foreign code reading foreign files: it may raise anything, or exit
        reason = " ".join(str(error).split()).replace(" You can use download=True to download it", "")
        checker.refuse(
            f"cannot be read by clip-benchmark from {root}: {reason or type(error).__name__}{checker.take_hint()}"
        )


@contextmanager
def forbid_commands() -> Iterator[None]:
    """Inside the block, clip-benchmark's builder can neither run a shell command nor download a file."""
    from clip_benchmark.datasets import builder

    def refuse(command: Any, *args: Any, **kwargs: Any) -> Any:
        raise RequestError(f"clip-benchmark wanted to run {str(command)[:80]!r}; nothing is downloaded here")

    with (
        _LOCK,
        substituted(builder, "call", refuse),
        substituted(os, "popen", refuse),
        substituted(os, "system", refuse),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", message="split argument ignored")  # the definition says which split it is
        warnings.filterwarnings("ignore", message=".*shardshuffle")  # nothing is shuffled here
        yield


def _read_labels(dataset: Any) -> np.ndarray:
    """Return (N,) int64 labels, from whichever attribute the torchvision dataset has, so that no image is decoded."""
    for attribute in ("targets", "_labels", "labels", "y"):
        if hasattr(dataset, attribute):
            return np.asarray(getattr(dataset, attribute), dtype=np.int64)
    for attribute in ("samples", "_samples"):
        if hasattr(dataset, attribute):
            return np.array([int(sample[1]) for sample in getattr(dataset, attribute)], dtype=np.int64)
    return np.array([int(dataset[i][1]) for i in range(len(dataset))], dtype=np.int64)


def _list_images(dataset: Any, root: Path, count: int, checker: DatasetChecker) -> list[ImageSource]:
    """Return the dataset's images as arrays or files where it shows these, else as images that its code decodes."""
    pixels = _pixel_arrays(dataset)
    if pixels is not None:
        return [ArrayImage(f"{i:05d}", image_pixels) for i, image_pixels in enumerate(pixels)]
    paths = _list_files(dataset)
    if paths is None:
        return [IndexedImage(f"{i:05d}", dataset, i) for i in range(count)]
    outside = [str(path) for path in paths if not path.is_relative_to(root)]
    if outside:
        checker.refuse(f"would read images outside {root}, which torchvision lists: {format_names(outside)}")
    return [FileImage(path.relative_to(root).as_posix(), path) for path in paths]


def _list_files(dataset: Any) -> list[Path] | None:
    """Return the image files of a torchvision dataset; None if it does not list them."""
    for attribute in ("_image_files", "_images", "samples", "_samples"):
        if hasattr(dataset, attribute):
            samples = getattr(dataset, attribute)  # paths, or tuples that begin with one
            return [Path(sample[0] if isinstance(sample, tuple | list) else sample) for sample in samples]
    if hasattr(dataset, "categories") and hasattr(dataset, "index"):  # Caltech101 numbers the files of each class
        folder = Path(dataset.root) / CALTECH_FOLDER
        numbered = zip(dataset.y, dataset.index, strict=True)
        return [folder / dataset.categories[label] / f"image_{number:04d}.jpg" for label, number in numbered]
    return None


def _pixel_arrays(dataset: Any) -> np.ndarray | None:
    """Return (N, H, W, 3) uint8 images of a dataset in memory; None for others.

    CIFAR has this shape, STL-10 has channels first, MNIST is grey (N, H, W).
    """
    data = getattr(dataset, "data", None)
    if data is None or not hasattr(data, "dtype"):
        return None
    data = np.asarray(data)
    if data.dtype != np.uint8 or data.ndim not in (3, 4):
        return None
    if data.ndim == 3:
        data = np.repeat(data[..., np.newaxis], 3, axis=-1)
    elif data.shape[-1] != 3 and data.shape[1] == 3:
        data = data.transpose(0, 2, 3, 1)
    return np.ascontiguousarray(data) if data.shape[-1] == 3 else None


def _refuse_stray_folders(dataset: Any, root: Path, classes: int, checker: DatasetChecker) -> None:
    """Refuse a folder among the class folders that is not a class: every class after it would get the next label.

    The builder labels images by the folders it finds, but takes the class names from a list of its own. A folder
    without images (`__MACOSX`) is the stray one; if all have images, the last ones, for which there is no name, are
    shown.
    """
    folders = list(getattr(dataset, "categories", None) or getattr(dataset, "class_to_idx", {}))
    if not folders or len(folders) == classes:
        return
    if hasattr(dataset, "categories"):
        parent = Path(dataset.root) / CALTECH_FOLDER
    else:
        samples = getattr(dataset, "samples", None) or [(str(root), 0)]
        parent = Path(samples[0][0]).parent.parent
    stray_folders = [name for name in folders if not find_images(parent / name)[0]] or folders[classes:]
    advice = f"no class: {format_names(stray_folders)}; remove it" if stray_folders else "unpack the archive again"
    checker.refuse(f"needs {plural(classes, 'class folder')} in {parent}, found {len(folders):,}; {advice}")


def _leave_out_classes(
    labels: np.ndarray, order: list[int], class_names: list[str], checker: DatasetChecker
) -> tuple[np.ndarray, list[int], list[str]]:
    """Return labels, order and class names without the classes of the option `without`; the others keep their order.

    Labels of images that are left out become -1; their indices are not in the returned order.
    """
    left_out = checker.options.get("without", [])
    unknown = [name for name in left_out if name not in class_names]
    if unknown:
        checker.refuse(f"leaves out classes that the dataset does not have: {format_names(unknown)}")
    class_indices = [i for i, name in enumerate(class_names) if name not in left_out]
    labels = new_indices(np.array(class_indices, dtype=np.int64), len(class_names))[labels]
    return labels, [i for i in order if labels[i] >= 0], [class_names[i] for i in class_indices]


def _take_random_part(order: list[int], checker: DatasetChecker) -> list[int]:
    """Return the part of the order that the options `random_split` and `skip` choose; all of it without them."""
    if "random_split" not in checker.options:
        if "skip" in checker.options:
            checker.refuse("has skip without random_split, where it has no effect; add random_split or leave skip out")
        return order
    import torch

    generator = torch.Generator().manual_seed(checker.options["random_split"])
    shuffled = torch.randperm(len(order), generator=generator).tolist()
    return [order[i] for i in shuffled[checker.options.get("skip", 0) :]]
