"""Datasets in clip-benchmark's WebDataset format: tar shards of images with a label, labels or captions."""

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from cosmos_core.printable import plural
from cosmos_core.short_repr import short_repr
from cosmos_core.tar_files import LONE_BLOCK
from cosmos_core.text_files import parse_integer, read_text
from cosmos_eval.datasets.class_order import check_class_order
from cosmos_eval.datasets.consistency import MAX_NAMES, format_names
from cosmos_eval.datasets.data import ClassificationData, Data, MultilabelData, RetrievalData
from cosmos_eval.datasets.dataset_checks import DatasetChecker
from cosmos_eval.datasets.image_folder import templates_by_class
from cosmos_eval.datasets.image_sources import ImageSource
from cosmos_eval.datasets.label_rows import stack_label_rows
from cosmos_eval.datasets.webdataset_shards import CAPTIONS_SUFFIX, ROW_SUFFIX, ShardSamples, read_shard

LABEL_SUFFIXES = {"classification": "cls", "multilabel": ROW_SUFFIX, "retrieval": CAPTIONS_SUFFIX}
"""Kind of data -> suffix of what an image is labelled with."""
DEFAULT_SPLIT = "test"
SHARD_COUNT = "nshards.txt"
"""In the folder of the shards: their number."""
CLASS_NAMES = "classnames.txt"
TEMPLATES = "zeroshot_classification_templates.txt"


class WebDataset:
    """One split of a dataset, read shard by shard, from a folder that need not hold all shards at the same time.

    Args:
        benchmark: the definition.
        root: the folder with the folder of the split and the files of class names and templates.
        checker: collects problems and remarks.
    """

    def __init__(self, benchmark: Any, root: Path, checker: DatasetChecker) -> None:
        self.benchmark, self.root, self.checker = benchmark, root, checker
        self.split = str(checker.options.get("split", DEFAULT_SPLIT))
        self.label_suffix = LABEL_SUFFIXES[benchmark.data_kind]
        self.metadata: Sequence[str] = checker.options.get("metadata", ())
        self.groups: Sequence[str] = checker.options.get("groups", ())
        if self.groups and (unknown := [name for name in self.groups if name not in self.metadata]):
            checker.refuse(f"has the groups {format_names(unknown)}, which dataset.metadata does not name; add them")
        if self.metadata and self.label_suffix != LABEL_SUFFIXES["classification"]:
            checker.refuse("has dataset.metadata, which only classification has; take it out")
        self.has_classes = self.label_suffix != CAPTIONS_SUFFIX

    def list_shards(self) -> list[Path]:
        """Return the tar files that nshards.txt announces, all of which exist.

        Raises:
            DataProblems: shards or files of class names are missing.
        """
        shards = _list_shards(self.root / self.split, self.checker)
        self.require_class_files()
        return shards

    def require_class_files(self) -> None:
        """Raise all problems if files of class names or templates are missing, or there were problems before."""
        if self.has_classes:
            _require_class_files(self.root, self.benchmark, self.checker)
        self.checker.raise_if_problems()

    def read_shard(self, shard: Path) -> ShardSamples:
        """Return the samples of a shard.

        Raises:
            DataProblems: a broken shard, or a sample without image or label.
        """
        return read_shard(shard, self.label_suffix, self.checker, bool(self.metadata))

    def build(self, shards: Mapping[str, ShardSamples]) -> Data:
        """Return the data of all shards.

        Args:
            shards: name -> samples, in the order of the shards.

        Raises:
            DataProblems: labels that are not numbers, unexpected counts.
        """
        _remark_on_shards(shards, self.checker)
        images = [image for samples in shards.values() for image in samples.images]
        labels = [label for samples in shards.values() for label in samples.labels]
        self.checker.image_folder = self.root / self.split
        if not self.has_classes:
            return self.checker.finish(_retrieval_data(images, labels))
        class_names, templates = self._class_names_and_templates()
        if self.label_suffix == ROW_SUFFIX:
            rows = stack_label_rows(labels, [image.key for image in images], len(class_names), self.checker)
            return self.checker.finish(MultilabelData(images, rows, class_names, templates))
        labels, groups = self._split_metadata(labels, images)
        indices = [_class_index(label, image, self.checker) for label, image in zip(labels, images, strict=True)]
        return self.checker.finish(
            ClassificationData(
                images=images,
                labels=np.array(indices, dtype=np.int64),
                class_names=class_names,
                templates=templates,
                groups=groups,
            )
        )

    def _split_metadata(
        self, labels: list[str], images: Sequence[ImageSource]
    ) -> tuple[list[str], dict[str, np.ndarray]]:
        """Split labels with metadata into the labels and the groups: kind -> (N,) int64."""
        if not self.metadata:
            return labels, {}
        rows = [label.split() for label in labels]
        for row, image in zip(rows, images, strict=True):
            if len(row) <= len(self.metadata):
                self.checker.refuse(
                    f"has {plural(len(row) - 1, 'number')} in the metadata of {image.key}, fewer than the "
                    f"{plural(len(self.metadata), 'name')} of dataset.metadata; correct the definition"
                )
        columns = {kind: 1 + list(self.metadata).index(kind) for kind in self.groups}
        groups = {kind: np.array([int(row[at]) for row in rows], dtype=np.int64) for kind, at in columns.items()}
        return [row[0] for row in rows], groups

    def _class_names_and_templates(self) -> tuple[list[str], Any]:
        class_names = _class_names(self.root, self.benchmark, self.checker)
        templates = self.benchmark.resolve_prompts().templates
        if templates is None and (self.root / TEMPLATES).is_file():
            templates = _read_text_lines(self.root / TEMPLATES)
        return class_names, templates_by_class(templates, class_names, self.checker)


def read_webdataset(benchmark: Any, data_root: Path) -> Data:
    """Read the samples of all shards in order: images with `.cls`, a class index, `.npy`, a row of
    0 and 1 for each class, or `.txt`, one caption a line.

    Layout (clip-benchmark's, datasets `wds/...`): `path/<split>/nshards.txt`, `path/<split>/0.tar`, ..., and for
    classification `path/classnames.txt` and `path/zeroshot_classification_templates.txt`, which its builder reads; a
    definition's own `prompts` replace them. All shards that nshards.txt announces must exist.

    Options: `path` (folder), `split` (test); `metadata`, names of the first numbers of the `.npy` that each image has
    besides its label in DataComp's shards (WILDS, Dollar Street, GeoDE), and `groups`, those of them by which images
    are grouped.

    Raises:
        DataProblems: missing files or shards (named), a broken shard, a sample without image or label, a label that
            is not a number, unexpected counts.
    """
    checker = DatasetChecker(benchmark, data_root)
    split = checker.options.get("split", DEFAULT_SPLIT)
    (root,) = checker.require(checker.find_path("path", "folder", containing=f"{split}/{SHARD_COUNT}"))
    dataset = WebDataset(benchmark, root, checker)
    return dataset.build({shard.name: dataset.read_shard(shard) for shard in dataset.list_shards()})


def _retrieval_data(images: list[ImageSource], texts: list[str]) -> RetrievalData:
    captions = [text.splitlines() for text in texts]
    counts = [len(image_captions) for image_captions in captions]
    return RetrievalData(
        images=images,
        texts=[caption for image_captions in captions for caption in image_captions],
        image_of_text=np.repeat(np.arange(len(images), dtype=np.int64), counts),
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
    counts_path = folder / SHARD_COUNT
    if not counts_path.is_file():
        checker.add_missing(str(counts_path), counts_path)
        return []
    number = read_shard_count(counts_path, checker)
    if not number:
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
            f"needs {plural(number, 'shard')} in {folder}, found {found:,}; missing: {shown}{checker.take_hint()}"
        )
        return []
    shard_names = [f"{i}.tar" for i in range(number)]
    ignored = sorted(name for name in existing - set(shard_names) if not name.startswith("."))
    if ignored:
        checker.add_remark(
            f"{counts_path.name} announces {plural(number, 'shard')}, so others are not read: {format_names(ignored)}"
        )
    return [folder / name for name in shard_names]


def read_shard_count(path: Path, checker: DatasetChecker) -> int:
    """Return the number in an nshards.txt; if it is none, add a problem and return 0."""
    text = read_text(path).strip()
    number = parse_integer(text)
    if not number:
        checker.add_problem(f"has {short_repr(text)} in {path}, which must be the number of shards")
    return number or 0


def _remark_on_shards(shards: Mapping[str, ShardSamples], checker: DatasetChecker) -> None:
    """Add remarks on shards without a sample, and on those that may be cut short."""
    empty_shards = [name for name, samples in shards.items() if not samples.images]
    lone_blocks = [
        f"{name} (at byte {samples.lone_block:,})" for name, samples in shards.items() if samples.lone_block is not None
    ]
    for names, fact in ((empty_shards, "no sample"), (lone_blocks, LONE_BLOCK)):
        if names:
            verb = "has" if len(names) == 1 else "have"
            checker.add_remark(f"{len(names):,} of {plural(len(shards), 'shard')} {verb} {fact}: {format_names(names)}")


def _read_text_lines(path: Path) -> list[str]:
    """Return the lines of a file, without blank lines at its end, as clip-benchmark's builder reads them."""
    return [line.strip() for line in read_text(path).rstrip().splitlines()]


def _class_index(label: str, image: ImageSource, checker: DatasetChecker) -> int:
    index = parse_integer(label)
    if index is None:
        checker.refuse(f"has the label {short_repr(label)} of {image.key}, which must be a class index from 0")
    return index
