"""Datasets that clip-benchmark reads through torchvision: its builder, names and templates, never its downloads."""

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
from cosmos_core.text_files import impostor_at
from cosmos_eval.datasets.base import ArrayImage, FileImage, ImageSource
from cosmos_eval.datasets.cifar import CIFAR, checked_files, safe_unpickling
from cosmos_eval.datasets.class_order import check_order
from cosmos_eval.datasets.consistency import first
from cosmos_eval.datasets.data import ClassificationData, Data
from cosmos_eval.datasets.dataset_checks import Survey
from cosmos_eval.datasets.folders import images_below, templates_by_class
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
"""What torchvision looks for below the folder that the builder is given, checked before the builder is called."""

_ONE_AT_A_TIME = RLock()  # the builder is disarmed by standing in for module attributes


def read_torchvision(benchmark: Any, data_root: Path) -> Data:
    """A dataset of clip-benchmark's builder, in torchvision's folder layout below `path`.

    The order is the dataset's own; where torchvision takes the file system's (SUN397), images are sorted by path.

    Options: `dataset` (clip-benchmark's name), `path` (the folder it calls root), `split` (test), `without` (names of
    classes left out), and for a random part `random_split` (seed) with `skip`: the images that remain of PyTorch's
    `random_split` with a generator of that seed once the first `skip` are taken away. `published: false` reads files in
    CIFAR's layout that are not the published ones: their checksums are not asked for, and they may hold only arrays and
    plain values all the same.

    Raises:
        DataProblems: files missing (named), counts not as expected, a checksum that differs (CIFAR, Flowers).
        RequestError: a dataset that is not read from files, or one that the builder cannot open.
    """
    survey = Survey(benchmark, data_root)
    name, split = survey.options["dataset"], survey.options.get("split", "test")
    if name not in NEEDED:
        survey.refuse(f"asks clip-benchmark for {name!r}; read here are {', '.join(sorted(NEEDED))}")
    root = _root(survey, name, split)
    published = bool(survey.options.get("published", True))
    checksums = checked_files(root, name, survey) if name in CIFAR and published else None
    built = _build(root, name, split, survey, published, checksums)
    labels = _labels(built)
    images = _images(built, root, len(labels), survey)
    order = list(range(len(images)))
    if name == "sun397":
        order.sort(key=lambda i: images[i].key)
    class_names = [str(name) for name in built.classes]
    _refuse_stray_folders(built, root, len(class_names), survey)
    wrong = [f"{images[i].key} ({labels[i]})" for i in np.flatnonzero((labels < 0) | (labels >= len(class_names)))]
    if wrong:
        survey.refuse(f"has {len(wrong):,} labels outside 0 to {len(class_names) - 1} below {root}: {first(wrong)}")
    labels, order, class_names = _without(labels, order, class_names, survey)
    order = _random_part(order, survey)
    words = benchmark.words()
    if words.class_names is not None:
        if isinstance(words.class_names, dict) or len(words.class_names) != len(class_names):
            survey.refuse(f"needs prompts.class_names as a list of {len(class_names):,} names, in the dataset's order")
        check_order(words.class_names, class_names, "prompts.class_names", survey)
        class_names = list(words.class_names)
    templates = built.templates if words.templates is None else words.templates
    chosen = [images[i] for i in order]
    files = [image for image in chosen if isinstance(image, FileImage)]
    if files:
        survey.images(root, [image.key for image in files])
    return survey.finish(
        ClassificationData(
            images=chosen,
            labels=labels[order],
            class_names=class_names,
            templates=templates_by_class(templates, class_names, survey),
        )
    )


@dataclass(frozen=True, eq=False)
class IndexedImage(ImageSource):
    """An image that only its dataset can decode."""

    key: str
    dataset: Any
    index: int

    def content(self) -> bytes:
        return self._bytes_of(self._decoded())

    def load(self) -> Image.Image:
        image = self._decoded()
        self.refuse_changed(self._bytes_of(image))
        return image

    def _bytes_of(self, image: Image.Image) -> bytes:
        return repr(image.size).encode() + image.tobytes()

    def _decoded(self) -> Image.Image:
        try:
            image = self.dataset[self.index][0]
            return to_rgb(image)
        except Exception as error:  # the dataset's own code on a broken file
            raise RequestError(f"cannot decode the image {self.key}: {error}; replace the file") from error


def _root(survey: Survey, name: str, split: str) -> Path:
    """The folder for the builder: the alternative that has the most of what the dataset needs."""
    given = survey.options["path"]
    places = [survey.inside(one) for one in ([given] if isinstance(given, str) else given)]
    needed = [one.format(split=split) for one in NEEDED[name]]
    # the place that has the most of it; where none has any, one message names all of it
    root = max(places, key=lambda place: sum((place / one).exists() for one in needed))
    if not any((root / one).exists() for one in needed):
        others = f" (and with it {', '.join(needed[1:])})" if needed[1:] else ""
        survey.missing(" or ".join(str(place / needed[0]) for place in places) + others)
        needed = []
    for one in needed:
        if not (root / one).exists():
            survey.missing(str(root / one), root / one)
        elif (root / one).is_file() and (impostor := impostor_at(root / one)):
            survey.add(f"cannot read {root / one}: it is {impostor}")
    survey.stop_if_any()
    return root


def _build(root: Path, name: str, split: str, survey: Survey, published: bool, checksums: dict[str, str] | None) -> Any:
    from clip_benchmark.datasets.builder import build_dataset

    try:
        with disarmed(), safe_unpickling(published, checksums):
            return build_dataset(name, root=str(root), transform=None, split=split, download=False)
    except RequestError:
        raise
    except (Exception, SystemExit) as error:  # someone else's code on someone's files: whatever it says is the reason
        said = " ".join(str(error).split()).replace(" You can use download=True to download it", "")
        survey.refuse(f"cannot be read by clip-benchmark from {root}: {said or type(error).__name__}{survey.hint()}")


@contextmanager
def disarmed() -> Iterator[None]:
    """Clip-benchmark's builder without its shell: nothing that it calls can run a command or fetch a file."""
    from clip_benchmark.datasets import builder

    def refuse(command: Any, *args: Any, **kwargs: Any) -> Any:
        raise RequestError(f"clip-benchmark wanted to run {str(command)[:80]!r}; nothing is downloaded here")

    with (
        _ONE_AT_A_TIME,
        substituted(builder, "call", refuse),
        substituted(os, "popen", refuse),
        substituted(os, "system", refuse),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", message="split argument ignored")  # said in the definition
        warnings.filterwarnings("ignore", message=".*shardshuffle")  # nothing is shuffled here
        yield


def _labels(built: Any) -> np.ndarray:
    for attribute in ("targets", "_labels", "labels", "y"):
        if hasattr(built, attribute):
            return np.asarray(getattr(built, attribute), dtype=np.int64)
    for attribute in ("samples", "_samples"):
        if hasattr(built, attribute):
            return np.array([int(sample[1]) for sample in getattr(built, attribute)], dtype=np.int64)
    return np.array([int(built[i][1]) for i in range(len(built))], dtype=np.int64)


def _images(built: Any, root: Path, count: int, survey: Survey) -> list[ImageSource]:
    """File by file where the dataset shows its files, so that they are read as they are; else through the dataset."""
    pixels = _pixels(built)
    if pixels is not None:
        return [ArrayImage(f"{i:05d}", one) for i, one in enumerate(pixels)]
    paths: list[Path] | None = None
    for attribute in ("_image_files", "_images", "samples", "_samples"):
        if hasattr(built, attribute):
            rows = getattr(built, attribute)
            paths = [Path(row[0] if isinstance(row, tuple | list) else row) for row in rows]
            break
    else:
        if hasattr(built, "categories") and hasattr(built, "index"):  # Caltech101 numbers its files within a class
            folder = Path(built.root) / "101_ObjectCategories"
            names = zip(built.y, built.index, strict=True)
            paths = [folder / built.categories[label] / f"image_{number:04d}.jpg" for label, number in names]
    if paths is None:
        return [IndexedImage(f"{i:05d}", built, i) for i in range(count)]
    outside = [str(path) for path in paths if not path.is_relative_to(root)]
    if outside:
        survey.refuse(f"is given images outside {root} by torchvision: {first(outside)}")
    return [FileImage(path.relative_to(root).as_posix(), path) for path in paths]


def _pixels(built: Any) -> np.ndarray | None:
    """All images (N, H, W, 3) uint8 where the dataset holds them: CIFAR, STL-10 (channels first), MNIST (grey)."""
    data = getattr(built, "data", None)
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


def _refuse_stray_folders(built: Any, root: Path, classes: int, survey: Survey) -> None:
    """Refuse a folder among the class folders that is none: every class after it would carry the next one's label.

    The builder lists what lies there and sets names of its own beside it. A folder without an image (`__MACOSX`) is
    the stray one; where all have some, those that get no name are told.
    """
    folders = list(getattr(built, "categories", None) or getattr(built, "class_to_idx", {}))
    if not folders or len(folders) == classes:
        return
    if hasattr(built, "categories"):
        place = Path(built.root) / "101_ObjectCategories"
    else:
        samples = getattr(built, "samples", None) or [(str(root), 0)]
        place = Path(samples[0][0]).parent.parent
    strays = [name for name in folders if not images_below(place / name)] or folders[classes:]
    told = f"; no class: {first(strays)}; take it away" if strays else "; unpack the archive again"
    survey.refuse(f"needs {classes:,} class folders in {place}, found {len(folders):,}{told}")


def _without(
    labels: np.ndarray, order: list[int], class_names: list[str], survey: Survey
) -> tuple[np.ndarray, list[int], list[str]]:
    """The data without the classes that the definition leaves out; the others keep their order."""
    left_out = survey.options.get("without", [])
    unknown = [name for name in left_out if name not in class_names]
    if unknown:
        survey.refuse(f"leaves out classes that the dataset does not have: {first(unknown)}")
    kept = [i for i, name in enumerate(class_names) if name not in left_out]
    place = np.full(len(class_names), -1, dtype=np.int64)
    place[kept] = np.arange(len(kept))
    labels = place[labels]
    return labels, [i for i in order if labels[i] >= 0], [class_names[i] for i in kept]


def _random_part(order: list[int], survey: Survey) -> list[int]:
    if "random_split" not in survey.options:
        if "skip" in survey.options:
            survey.refuse("gives skip without random_split, where it does nothing; add random_split or leave skip out")
        return order
    import torch

    generator = torch.Generator().manual_seed(survey.options["random_split"])
    shuffled = torch.randperm(len(order), generator=generator).tolist()
    return [order[i] for i in shuffled[survey.options.get("skip", 0) :]]
