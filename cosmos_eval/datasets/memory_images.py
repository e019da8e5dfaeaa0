"""Images that a caller passes in Python: paths, encoded bytes, PIL images, arrays, items of a dataset object.

A path and encoded bytes have the digest of the file with these bytes, so that data in memory and the same data on disk
share a fingerprint and cached features. An image that is already decoded has no encoded bytes: its digest is that of
its shape and its RGB pixels, as for images that are rendered in memory (toybox).
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_core.file_checks import user_path
from cosmos_core.image_files import to_rgb
from cosmos_core.printable import plural
from cosmos_core.short_repr import short_repr
from cosmos_eval.datasets.consistency import format_names
from cosmos_eval.datasets.image_sources import FileImage, ImageSource, decode
from cosmos_eval.datasets.memory_values import as_list

ACCEPTED = "a path, a PIL image, encoded bytes, or an array (H, W, 3) of uint8"
"""What an image may be, for messages."""
DATASETS_KEYS = frozenset(("bytes", "path"))
"""Keys of an image of `datasets` that is not decoded."""


@dataclass(frozen=True, eq=False)
class BytesImage(ImageSource):
    """An encoded image in memory. Its digest is that of a file with the same bytes."""

    key: str
    encoded_bytes: bytes = field(repr=False)

    def content(self) -> bytes:
        return self.encoded_bytes

    def encoded(self, content: bytes) -> bytes:
        return content

    def load(self) -> Image.Image:
        return decode(self.verified_content(), self.key)


@dataclass(frozen=True, eq=False)
class PixelImage(ImageSource):
    """A decoded image in memory. No copy is made: pixels that change after they were hashed are refused."""

    key: str
    image: Image.Image = field(repr=False)

    def content(self) -> bytes:
        return pixel_content(self._rgb())

    def load(self) -> Image.Image:
        rgb = self._rgb()
        self.require_unchanged(pixel_content(rgb))
        return rgb

    def _rgb(self) -> Image.Image:
        try:
            return to_rgb(self.image)
        except RequestError as error:
            raise RequestError(f"cannot use the image {self.key}: {error}") from error
        except Exception as error:  # a closed or truncated file behind a lazy PIL image, an unknown mode
            raise RequestError(f"cannot decode the image {self.key}: {error}; load it again") from error


class SharedDataset:
    """A map-style dataset object (`len`, `[i]`) whose items are read one at a time, whichever thread asks."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self._lock = Lock()

    def __getitem__(self, index: int) -> Any:
        with self._lock, as_dataset_error(index):
            return self.dataset[index]

    def __getstate__(self) -> dict[str, Any]:
        return {"dataset": self.dataset}  # a lock cannot go to another process

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["dataset"])  # type: ignore[misc]


@dataclass(frozen=True, eq=False)
class DatasetImage(ImageSource):
    """The decoded image of one item of a dataset object, which is asked for it whenever it is needed."""

    key: str
    dataset: SharedDataset = field(repr=False)
    index: int
    column: Any
    """Position or key of the image in the item."""

    def content(self) -> bytes:
        return pixel_content(self._rgb())

    def load(self) -> Image.Image:
        rgb = self._rgb()
        try:
            self.require_unchanged(pixel_content(rgb))
        except RequestError as error:
            raise RequestError(
                f"the dataset gives another image at {self.index} the second time; leave random transforms out of it"
            ) from error
        return rgb

    def _rgb(self) -> Image.Image:
        source = as_image_source(self.dataset[self.index][self.column], self.key)
        return source.load()


def pixel_content(rgb: Image.Image) -> bytes:
    """Return what is hashed of an RGB image without encoded bytes: its shape (H, W, 3) and its pixels."""
    return repr((rgb.height, rgb.width, 3)).encode() + rgb.tobytes()


def as_image_sources(
    images: Iterable[Any], root: str | Path | None = None, names: Sequence[str] | None = None
) -> list[ImageSource]:
    """Return images of any accepted kind as a reader would return them.

    Args:
        images: paths, PIL images, encoded bytes, arrays of uint8 (H, W, 3) or (H, W), images of `datasets` that are
            not decoded (`{"bytes": ..., "path": ...}`), or images that a reader returned.
        root: folder to which the names of files are relative; by default the deepest folder that holds all files.
        names: a name for each image. Without it, a file is named by its path below `root`, and any other image by its
            position. Names are part of the fingerprint.

    Raises:
        RequestError: no list, an image of another kind, files that are not there (all of them are named), or another
            number of names.
    """
    if isinstance(images, str | bytes | Path | Image.Image | Mapping):
        raise RequestError(f"images must be a list, not {_describe(images)}; put it in a list")
    try:
        images = list(images)
    except TypeError as error:
        raise RequestError(f"images must be a list of images, not {_describe(images)}") from error
    names = None if names is None else as_list(names, "names")
    if names is not None and len(names) != len(images):
        raise RequestError(
            f"got {plural(len(names), 'name')} for {plural(len(images), 'image')}; give one for each image"
        )
    images = [_undecoded(image) for image in images]
    keys = [str(name) for name in names] if names is not None else _name_images(images, root)
    sources = [as_image_source(image, key) for image, key in zip(images, keys, strict=True)]
    files = [source for source, image in zip(sources, images, strict=True) if isinstance(image, str | Path)]
    missing = [source.path for source in files if isinstance(source, FileImage) and not source.path.is_file()]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise RequestError(
            f"{len(missing):,} of {plural(len(images), 'image')} {verb} not there: {format_names(map(str, missing))}; "
            "correct the paths"
        )
    return sources


def as_image_source(image: Any, key: str) -> ImageSource:
    """Return one image of any accepted kind under a name; see `as_image_sources`.

    Raises:
        RequestError: an image of another kind; the message says how to convert a tensor or an array of floats.
    """
    image = _undecoded(image)
    if isinstance(image, ImageSource):
        return image
    if isinstance(image, str | Path):
        return FileImage(key, user_path(image).absolute())
    if isinstance(image, bytes | bytearray | memoryview):
        return BytesImage(key, bytes(image))
    if isinstance(image, Image.Image):
        return PixelImage(key, _loaded(image, key))
    if isinstance(image, np.ndarray):
        return PixelImage(key, _from_array(image, key))
    advice = ""
    if hasattr(image, "permute"):
        advice = "; leave ToTensor out of the transform, or use torchvision's to_pil_image"
    raise RequestError(f"the image {key} is {_describe(image)}; give {ACCEPTED}{advice}")


def _undecoded(image: Any) -> Any:
    """Return the bytes or the path in an image of `datasets` that is not decoded, and any other image as it is."""
    if isinstance(image, Mapping) and image.keys() <= DATASETS_KEYS and any(image.values()):
        return image.get("bytes") or image.get("path")
    return image


def _loaded(image: Image.Image, key: str) -> Image.Image:
    """Read a lazy PIL image: a broken file is refused now, and threads cannot read it at the same time later."""
    try:
        image.load()
    except Exception as error:  # decoders raise exceptions of many types for damaged files
        raise RequestError(f"cannot decode the image {key}: {error}; replace the file") from error
    return image


def _from_array(array: np.ndarray, key: str) -> Image.Image:
    shape = " x ".join(map(str, array.shape))
    if array.dtype != np.uint8:
        raise RequestError(
            f"the image {key} is an array of {array.dtype}, {shape}; give uint8 from 0 to 255, as (255 * "
            "array).round().astype('uint8') makes of 0 to 1"
        )
    is_colour = array.ndim == 3 and array.shape[2] in (3, 4)
    if (not is_colour and array.ndim != 2) or not array.size:
        raise RequestError(f"the image {key} is an array of shape {shape}; give (H, W, 3)")
    return Image.fromarray(np.ascontiguousarray(array))


def _name_images(images: Sequence[Any], root: str | Path | None) -> list[str]:
    """Return a name for each image that has none: the path below `root`, or the position."""
    paths = {i: _normal_path(image) for i, image in enumerate(images) if isinstance(image, str | Path)}
    folder = _normal_path(root) if root is not None else _common_folder(list(paths.values()))
    keys = []
    for i, image in enumerate(images):
        if i in paths:
            path = paths[i]
            if folder is None or not path.is_relative_to(folder):
                raise RequestError(f"the image {path} is not below root={folder}; give a folder that holds all images")
            keys.append(path.relative_to(folder).as_posix())
        else:
            keys.append(image.key if isinstance(image, ImageSource) else position_name(i))
    return keys


def distinct_images(images: Sequence[Any]) -> tuple[list[int], list[int]]:
    """Find the images that are given several times, as the same path or the same object.

    Returns:
        the position of each distinct image's first occurrence, and for each image the index of its distinct image.
    """
    index_of: dict[Any, int] = {}
    first: list[int] = []
    index: list[int] = []
    for i, image in enumerate(images):
        identity = str(image) if isinstance(image, str | Path) else id(image)
        if identity not in index_of:
            index_of[identity] = len(first)
            first.append(i)
        index.append(index_of[identity])
    return first, index


def position_name(index: int) -> str:
    """Return the name of an image that has nothing but its position."""
    return f"{index:06d}"


def _normal_path(path: str | Path) -> Path:
    """Return an absolute path without `..`, from which names are made; files are opened by the path as it was given."""
    return Path(os.path.abspath(user_path(path)))  # noqa: PTH100 - resolve() would follow links out of the folder


def _common_folder(paths: Sequence[Path]) -> Path | None:
    if not paths:
        return None
    try:
        return Path(os.path.commonpath([path.parent for path in paths]))
    except ValueError:  # drives of Windows
        return None


def _describe(value: Any) -> str:
    """Describe a wrong value in a message, without printing a million numbers."""
    name = type(value).__name__
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"a {name} of shape {tuple(shape)}"
    return f"a {name}" if isinstance(value, Mapping | list | tuple | Image.Image) else f"{short_repr(value)} ({name})"


@contextmanager
def as_dataset_error(index: int) -> Any:
    """Turn an exception of a dataset object into a RequestError that names the item."""
    try:
        yield
    except RequestError:
        raise
    except Exception as error:  # the code is not ours
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RequestError(f"the dataset fails at {index}: {type(error).__name__}: {reason}") from error
