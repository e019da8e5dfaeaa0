"""What a reader gives: images that can be opened, and what is known about them."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_core.image_files import decode_image
from cosmos_core.printable import printable
from cosmos_core.text_files import open_regular
from cosmos_eval.datasets.decoders import exif_applied, exif_is_applied, fast_decode
from cosmos_eval.datasets.pixel_rules import ImageFacts, facts_of


class ImageSource:
    """One image of a dataset. `key` names it within the dataset and never holds a machine's path."""

    key: str

    @property
    def whole(self) -> str:
        """The key of the image that this one is a part of: parts of one image are no independent samples."""
        return self.key

    def content(self) -> bytes:
        """The bytes that identify the image; equal bytes are encoded once."""
        raise NotImplementedError

    def load(self) -> Image.Image:
        """The image as RGB, decoded in full.

        Conversion comes before any resizing: a palette image resized first is resized by nearest neighbour.

        Raises:
            RequestError: the image cannot be decoded; names it.
        """
        raise NotImplementedError

    def digest(self) -> str:
        """Of the content; computed once, so that fingerprint and engine read each image's file once between them."""
        known = self.__dict__.get("_digest")
        if known is None:
            content = self.content()
            facts = self.__dict__["_facts"] = facts_of(self.encoded(content))
            known = content_digest(content, facts.rule)
            self.__dict__["_digest"] = known
        return known

    def hashed_content(self) -> bytes:
        """The content to decode: that which `digest` has hashed, where it was asked for, here or in another process.

        Raises:
            RequestError: the file has changed since, or another machine has another one.
        """
        content = self.content()
        self.refuse_changed(content)
        return content

    def refuse_changed(self, content: bytes) -> None:
        """RequestError for content that is not what `digest` has hashed."""
        known = self.__dict__.get("_digest")
        if known is not None and content_digest(content, self.__dict__["_facts"].rule) != known:
            raise changed("image", getattr(self, "path", None), self.key)

    def encoded(self, content: bytes) -> bytes:
        """The image file in `content`; empty where it holds pixels that were never one."""
        return b""

    @property
    def facts(self) -> ImageFacts:
        """What its file's header says of the decoding; known once `digest` was asked for."""
        self.digest()
        facts: ImageFacts = self.__dict__["_facts"]
        return facts


def content_digest(content: bytes, rule: str = "") -> str:
    """Identifies an image or a mask: 32 hexadecimal digits.

    Args:
        rule: how its pixels are made of the content, where that is not the rule of most images (`pixel_rules`).
    """
    return hashlib.blake2b(content, digest_size=16, person=rule.encode()).hexdigest()


def changed(what: str, path: Path | None, key: str) -> RequestError:
    """What to say of a file whose bytes are no longer those of the dataset's fingerprint."""
    where = f"{printable(key)} in {printable(path)}" if path is not None else printable(key)
    return RequestError(
        f"the {what} {where} was changed after it was hashed, or is another file on this machine: leave the data as "
        "they are, and alike everywhere, and run again"
    )


def decode(content: bytes, name: object) -> Image.Image:
    """Decode an encoded image to RGB, by Pillow or as the surrounding `decoding_by` says.

    `name` is what an error calls it.
    """
    name = printable(str(name))
    try:
        fast = fast_decode(content)
        return fast if fast is not None else decode_image(content, turned=exif_is_applied())
    except RequestError as error:  # which says itself what to do
        raise RequestError(f"cannot decode the image {name}: {error}") from error
    except Exception as error:  # decoders raise whatever a broken file makes them stumble over
        said = " ".join(str(error).split()) or type(error).__name__
        raise RequestError(f"cannot decode the image {name}: {said}; replace the file") from error


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
        return decode(self.hashed_content(), self.path)


@dataclass(frozen=True)
class UprightImage(ImageSource):
    """An image turned as its EXIF orientation says (`dataset: {exif: apply}`)."""

    image: ImageSource

    @property
    def key(self) -> str:  # type: ignore[override]
        return self.image.key

    @property
    def whole(self) -> str:
        return self.image.whole

    @property
    def facts(self) -> ImageFacts:
        return self.image.facts

    def content(self) -> bytes:
        with exif_applied():
            return self.image.content()

    def digest(self) -> str:
        with exif_applied():
            return self.image.digest()

    def load(self) -> Image.Image:
        with exif_applied():
            return self.image.load()


@dataclass(frozen=True, eq=False)
class ArrayImage(ImageSource):
    """An image in memory: pixels (H, W, 3) uint8."""

    key: str
    pixels: np.ndarray

    def content(self) -> bytes:
        return repr(self.pixels.shape).encode() + self.pixels.tobytes()

    def load(self) -> Image.Image:
        return Image.fromarray(self.pixels)


class Mask:
    """The class of every pixel of one image. `key` is the image's."""

    key: str

    def load(self) -> np.ndarray:
        """(H, W) integers: indices of the benchmark's own classes, or `cosmos_eval.metrics.areas.IGNORED`.

        Raises:
            RequestError: the mask cannot be read; names its file.
        """
        raise NotImplementedError

    def digest(self) -> str:
        """Of what `load` gives; computed once."""
        known: str | None = self.__dict__.get("_digest")
        if known is None:
            known = self.__dict__["_digest"] = labels_digest(self.load())
        return known

    def hashed_labels(self) -> np.ndarray:
        """What `load` gives: that which `digest` has hashed, where it was asked for, here or in another process.

        Raises:
            RequestError: the mask cannot be read; or its file has changed since, or is another one on this machine.
        """
        labels = self.load()
        known = self.__dict__.get("_digest")
        if known is not None and labels_digest(labels) != known:
            raise changed("mask", getattr(self, "path", None), self.key)
        return labels


def labels_digest(labels: np.ndarray) -> str:
    return content_digest(repr(labels.shape).encode() + np.ascontiguousarray(labels, dtype="<i4").tobytes())


@dataclass(frozen=True, eq=False)
class ArrayMask(Mask):
    """A mask in memory."""

    key: str
    labels: np.ndarray

    def load(self) -> np.ndarray:
        return self.labels


@dataclass(frozen=True)
class DataCheck:
    """Whether the disk holds what a benchmark needs. No problems means ready."""

    benchmark: str
    expected: dict[str, int] = field(default_factory=dict)
    found: dict[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    """Items that the definition leaves out for lack of images, each with its reason; no problem."""
    remarks: tuple[str, ...] = ()
    """What a result of these data will say of how they were read; no problem."""
