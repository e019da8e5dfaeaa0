"""Images of a dataset, opened when they are needed: the interface `ImageSource`, and images in files and in memory.

Other kinds are defined where they are made: images in tar shards (`webdataset.py`), of torchvision's datasets
(`clip_benchmark.py`) and of mmsegmentation's (`mmseg/`), and boxes cut from images (`perception/crops.py`).
"""

import copy
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_core.image_files import decode_image
from cosmos_core.printable import printable
from cosmos_core.text_files import open_regular
from cosmos_eval.datasets.decoders import apply_exif, decode_at_full_size, fast_decode, is_exif_applied
from cosmos_eval.datasets.image_facts import ImageFacts, read_facts


class ImageSource:
    """One image of a dataset. A subclass has a `key` and defines `content` and `load`.

    The bytes that are hashed are the bytes that are decoded: `load` decodes what `verified_content` returns, which
    compares the bytes with the digest of the same image, if there is one.
    """

    key: str
    """Name of the image within the dataset. It is hashed, so it never contains a path of this machine."""

    @property
    def parent_key(self) -> str:
        """Key of the image that this one is a part of, or its own. Parts of one image are not independent samples."""
        return self.key

    def content(self) -> bytes:
        """Return the bytes that identify the image. Images with equal bytes are encoded once.

        Raises:
            RequestError: the image cannot be read; names it.
        """
        raise NotImplementedError

    def load(self) -> Image.Image:
        """Decode the image in full and return it as RGB.

        The conversion to RGB comes before any resizing: Pillow resizes palette images by nearest neighbour.

        Raises:
            RequestError: the image cannot be decoded; names it.
        """
        raise NotImplementedError

    def digest(self) -> str:
        """Return the digest of the content. It is computed once, so that fingerprint and engine read a file only once.

        The digest stays in `__dict__`, which frozen dataclasses allow and pickling keeps: worker processes and other
        ranks compare their files with the digest that this process computed.
        """
        known_digest: str | None = self.__dict__.get("_digest")
        if known_digest is None:
            content = self.content()
            facts = self.__dict__["_facts"] = read_facts(self.encoded(content))
            known_digest = self.__dict__["_digest"] = content_digest(content, facts.rule)
        return known_digest

    def parent_digest(self) -> str:
        """Return the digest of the image that this one is a part of, or its own; it is equal in all benchmarks."""
        return self.digest()

    def undigested(self) -> Self:
        """Return a copy without a digest: it is computed from what the image is now."""
        image = copy.copy(self)
        for name in ("_digest", "_facts", "_parent_digest"):
            image.__dict__.pop(name, None)
        return image

    def verified_content(self) -> bytes:
        """Return the content, to be decoded. If `digest` was computed, here or in another process, it must still fit.

        Raises:
            RequestError: the file has changed since then, or is a different file on this machine.
        """
        content = self.content()
        self.require_unchanged(content)
        return content

    def require_unchanged(self, content: bytes) -> None:
        """Raise a RequestError if `digest` was computed from other content."""
        known_digest = self.__dict__.get("_digest")
        if known_digest is not None and content_digest(content, self.__dict__["_facts"].rule) != known_digest:
            raise changed_file_error("image", getattr(self, "path", None), self.key)

    def encoded(self, content: bytes) -> bytes:
        """Return the part of `content` that is an encoded image file; empty if the content is raw pixels."""
        return b""

    @property
    def facts(self) -> ImageFacts:
        """What the header of the image file says about decoding. Computes `digest` if it is not known yet."""
        self.digest()
        facts: ImageFacts = self.__dict__["_facts"]
        return facts


def content_digest(content: bytes, rule: str = "") -> str:
    """Return the digest of an image's or a mask's content: 32 hexadecimal digits.

    Args:
        rule: how pixels are made from the content, where it is not Pillow's conversion alone (`image_facts`). The same
            file decoded in two ways must have two digests.
    """
    return hashlib.blake2b(content, digest_size=16, person=rule.encode()).hexdigest()


def changed_file_error(kind: str, path: Path | None, key: str) -> RequestError:
    """Return the error for an image or a mask (`kind`) whose bytes are not those that were hashed."""
    name = f"{printable(key)} in {printable(path)}" if path is not None else printable(key)
    return RequestError(
        f"the {kind} {name} was changed after it was hashed, or is another file on this machine: do not change data "
        "during a run, use the same files on all machines, and run again"
    )


def decode(content: bytes, name: object) -> Image.Image:
    """Decode an image file to RGB, by the decoder of the surrounding `use_decoder`, which is Pillow by default.

    Args:
        name: what an error calls the image.

    Raises:
        RequestError: it is not an image, is damaged, or has more pixels than allowed.
    """
    name = printable(str(name))
    try:
        image = fast_decode(content)
        return image if image is not None else decode_image(content, turned=is_exif_applied())
    except RequestError as error:  # its text already says how to fix it
        raise RequestError(f"cannot decode the image {name}: {error}") from error
    except Exception as error:  # decoders raise exceptions of many types for damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RequestError(f"cannot decode the image {name}: {reason}; replace the file") from error


@dataclass(frozen=True)
class FileImage(ImageSource):
    """An image in a file of its own."""

    key: str
    path: Path

    def content(self) -> bytes:
        try:
            with open_regular(self.path) as file:
                return file.read()
        except OSError as error:
            raise RequestError(f"cannot read the image {printable(self.path)}: {error.strerror}") from error

    def encoded(self, content: bytes) -> bytes:
        return content

    def load(self) -> Image.Image:
        return decode(self.verified_content(), self.path)


@dataclass(frozen=True)
class EditedImage(ImageSource):
    """An image in a file that is changed before any preprocessing. A subclass defines `recipe` and `edit`.

    Its identity is the content of the file and the recipe.
    """

    key: str
    path: Path

    @property
    def recipe(self) -> bytes:
        """What is changed, with everything that decides the pixels."""
        raise NotImplementedError

    def edit(self, image: Image.Image) -> Image.Image:
        """Change the decoded image, which is RGB and has the size of the file's."""
        raise NotImplementedError

    def parent_digest(self) -> str:
        self.digest()  # reads the file, once
        return str(self.__dict__["_parent_digest"])

    def content(self) -> bytes:
        content = FileImage(self.key, self.path).content()
        if "_parent_digest" not in self.__dict__:
            self.__dict__["_parent_digest"] = content_digest(content, read_facts(content).rule)
        return self.recipe + content

    def encoded(self, content: bytes) -> bytes:
        return content[len(self.recipe) :]

    def load(self) -> Image.Image:
        with decode_at_full_size():  # a faster decoder may return a smaller image, which `edit` would change otherwise
            image = decode(self.encoded(self.verified_content()), self.path)
        return self.edit(image)


@dataclass(frozen=True)
class UprightImage(ImageSource):
    """Another image with its EXIF orientation applied (`dataset: {exif: apply}`)."""

    image: ImageSource

    @property
    def key(self) -> str:  # type: ignore[override]
        return self.image.key

    @property
    def parent_key(self) -> str:
        return self.image.parent_key

    @property
    def facts(self) -> ImageFacts:
        return self.image.facts

    def content(self) -> bytes:
        with apply_exif():
            return self.image.content()

    def digest(self) -> str:
        with apply_exif():
            return self.image.digest()

    def parent_digest(self) -> str:
        with apply_exif():
            return self.image.parent_digest()

    def undigested(self) -> Self:
        return replace(self, image=self.image.undigested())

    def load(self) -> Image.Image:
        with apply_exif():
            return self.image.load()


@dataclass(frozen=True, eq=False)
class ArrayImage(ImageSource):
    """An image in memory."""

    key: str
    pixels: np.ndarray  # (H, W, 3) uint8

    def content(self) -> bytes:
        return repr(self.pixels.shape).encode() + self.pixels.tobytes()

    def load(self) -> Image.Image:
        self.require_unchanged(self.content())
        return Image.fromarray(self.pixels)
