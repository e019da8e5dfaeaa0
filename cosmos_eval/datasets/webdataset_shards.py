"""One tar shard in clip-benchmark's WebDataset format: the images of its samples, and what they are labelled with."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_core.printable import printable
from cosmos_core.tar_files import LocalBytes, OtherFileKind, TarError, is_side_file, members
from cosmos_core.text_files import impostor_of, open_regular
from cosmos_eval.datasets.dataset_checks import DatasetChecker
from cosmos_eval.datasets.image_sources import ImageSource, decode
from cosmos_eval.datasets.label_rows import parse_label_row, parse_metadata_row

CAPTIONS_SUFFIX, ROW_SUFFIX = "txt", "npy"
SHARD_IMAGE_SUFFIXES = ("webp", "png", "jpg", "jpeg")
"""Suffixes of images, in the order in which clip-benchmark looks for them."""
MAX_TEXT_BYTES = 2**24
"""Largest label, or captions of an image."""
_MEMBER_NAME = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$")
"""Splits a member's name into sample and suffix as webdataset does: the suffix begins at the first full stop."""


@dataclass(frozen=True)
class TarImage(ImageSource):
    """An image inside an uncompressed tar file."""

    key: str
    path: Path
    offset: int
    """Position of the image's first byte in the tar file."""
    size: int
    """Bytes of the image."""

    def content(self) -> bytes:
        try:
            with open_regular(self.path) as file:
                file.seek(self.offset)
                content = file.read(self.size)
        except OSError as error:
            raise RequestError(f"cannot read the image {self.key} in {self.path}: {error.strerror}") from error
        if len(content) != self.size:
            raise RequestError(f"the image {self.key} in {self.path} is cut short; fetch the shard again")
        return content

    def encoded(self, content: bytes) -> bytes:
        return content

    def load(self) -> Image.Image:
        return decode(self.verified_content(), f"{self.key} in {self.path}")


@dataclass(frozen=True)
class ShardSamples:
    """The samples of one shard, in order."""

    images: Sequence[ImageSource]
    labels: Sequence[Any]
    """Of each image: the text of its label or captions, or a row of labels."""
    lone_block: int | None = None
    """Position of a single empty block at the end, where there is one: the shard may be cut short."""


def read_shard(shard: Path, label_suffix: str, checker: DatasetChecker, has_metadata: bool = False) -> ShardSamples:
    """Return the image and the label of every sample of a shard; with metadata, its numbers follow the label."""
    status = shard.stat()
    try:
        needed = (label_suffix, ROW_SUFFIX) if has_metadata else (label_suffix,)
        positions, lone_block = _list_members(shard, status.st_size, status.st_mtime_ns, needed)
    except (TarError, OSError) as error:
        advice = "" if isinstance(error, OtherFileKind) else "; fetch it again"
        checker.refuse(f"cannot read the shard {shard}: {error}{advice}")
    images: list[ImageSource] = []
    labels: list[Any] = []
    parse = _PARSERS.get(label_suffix, _parse_text)
    for name, parts in positions.items():
        image_suffix = next((suffix for suffix in SHARD_IMAGE_SUFFIXES if suffix in parts), None)
        missing = next((suffix for suffix in needed if suffix not in parts), None)
        if image_suffix is None or missing is not None:
            lacking = "an image (" + ", ".join(SHARD_IMAGE_SUFFIXES) + ")" if image_suffix is None else f".{missing}"
            checker.refuse(
                f"has the sample {name} without {lacking} in {shard}{_dot_advice(name, parts, label_suffix)}"
            )
        offset, size = parts[image_suffix]
        images.append(TarImage(f"{shard.stem}/{name}.{image_suffix}", shard, offset, size))
        label = _read_label(shard, f"{name}.{label_suffix}", parts[label_suffix], checker, parse)
        if has_metadata:
            row = _read_label(shard, f"{name}.{ROW_SUFFIX}", parts[ROW_SUFFIX], checker, parse_metadata_row)
            label = " ".join([label.strip(), *map(str, row)])
        labels.append(label)
    return ShardSamples(images, labels, lone_block)


def _dot_advice(name: str, parts: dict[str, tuple[int, int]], label_suffix: str) -> str:
    """Return an explanation if parts of a sample were not recognised since its name contains a dot; else empty."""
    for suffix in parts:
        if "." in suffix and suffix.rpartition(".")[2] in (*SHARD_IMAGE_SUFFIXES, label_suffix):
            return f": names are cut at the first dot ({name}.{suffix} is sample {name}); rename them"
    return ""


def _read_label(shard: Path, member: str, position: tuple[int, int], checker: DatasetChecker, parse: "Parser") -> Any:
    """Return what `parse` makes of a member of a shard.

    Args:
        position: offset and size of its content.
    """
    offset, size = position
    if size > MAX_TEXT_BYTES:
        checker.refuse(f"has {size:,} bytes in {member} of {shard}, more than {MAX_TEXT_BYTES:,}; pack it again")
    content = TarImage(member, shard, offset, size).content()
    if impostor := impostor_of(content):
        checker.refuse(f"cannot read {member} of {shard}: it is {impostor}")
    return parse(content, f"{member} of {shard}", checker)


def _parse_text(content: bytes, place: str, checker: DatasetChecker) -> str:
    """Return the text of a member of a shard, which messages call `place`."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        checker.refuse(f"cannot read {place}: it is not a text in UTF-8; write it as UTF-8")


Parser = Callable[[bytes, str, DatasetChecker], Any]
_PARSERS: dict[str, Parser] = {ROW_SUFFIX: parse_label_row}
"""Suffix of labels that are not text -> the function (content, place, checker) that reads them."""


@lru_cache(maxsize=1024)
def _list_members(
    shard: Path, size: int, modified: int, label_suffixes: tuple[str, ...]
) -> tuple[dict[str, dict[str, tuple[int, int]]], int | None]:
    """Return sample -> suffix -> (offset, size), and the position of a single empty block at the end, if there is one.

    Only headers are read. The result is cached for as long as the file's size and time of modification stay the same.
    Members of a sample may stand anywhere in the shard: they belong together by their names.

    Raises:
        TarError: it is not a complete tar file, or an image or label is there twice or cannot be read (a link, sparse,
            too large).
    """
    samples: dict[str, dict[str, tuple[int, int]]] = {}
    lone_blocks: list[int] = []
    with open_regular(shard) as file:
        for member in members(LocalBytes(file), lone_blocks.append):
            match = _MEMBER_NAME.match(member.name)
            if match is None or is_side_file(member.name) or member.kind == "a folder":
                continue
            parts = samples.setdefault(match[1], {})
            suffix = match[2].lower()
            if suffix in parts:
                raise TarError(f"{printable(member.name)} is in it twice")
            if suffix in (*SHARD_IMAGE_SUFFIXES, *label_suffixes) and member.refusal():
                raise TarError(f"{printable(member.name)} {member.refusal()}")
            parts[suffix] = (member.offset, member.size)
    return samples, lone_blocks[0] if lone_blocks else None
