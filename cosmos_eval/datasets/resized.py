"""Images resized and cropped once, for several runs on the same data: WebDataset shards of the exact pixels.

    DIR/resized.json       how the pixels were made, and the position of each image
        resized-00000.tar  <content digest>.npy, (H, W, 3) uint8; the PAX header has the digest of how they were made

An image is found by the digest of its own file's content. The pixels are those of Pillow, stored without loss and with
a checksum, so that features are bit-identical to those of the original images.
"""

import hashlib
import io
import json
import os
import tarfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_core.files import add_member, atomic_path, atomic_write_text
from cosmos_core.json_text import LARGEST_JSON, parse_json
from cosmos_core.text_files import open_regular, read_content
from cosmos_eval.datasets.image_sources import ImageSource
from cosmos_eval.progress import Reporter, Silent

FORMAT = "cosmos-eval resized 1"
INDEX = "resized.json"
HEADER = "COSMOS.resized"
PER_SHARD = 1000
PACKAGES = ("pillow", "torchvision", "open_clip_torch")
"""Packages whose versions decide the pixels."""

Location = tuple[int, int, int, str]
"""Where an image is stored: number of the shard, offset and size in bytes, checksum of these bytes."""


def resizing_recipe(geometry: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything that decides the pixels: settings of resizing and cropping, and the packages' versions."""
    return {"geometry": dict(geometry), "packages": {name: metadata.version(name) for name in PACKAGES}}


def recipe_digest(recipe: Mapping[str, Any]) -> str:
    """Return the digest of what `resizing_recipe` returns: 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


@dataclass
class ResizedImages:
    """A folder of resized images. It can be pickled for worker processes."""

    folder: Path
    recipe: dict[str, Any]
    """How the pixels were made, see `resizing_recipe`."""
    locations: dict[str, Location] = field(repr=False)
    """Digest of an image's content -> where it is stored."""

    def __contains__(self, digest: str) -> bool:
        return digest in self.locations

    def pixels(self, digest: str) -> np.ndarray:
        """Read an image that the folder contains: (H, W, 3) uint8.

        Raises:
            RequestError: its shard is missing or damaged.
        """
        shard, offset, size, checksum = self.locations[digest]
        path = self.folder / shard_name(shard)
        try:
            with open_regular(path) as file:
                # A damaged index may have any numbers; without this check, they could ask for any amount of memory.
                if not 0 <= offset <= offset + size <= os.fstat(file.fileno()).st_size:
                    raise ValueError("the position is outside the file")
                file.seek(offset)
                content = file.read(size)
            if _checksum(content) == checksum:
                return np.load(io.BytesIO(content), allow_pickle=False)
        except OSError as error:
            raise RequestError(f"cannot read {path}: {error.strerror}; make {self.folder} again") from error
        except (ValueError, OverflowError, MemoryError) as error:  # a damaged index, or content that is not an array
            if isinstance(error, RequestError):
                raise
        raise RequestError(f"{path} is damaged or was changed; delete {self.folder} and make it again")

    def require_recipe(self, geometry: Mapping[str, Any] | None, model: str) -> None:
        """Refuse images whose pixels are not those that a model would get from the original images.

        Args:
            geometry: the model's settings of resizing and cropping; None if it has a preprocessing of its own.
            model: what the message calls the model.

        Raises:
            RequestError: other settings, or other versions of the packages that resize; names what differs.
        """
        if geometry is None:
            raise RequestError(f"{model} has a preprocessing of its own, for which images cannot be resized in advance")
        needed = resizing_recipe(geometry)
        if recipe_digest(needed) == recipe_digest(self.recipe):
            return
        stored, current = (
            {**recipe.get("geometry", {}), **recipe.get("packages", {})} for recipe in (self.recipe, needed)
        )
        differences = [
            f"{name} {stored.get(name)} there, {current.get(name)} here"
            for name in {**stored, **current}
            if stored.get(name) != current.get(name)
        ]
        raise RequestError(
            f"{self.folder} has images that were resized in another way than {model} needs ({'; '.join(differences)}); "
            "make others, or leave --resized out"
        )


def shard_name(number: int) -> str:
    """Return the file name of a shard."""
    return f"resized-{number:05d}.tar"


def read_resized(folder: Path) -> ResizedImages:
    """Read the index of a folder that `write_resized` made.

    Raises:
        RequestError: the index is missing, damaged or incomplete.
    """
    path = folder / INDEX
    if not path.is_file():
        raise RequestError(f"no {path}; make it with 'cosmos-eval data prepare resized BENCHMARK --out {folder}'")
    try:
        content = parse_json(read_content(path, LARGEST_JSON), "it")
        if content["form"] != FORMAT:
            raise ValueError(f"its form is {content['form']!r}")
        locations: dict[str, Location] = {}
        for digest, (shard, offset, size, checksum) in content["pictures"].items():
            locations[digest] = (int(shard), int(offset), int(size), str(checksum))
        return ResizedImages(folder, dict(content["made"]), locations)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RequestError(
            f"{path} is not an index of resized images: {reason}; delete the folder and make it again"
        ) from error


def write_resized(
    images: Sequence[ImageSource],
    geometry: Mapping[str, Any],
    pixels: Callable[[Image.Image], Any],
    folder: Path,
    reporter: Reporter | None = None,
    workers: int = 1,
) -> tuple[int, int]:
    """Add images to a folder, which is created if it does not exist; images that are stored already are kept.

    The index is written last: if a run is killed, the next one overwrites the shards that no index mentions.

    Args:
        geometry: settings of resizing and cropping.
        pixels: resizes and crops an image: (H, W, 3) uint8, as an array or a tensor.
        workers: threads that decode and resize; the order of the images, and so the files, are the same for any number.

    Returns:
        The number of images that were added, and of those that were stored already.

    Raises:
        RequestError: an image cannot be read, or the folder's images were made with other settings or packages.
    """
    reporter = reporter or Silent()
    recipe = resizing_recipe(geometry)
    locations: dict[str, Location] = {}
    if (folder / INDEX).is_file():
        stored = read_resized(folder)
        stored.require_recipe(geometry, "this run")
        locations = stored.locations
    folder.mkdir(parents=True, exist_ok=True)
    with reporter.task("reading images", len(images), "images") as advance:
        new_images: dict[str, ImageSource] = {}
        for image in images:
            if image.digest() not in locations:
                new_images.setdefault(image.digest(), image)
            advance(1)
    to_write = list(new_images.items())
    next_shard = 1 + max((shard for shard, *_ in locations.values()), default=-1)
    with (
        reporter.task("resizing images", len(to_write), "images") as advance,
        ThreadPoolExecutor(max(1, workers)) as pool,
    ):
        for number, start in enumerate(range(0, len(to_write), PER_SHARD), next_shard):
            shard_images = to_write[start : start + PER_SHARD]
            arrays = _resize_in_order(pool, shard_images, pixels, 2 * workers)
            locations |= _write_shard(folder, number, arrays, recipe_digest(recipe), lambda: advance(1))
    index = {"form": FORMAT, "made": recipe, "digest": recipe_digest(recipe), "pictures": locations}
    atomic_write_text(folder / INDEX, json.dumps(index) + "\n")
    return len(new_images), len(images) - len(new_images)


def _resize(entry: tuple[str, ImageSource], pixels: Callable[[Image.Image], Any]) -> tuple[str, bytes]:
    """Return the digest of an image and the content of its member."""
    digest, image = entry
    stream = io.BytesIO()
    np.save(stream, np.asarray(pixels(image.load()), dtype=np.uint8), allow_pickle=False)
    return digest, stream.getvalue()


def _resize_in_order(
    pool: ThreadPoolExecutor,
    images: Iterable[tuple[str, ImageSource]],
    pixels: Callable[[Image.Image], Any],
    ahead: int,
) -> Iterator[tuple[str, bytes]]:
    """Yield the results of `_resize` in order. At most `ahead` of them wait: `pool.map` would keep a whole shard."""
    waiting: deque[Future[tuple[str, bytes]]] = deque()
    try:
        for image in images:
            waiting.append(pool.submit(_resize, image, pixels))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _write_shard(
    folder: Path,
    number: int,
    images: Iterable[tuple[str, bytes]],
    digest_of_recipe: str,
    advance: Callable[[], object],
) -> dict[str, Location]:
    """Write one shard and return digest -> location of its images.

    Args:
        images: (digest, content of the member).
        digest_of_recipe: of how the pixels are made, for the header.
    """
    locations = {}
    path = folder / shard_name(number)
    with (
        atomic_path(path) as temporary,
        tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT, pax_headers={HEADER: digest_of_recipe}) as tar,
    ):
        for digest, content in images:
            add_member(tar, f"{digest}.npy", content)
            # The tar is now at the end of the content's padding, which fills whole blocks. Counted from there, since
            # the headers before the content have no fixed length.
            padded_size = -(-len(content) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            locations[digest] = (number, tar.offset - padded_size, len(content), _checksum(content))
            advance()
    return locations


def _checksum(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
