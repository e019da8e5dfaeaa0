"""Images resized and cropped once, for runs that come back to them: webdataset shards of the exact pixels.

    DIR/resized.json       how they were made, and where each image lies
        resized-00000.tar  <content digest>.npy, (H, W, 3) uint8; the PAX header holds the digest of how they were made

An image is found by the content of its own file. Pixels are those that Pillow made, stored without loss and checked
when they are read: features are bit by bit those of the direct path.
"""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from cosmos_eval.datasets.base import ImageSource
from cosmos_eval.progress import Reporter, Silent

FORM = "cosmos-eval resized 1"
INDEX = "resized.json"
HEADER = "COSMOS.resized"
PER_SHARD = 1000
PACKAGES = ("pillow", "torchvision", "open_clip_torch")
"""Packages whose versions decide the pixels."""


def made_by(geometry: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the pixels: the settings of resizing and cropping, and the versions of what does it."""
    return {"geometry": dict(geometry), "packages": {name: metadata.version(name) for name in PACKAGES}}


def digest_of(made: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()


@dataclass
class Resized:
    """A folder of resized images; may be sent to worker processes."""

    folder: Path
    made: dict[str, Any]
    places: dict[str, tuple[int, int, int, str]] = field(repr=False)
    """By the digest of the image's content: shard, offset and size of its member there, and the member's digest."""

    def __contains__(self, digest: str) -> bool:
        return digest in self.places

    def pixels(self, digest: str) -> np.ndarray:
        """(H, W, 3) uint8 of an image that is here.

        Raises:
            RequestError: its shard is gone or damaged.
        """
        shard, offset, size, checksum = self.places[digest]
        path = self.folder / shard_name(shard)
        try:
            with open_regular(path) as file:
                if not 0 <= offset <= offset + size <= os.fstat(file.fileno()).st_size:
                    raise ValueError("the index points anywhere")
                file.seek(offset)
                content = file.read(size)
            if _checksum(content) == checksum:
                return np.load(io.BytesIO(content), allow_pickle=False)
        except OSError as error:
            raise RequestError(f"cannot read {path}: {error.strerror}; make {self.folder} again") from error
        except (ValueError, OverflowError, MemoryError) as error:  # an index for more than there is, or not an array
            if isinstance(error, RequestError):
                raise
        raise RequestError(f"{path} is damaged or was changed; delete {self.folder} and make it again")

    def refuse_other(self, geometry: Mapping[str, Any] | None, model: str) -> None:
        """Refuse images that were made otherwise than a model sees them.

        Raises:
            RequestError: other settings, or other versions of the packages that resize; names what differs.
        """
        if geometry is None:
            raise RequestError(f"{model} has a preprocessing of its own, for which nothing can be resized before")
        wanted = made_by(geometry)
        if digest_of(wanted) == digest_of(self.made):
            return
        there, here = ({**made.get("geometry", {}), **made.get("packages", {})} for made in (self.made, wanted))
        differs = [
            f"{name} {there.get(name)} there, {here.get(name)} here"
            for name in {**there, **here}
            if there.get(name) != here.get(name)
        ]
        raise RequestError(
            f"{self.folder} holds images that were resized otherwise than {model} sees them ({'; '.join(differs)}); "
            "make others, or leave --resized out"
        )


def shard_name(number: int) -> str:
    return f"resized-{number:05d}.tar"


def read_resized(folder: Path) -> Resized:
    """The index of a folder that `write_resized` made.

    Raises:
        RequestError: none, or one that is not whole.
    """
    path = folder / INDEX
    if not path.is_file():
        raise RequestError(f"no {path}; make it with 'cosmos-eval data prepare resized BENCHMARK --out {folder}'")
    try:
        content = parse_json(read_content(path, LARGEST_JSON), "it")
        if content["form"] != FORM:
            raise ValueError(f"its form is {content['form']!r}")
        places = {key: (int(s), int(o), int(n), str(c)) for key, (s, o, n, c) in content["pictures"].items()}
        return Resized(folder, dict(content["made"]), places)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        said = " ".join(str(error).split())[:200]
        where = f"{path} is no index of resized images: {said}"
        raise RequestError(f"{where}; delete the folder and make it again") from error


def write_resized(
    images: Sequence[ImageSource],
    geometry: Mapping[str, Any],
    pixels: Callable[[Image.Image], Any],
    folder: Path,
    reporter: Reporter | None = None,
) -> tuple[int, int]:
    """Add images to a folder, which is made if absent; those that are there are kept.

    The index is written last: a run that is killed leaves shards that the next one writes over.

    Args:
        pixels: gives (H, W, 3) uint8 as an array or a tensor.

    Returns:
        How many were made, and how many were there.

    Raises:
        RequestError: an image that cannot be read, or a folder of images that were made otherwise.
    """
    reporter = reporter or Silent()
    made = made_by(geometry)
    places: dict[str, tuple[int, int, int, str]] = {}
    if (folder / INDEX).is_file():
        there = read_resized(folder)
        there.refuse_other(geometry, "what is asked for now")
        places = there.places
    folder.mkdir(parents=True, exist_ok=True)
    with reporter.task("reading images", len(images), "images") as advance:
        new: dict[str, ImageSource] = {}
        for image in images:
            if image.digest() not in places:
                new.setdefault(image.digest(), image)
            advance(1)
    kept = len(images) - len(new)
    first = 1 + max((shard for shard, *_ in places.values()), default=-1)
    waiting = list(new.items())
    with reporter.task("resizing images", len(waiting), "images") as advance:
        for number, start in enumerate(range(0, len(waiting), PER_SHARD), first):
            places |= _write_shard(
                folder, number, waiting[start : start + PER_SHARD], pixels, digest_of(made), lambda: advance(1)
            )
    index = {"form": FORM, "made": made, "digest": digest_of(made), "pictures": places}
    atomic_write_text(folder / INDEX, json.dumps(index) + "\n")
    return len(new), kept


def _write_shard(
    folder: Path,
    number: int,
    images: Iterable[tuple[str, ImageSource]],
    pixels: Callable[[Image.Image], Any],
    made: str,
    advance: Callable[[], object],
) -> dict[str, tuple[int, int, int, str]]:
    """Where each image of a new shard lies."""
    places = {}
    path = folder / shard_name(number)
    with (
        atomic_path(path) as temporary,
        tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT, pax_headers={HEADER: made}) as tar,
    ):
        for digest, image in images:
            stream = io.BytesIO()
            np.save(stream, np.asarray(pixels(image.load()), dtype=np.uint8), allow_pickle=False)
            content = stream.getvalue()
            add_member(tar, f"{digest}.npy", content)
            end = tar.offset  # behind the padding of the content
            offset = end - -(-len(content) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            places[digest] = (number, offset, len(content), _checksum(content))
            advance()
    return places


def _checksum(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
