"""Datasets in clip-benchmark's WebDataset format: tar shards of images with a label, labels or captions."""

import re
from collections.abc import Callable
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
from cosmos_eval.datasets.class_order import check_class_order
from cosmos_eval.datasets.consistency import MAX_NAMES, format_names
from cosmos_eval.datasets.data import ClassificationData, Data, MultilabelData, RetrievalData
from cosmos_eval.datasets.dataset_checks import DatasetChecker
from cosmos_eval.datasets.image_folder import templates_by_class
from cosmos_eval.datasets.image_sources import ImageSource, decode
from cosmos_eval.datasets.label_rows import parse_label_row, stack_label_rows

CAPTIONS_SUFFIX, ROW_SUFFIX = "txt", "npy"
LABEL_SUFFIXES = {"classification": "cls", "multilabel": ROW_SUFFIX, "retrieval": CAPTIONS_SUFFIX}
"""Kind of data -> suffix of what an image is labelled with."""
CLASS_NAMES = "classnames.txt"
TEMPLATES = "zeroshot_classification_templates.txt"
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


def read_webdataset(benchmark: Any, data_root: Path) -> Data:
    """Read the samples of all shards in order: images with `.cls`, a class index, `.npy`, a row of
    0 and 1 for each class, or `.txt`, one caption a line.

    Layout (clip-benchmark's, datasets `wds/...`): `path/<split>/nshards.txt`, `path/<split>/0.tar`, ..., and for
    classification `path/classnames.txt` and `path/zeroshot_classification_templates.txt`, which its builder reads; a
    definition's own `prompts` replace them. All shards that nshards.txt announces must exist.

    Options: `path` (folder), `split` (test).

    Raises:
        DataProblems: missing files or shards (named), a broken shard, a sample without image or label, a label that
            is no number, unexpected counts.
    """
    checker = DatasetChecker(benchmark, data_root)
    split = checker.options.get("split", "test")
    (root,) = checker.require(checker.find_path("path", "folder", containing=f"{split}/nshards.txt"))
    label_suffix = LABEL_SUFFIXES[benchmark.data_kind]
    has_classes = label_suffix != CAPTIONS_SUFFIX
    shards = _list_shards(root / split, checker)
    if has_classes:
        _require_class_files(root, benchmark, checker)
    checker.raise_if_problems()
    images, labels = _read_samples(shards, label_suffix, checker)
    checker.image_folder = root / split
    if not has_classes:
        captions = [text.splitlines() for text in labels]
        counts = [len(image_captions) for image_captions in captions]
        return checker.finish(
            RetrievalData(
                images=images,
                texts=[caption for image_captions in captions for caption in image_captions],
                image_of_text=np.repeat(np.arange(len(images), dtype=np.int64), counts),
            )
        )
    class_names = _class_names(root, benchmark, checker)
    templates = benchmark.resolve_prompts().templates
    if templates is None and (root / TEMPLATES).is_file():
        templates = _read_text_lines(root / TEMPLATES)
    class_templates = templates_by_class(templates, class_names, checker)
    if label_suffix == ROW_SUFFIX:
        rows = stack_label_rows(labels, [image.key for image in images], len(class_names), checker)
        return checker.finish(MultilabelData(images, rows, class_names, class_templates))
    indices = [_class_index(label, image, checker) for label, image in zip(labels, images, strict=True)]
    return checker.finish(
        ClassificationData(
            images=images,
            labels=np.array(indices, dtype=np.int64),
            class_names=class_names,
            templates=class_templates,
        )
    )


def _require_class_files(root: Path, benchmark: Any, checker: DatasetChecker) -> None:
    """Add a problem for each file of class names or templates that is missing and not replaced by the definition."""
    prompts = benchmark.resolve_prompts()
    replacements = {CLASS_NAMES: prompts.class_names}
    if "templates" in benchmark.prompts:  # not for a task without prompts
        replacements[TEMPLATES] = prompts.templates
    for file_name, replacement in replacements.items():
        if replacement is None and not (root / file_name).is_file():
            checker.add_missing(str(root / file_name), root / file_name)


def _class_names(root: Path, benchmark: Any, checker: DatasetChecker) -> list[str]:
    """Return the definition's class names, compared with those on disk, or those on disk."""
    path = root / CLASS_NAMES
    names = benchmark.resolve_prompts().class_names
    if isinstance(names, dict):
        checker.refuse("has prompts.class_names as a map; here it must be a list, in class order")
    if names is not None:
        if path.is_file():
            check_class_order(list(names), _read_text_lines(path), "prompts.class_names", checker)
        return list(names)
    names_on_disk = _read_text_lines(path)
    blank_lines = [number for number, name in enumerate(names_on_disk, start=1) if not name]
    if blank_lines:
        # A stray blank line would give every later class the name of the class before it. A published file may have a
        # class without a name all the same: CLEVR's distances do. The expected number of classes tells the two apart.
        if len(names_on_disk) != checker.expected.get("classes"):
            checker.refuse(f"has an empty line in {path}: line {blank_lines[0]}; it needs one class name a line")
        for number in blank_lines:
            checker.add_remark(
                f"class {number - 1} has no name in {CLASS_NAMES}: its prompts are the templates with nothing filled "
                "in, as in clip-benchmark"
            )
    return names_on_disk


def _list_shards(folder: Path, checker: DatasetChecker) -> list[Path]:
    """Return the tar files that nshards.txt announces; if some are missing, add a problem and return none."""
    counts_path = folder / "nshards.txt"
    if not counts_path.is_file():
        checker.add_missing(str(counts_path), counts_path)
        return []
    text = read_text(counts_path).strip()
    number = parse_integer(text)
    if not number:
        checker.add_problem(f"has {short_repr(text)} in {counts_path}, which must be the number of shards")
        return []
    # The number may be wrong by any factor. Of a billion names only as many are made as a message shows: existing
    # files are listed, and the announced names are a generator.
    existing = {path.name for path in folder.glob("*.tar") if path.is_file()}
    announced = (f"{i}.tar" for i in range(number))
    missing = list(islice((name for name in announced if name not in existing), MAX_NAMES))
    if missing:
        found = sum(parse_integer(name.removesuffix(".tar"), number - 1) is not None for name in existing)
        more = number - found - len(missing)
        shown = ", ".join(missing) + (f" and {more:,} more" if more > 0 else "")
        checker.add_problem(
            f"needs {number:,} shards in {folder}, found {found:,}; missing: {shown}{checker.take_hint()}"
        )
        return []
    shard_names = [f"{i}.tar" for i in range(number)]
    ignored = sorted(name for name in existing - set(shard_names) if not name.startswith("."))
    if ignored:
        checker.add_remark(
            f"{counts_path.name} announces {number:,} shards, so others are not read: {format_names(ignored)}"
        )
    return [folder / name for name in shard_names]


def _read_samples(
    shards: list[Path], label_suffix: str, checker: DatasetChecker
) -> tuple[list[ImageSource], list[Any]]:
    """Return the images of all shards, and the label of each one; with remarks on unusual shards."""
    images: list[ImageSource] = []
    labels: list[Any] = []
    empty_shards: list[str] = []
    lone_blocks: list[str] = []
    for shard in shards:
        samples = _read_shard(shard, label_suffix, checker, lone_blocks)
        images += [image for image, _ in samples]
        labels += [label for _, label in samples]
        if not samples:
            empty_shards.append(shard.name)
    for names, fact in ((empty_shards, "no sample"), (lone_blocks, LONE_BLOCK)):
        if names:
            verb = "has" if len(names) == 1 else "have"
            checker.add_remark(f"{len(names):,} of {len(shards):,} shards {verb} {fact}: {format_names(names)}")
    return images, labels


def _read_shard(
    shard: Path, label_suffix: str, checker: DatasetChecker, lone_blocks: list[str]
) -> list[tuple[ImageSource, Any]]:
    """Return the image and the label of every sample of a shard.

    A shard that ends with a single empty block, and may therefore be cut short, is added to `lone_blocks`.
    """
    status = shard.stat()
    try:
        positions, lone_block = _list_members(shard, status.st_size, status.st_mtime_ns, label_suffix)
    except (TarError, OSError) as error:
        advice = "" if isinstance(error, OtherFileKind) else "; fetch it again"
        checker.refuse(f"cannot read the shard {shard}: {error}{advice}")
    if lone_block is not None:
        lone_blocks.append(f"{shard.name} (at byte {lone_block:,})")
    samples: list[tuple[ImageSource, Any]] = []
    parse = _PARSERS.get(label_suffix, _parse_text)
    for name, parts in positions.items():
        image_suffix = next((suffix for suffix in SHARD_IMAGE_SUFFIXES if suffix in parts), None)
        if image_suffix is None or label_suffix not in parts:
            lacking = (
                "an image (" + ", ".join(SHARD_IMAGE_SUFFIXES) + ")" if image_suffix is None else f".{label_suffix}"
            )
            checker.refuse(
                f"has the sample {name} without {lacking} in {shard}{_dot_advice(name, parts, label_suffix)}"
            )
        offset, size = parts[image_suffix]
        image = TarImage(f"{shard.stem}/{name}.{image_suffix}", shard, offset, size)
        samples.append((image, _read_label(shard, f"{name}.{label_suffix}", parts[label_suffix], checker, parse)))
    return samples


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
        checker.refuse(f"cannot read {place}: it is no text in UTF-8; write it as UTF-8")


Parser = Callable[[bytes, str, DatasetChecker], Any]
_PARSERS: dict[str, Parser] = {ROW_SUFFIX: parse_label_row}
"""Suffix of labels that are no text -> the function (content, place, checker) that reads them."""


@lru_cache(maxsize=1024)
def _list_members(
    shard: Path, size: int, modified: int, label_suffix: str
) -> tuple[dict[str, dict[str, tuple[int, int]]], int | None]:
    """Return sample -> suffix -> (offset, size), and the position of a single empty block at the end, if there is one.

    Only headers are read. The result is cached for as long as the file's size and time of modification stay the same.
    Members of a sample may stand anywhere in the shard: they belong together by their names.

    Raises:
        TarError: it is no complete tar file, or an image or label is there twice or cannot be read (a link, sparse,
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
            if suffix in (*SHARD_IMAGE_SUFFIXES, label_suffix) and member.refusal():
                raise TarError(f"{printable(member.name)} {member.refusal()}")
            parts[suffix] = (member.offset, member.size)
    return samples, lone_blocks[0] if lone_blocks else None


def _read_text_lines(path: Path) -> list[str]:
    """Return the lines of a file, without blank lines at its end, as clip-benchmark's builder reads them."""
    return [line.strip() for line in read_text(path).rstrip().splitlines()]


def _class_index(label: str, image: ImageSource, checker: DatasetChecker) -> int:
    index = parse_integer(label)
    if index is None:
        checker.refuse(f"has the label {short_repr(label)} of {image.key}, which must be a class index from 0")
    return index
