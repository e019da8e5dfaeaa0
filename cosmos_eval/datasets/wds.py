"""Datasets in clip-benchmark's WebDataset form: tar shards with an image and a label (or captions) a sample."""

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_core.printable import printable
from cosmos_core.short_repr import short_repr
from cosmos_core.tar_files import LONE_BLOCK, LocalBytes, OtherFileKind, TarError, is_side_file, members
from cosmos_core.text_files import impostor_of, open_regular, parse_integer, read_text
from cosmos_eval.datasets.base import ImageSource, decode
from cosmos_eval.datasets.class_order import check_order
from cosmos_eval.datasets.consistency import FIRST, first
from cosmos_eval.datasets.data import ClassificationData, Data, RetrievalData
from cosmos_eval.datasets.dataset_checks import Survey
from cosmos_eval.datasets.folders import templates_by_class

CLASS_NAMES = "classnames.txt"
TEMPLATES = "zeroshot_classification_templates.txt"
IMAGES = ("webp", "png", "jpg", "jpeg")
"""The endings that clip-benchmark looks for, in its order."""
MOST_TEXT = 2**24
"""Bytes of a label or of captions."""
_SAMPLE = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$")
"""A member's sample and ending, as webdataset tells them apart: the ending begins at the first full stop."""


@dataclass(frozen=True)
class TarImage(ImageSource):
    """An image inside an uncompressed tar file."""

    key: str
    path: Path
    offset: int
    size: int

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
        return decode(self.hashed_content(), f"{self.key} in {self.path}")


def read_wds(benchmark: Any, data_root: Path) -> Data:
    """The samples of all shards in order, with `.cls` (a class index) or, for retrieval, `.txt` (a caption a line).

    Layout (clip-benchmark's, datasets `wds/...`): `path/<split>/nshards.txt`, `path/<split>/0.tar`, ..., and for
    classification `path/classnames.txt` and `path/zeroshot_classification_templates.txt`, which its builder reads; a
    definition's own `prompts` come before them. Every shard that nshards.txt announces must be there.

    Options: `path` (folder), `split` (test).

    Raises:
        DataProblems: files or shards missing (named), a broken shard, a sample without image or label, a label that
            is no number, counts not as expected.
    """
    survey = Survey(benchmark, data_root)
    part = survey.options.get("split", "test")
    (root,) = survey.there(survey.place("path", "folder", holding=f"{part}/nshards.txt"))
    split = root / part
    shards = _shards(split, survey)
    words = benchmark.words()
    if benchmark.data_kind == "classification":
        needed = {CLASS_NAMES: words.class_names}
        if "templates" in benchmark.prompts:  # not for a task without prompts
            needed[TEMPLATES] = words.templates
        for file, given in needed.items():
            if given is None and not (root / file).is_file():
                survey.missing(str(root / file), root / file)
    survey.stop_if_any()
    label = "cls" if benchmark.data_kind == "classification" else "txt"
    images: list[ImageSource] = []
    labels: list[str] = []
    lone_blocks: list[str] = []
    without: list[str] = []
    for shard in shards:
        before = len(images)
        for image, content in _samples(shard, label, survey, lone_blocks):
            images.append(image)
            labels.append(content)
        if len(images) == before:
            without.append(shard.name)
    if without:
        verb = "holds" if len(without) == 1 else "hold"
        survey.remark(f"{len(without):,} of {len(shards):,} shards {verb} no sample: {first(without)}")
    if lone_blocks:
        verb = "has" if len(lone_blocks) == 1 else "have"
        survey.remark(f"{len(lone_blocks):,} of {len(shards):,} shards {verb} {LONE_BLOCK}: {first(lone_blocks)}")
    survey.images_in = split
    if benchmark.data_kind == "retrieval":
        captions = [text.splitlines() for text in labels]
        return survey.finish(
            RetrievalData(
                images=images,
                texts=[caption for some in captions for caption in some],
                image_of_text=np.repeat(np.arange(len(images), dtype=np.int64), [len(some) for some in captions]),
            )
        )
    class_names, templates = words.class_names, words.templates
    class_names = _words_in(root / CLASS_NAMES) if class_names is None else class_names
    if templates is None and (root / TEMPLATES).is_file():
        templates = _words_in(root / TEMPLATES)
    if isinstance(class_names, dict):
        survey.refuse("gives prompts.class_names as a map; here it is a list, in class order")
    names = list(class_names)
    if words.class_names is None:
        blank = next((i for i, name in enumerate(names, start=1) if not name), None)
        if blank is not None:  # of which every class behind it would get the name before its own
            survey.refuse(f"has an empty line in {root / CLASS_NAMES}: line {blank}; it needs one class name a line")
    elif (root / CLASS_NAMES).is_file():
        check_order(names, _words_in(root / CLASS_NAMES), "prompts.class_names", survey)
    return survey.finish(
        ClassificationData(
            images=images,
            labels=np.array([_class_index(text, images[i], survey) for i, text in enumerate(labels)], dtype=np.int64),
            class_names=names,
            templates=templates_by_class(templates, names, survey),
        )
    )


def _shards(split: Path, survey: Survey) -> list[Path]:
    """The tar files that nshards.txt announces; missing ones are noted."""
    counted = split / "nshards.txt"
    if not counted.is_file():
        survey.missing(str(counted), counted)
        return []
    text = read_text(counted).strip()
    number = parse_integer(text)
    if not number:
        survey.add(f"finds {short_repr(text)} in {counted}, which must be the number of shards")
        return []
    # what the file says is not yet believed: a billion shards are counted by those that are there
    there = {path.name for path in split.glob("*.tar") if path.is_file()}
    names = (f"{i}.tar" for i in range(number))
    missing = list(islice((name for name in names if name not in there), FIRST))
    if missing:
        found = sum(parse_integer(name.removesuffix(".tar"), number - 1) is not None for name in there)
        more = number - found - len(missing)
        some = ", ".join(missing) + (f" and {more:,} more" if more > 0 else "")
        survey.add(f"needs {number:,} shards in {split}, found {found:,}; missing: {some}{survey.hint()}")
        return []
    others = sorted(name for name in there - {f"{i}.tar" for i in range(number)} if not name.startswith("."))
    if others:
        survey.remark(f"{counted.name} announces {number:,} shards, so that others are not read: {first(others)}")
    return [split / f"{i}.tar" for i in range(number)]


def _samples(shard: Path, label: str, survey: Survey, lone_blocks: list[str]) -> list[tuple[ImageSource, str]]:
    """Every sample of a shard: its image, and its label's text. A shard that ends oddly is noted in `lone_blocks`."""
    stat = shard.stat()
    try:
        found, lone_block = _members(shard, stat.st_size, stat.st_mtime_ns, label)
    except (TarError, OSError) as error:
        again = "" if isinstance(error, OtherFileKind) else "; fetch it again"
        survey.refuse(f"cannot read the shard {shard}: {error}{again}")
    if lone_block is not None:
        lone_blocks.append(f"{shard.name} (at byte {lone_block:,})")
    samples: list[tuple[ImageSource, str]] = []
    for name, parts in found.items():
        ending = next((one for one in IMAGES if one in parts), None)
        if ending is None or label not in parts:
            lacks = "an image (" + ", ".join(IMAGES) + ")" if ending is None else f".{label}"
            dotted = next((one for one in parts if one.rpartition(".")[2] in (*IMAGES, label) and "." in one), None)
            cut = f": names are cut at the first dot ({name}.{dotted} is sample {name}); rename them" if dotted else ""
            survey.refuse(f"finds the sample {name} without {lacks} in {shard}{cut}")
        offset, size = parts[ending]
        image = TarImage(f"{shard.stem}/{name}.{ending}", shard, offset, size)
        offset, size = parts[label]
        if size > MOST_TEXT:
            survey.refuse(f"finds {size:,} bytes in {name}.{label} of {shard}, more than {MOST_TEXT:,}; pack it again")
        content = TarImage(f"{name}.{label}", shard, offset, size).content()
        if impostor := impostor_of(content):
            survey.refuse(f"finds {name}.{label} of {shard} to be {impostor}")
        try:
            samples.append((image, content.decode("utf-8-sig")))
        except UnicodeDecodeError:
            survey.refuse(f"finds {name}.{label} of {shard} to be no text in UTF-8; write it as UTF-8")
    return samples


@lru_cache(maxsize=1024)
def _members(
    shard: Path, size: int, changed: int, label: str
) -> tuple[dict[str, dict[str, tuple[int, int]]], int | None]:
    """Sample -> ending -> (offset, size), read from the headers alone; remembered while the file stays as it is. And
    where a single empty block ends the shard, if it does.

    Members of a sample may stand anywhere: their names say whose they are.

    Raises:
        TarError: no whole tar, or an image or label that is there twice or cannot be read (a link, sparse, too large).
    """
    samples: dict[str, dict[str, tuple[int, int]]] = {}
    lone_blocks: list[int] = []
    with open_regular(shard) as file:
        for member in members(LocalBytes(file), lone_blocks.append):
            match = _SAMPLE.match(member.name)
            if match is None or is_side_file(member.name) or member.kind == "a folder":
                continue
            parts = samples.setdefault(match[1], {})
            ending = match[2].lower()
            if ending in parts:
                raise TarError(f"{printable(member.name)} is in it twice")
            if ending in (*IMAGES, label) and member.refusal():
                raise TarError(f"{printable(member.name)} {member.refusal()}")
            parts[ending] = (member.offset, member.size)
    return samples, lone_blocks[0] if lone_blocks else None


def _words_in(path: Path) -> list[str]:
    """The texts of a file, one a line, as clip-benchmark's builder reads them; blank lines at the end are left out."""
    return [line.strip() for line in read_text(path).rstrip().splitlines()]


def _class_index(text: str, image: ImageSource, survey: Survey) -> int:
    index = parse_integer(text)
    if index is None:
        survey.refuse(f"finds the label {short_repr(text)} of {image.key}, which must be a class index from 0")
    return index
