"""A user's own data, one JSON object a line: images with captions, with a label, or with a right and a wrong text."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from cosmos_core.json_text import LARGEST_JSON, JsonError, load_json
from cosmos_core.short_repr import short_repr
from cosmos_core.text_files import parse_integer, read_lines
from cosmos_eval.datasets.base import FileImage
from cosmos_eval.datasets.data import ClassificationData, Data, PerceptionData, RetrievalData
from cosmos_eval.datasets.dataset_checks import Survey, escapes
from cosmos_eval.datasets.folders import templates_by_class
from cosmos_eval.datasets.imagenet_order import is_imagenet, wrong_order

KEYS: dict[str, tuple[tuple[str, ...], ...]] = {
    "retrieval": (("image", "file_name"), ("captions", "caption", "text")),
    "classification": (("image", "file_name"), ("label",)),
    "perception": (("image", "file_name"), ("positive",), ("negative",)),
}
"""By task, what a line must have: the key, and what a metadata.jsonl of `datasets`' imagefolder calls the same."""


def read_jsonl(benchmark: Any, data_root: Path) -> Data:
    """Images and what is known about them, in the order of the file.

    A line is, by task:
        retrieval: {"image": "a.jpg", "captions": ["...", "..."]} (an image may have several lines)
        classification: {"image": "a.jpg", "label": "cat"} or {"image": "a.jpg", "label": 0}; one line an image
        perception: {"image": "a.jpg", "positive": "...", "negative": "...", "subset": "..."}; several lines an image

    A metadata.jsonl of `datasets`' imagefolder is one such file: `file_name` is the image, `text` or `caption` its
    captions. One text in place of a list is a list of one. Other keys are passed over.

    Images are below `images`, or beside the file. Class names come from `prompts.class_names`; without it they are
    the labels' different names in alphabetical order. Blank lines are left out.

    Options: `path` (the file), `images` (folder).

    Raises:
        DataProblems: a line that does not fit (file and line), images missing, labels out of range, empty classes.
    """
    survey = Survey(benchmark, data_root)
    path = survey.place("path", "file")
    folder = survey.place("images", "folder") if "images" in survey.options else None
    if path is None or (folder is None and "images" in survey.options):
        survey.stop_if_any()
    assert path is not None
    rows = _Rows(path, folder or path.parent, benchmark.data_kind, survey)
    return survey.finish(_MAKE[benchmark.data_kind](rows, benchmark))


class _Rows:
    """The lines of the file that hold something, each with its number and the right keys."""

    def __init__(self, path: Path, folder: Path, task: str, survey: Survey) -> None:
        self.path, self.folder, self.survey = path, folder, survey
        self.required = KEYS[task]
        self.called: dict[str, str] = {}
        """What the line at hand calls a key that has several names."""
        self.lines: dict[str, int] = {}
        """Where each image was named first."""

    def refuse(self, line: int, message: str) -> NoReturn:
        self.survey.refuse(f"cannot use {self.path}:{line}: {message}")

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, line in enumerate(read_lines(self.path, LARGEST_JSON), start=1):
            if not line.strip():
                continue
            try:
                row = load_json(line)
            except JsonError as error:
                self.refuse(number, f"not JSON: {str(error).removeprefix('line 1 ')}{self.other_format(line)}")
            if not isinstance(row, dict):
                more = self.other_format(line)
                self.refuse(number, f'a line is one object, such as {{"image": "a.jpg", ...}}{more}')
            row = {**row, **{keys[0]: row[key] for keys in self.required for key in [self.key(number, row, keys)]}}
            self.text(number, row, "image")
            if escapes(row["image"]):
                self.refuse(number, f"the image {row['image']!r} leads out of the data root")
            self.lines.setdefault(row["image"], number)
            yield number, row

    def other_format(self, line: str) -> str:
        """What to do with a file that is another format than JSON lines, where its line or its name tells."""
        if self.path.suffix.lower() in (".csv", ".tsv"):
            return '; a table is not read here: write a line {"image": "a.jpg", ...} for each of its rows'
        return "; write the objects of the list, each on a line of its own" if line.lstrip().startswith("[") else ""

    def key(self, line: int, row: dict[str, Any], keys: tuple[str, ...]) -> str:
        """The first of `keys` that the row has a value for; that is what an error calls the value from now on."""
        there = [key for key in keys if key in row]
        found = next((key for key in there if row[key] is not None), there[0] if there else None)
        if found is None:
            self.refuse(
                line, f"the key {keys[0]!r} is missing; there is {', '.join(map(repr, list(row)[:8])) or 'none'}"
            )
        self.called[keys[0]] = found
        return found

    def text(self, line: int, row: dict[str, Any], key: str) -> str:
        value = row[key]
        if not isinstance(value, str) or not value.strip():
            self.refuse(line, f"{self.called.get(key, key)!r} must be a text, not {short(value)}")
        return value

    def images(self) -> list[FileImage]:
        names = list(self.lines)
        if not names:
            self.survey.refuse(f"finds no line in {self.path}")
        folder = self.folder
        if "images" in self.survey.options:
            folder = self.survey.place("images", "folder", holding=names[0]) or folder
        self.survey.images(folder, names)
        return [FileImage(name, folder / name) for name in names]


def short(value: Any) -> str:
    """A value as JSON has it, cut where it is long."""
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _retrieval(rows: _Rows, benchmark: Any) -> RetrievalData:
    captions: dict[str, list[str]] = {}
    for line, row in rows:
        given = [row["captions"]] if isinstance(row["captions"], str) else row["captions"]
        if not isinstance(given, list) or not given or not all(isinstance(one, str) for one in given):
            wrong = (
                next((one for one in given if not isinstance(one, str)), given) if isinstance(given, list) else given
            )
            called = rows.called["captions"]
            rows.refuse(line, f"{called!r} must be a text or a list with at least one text, found {short(wrong)}")
        captions.setdefault(row["image"], []).extend(given)
    images = rows.images()
    counts = [len(captions[image.key]) for image in images]
    return RetrievalData(
        images=images,
        texts=[caption for image in images for caption in captions[image.key]],
        image_of_text=np.repeat(np.arange(len(images), dtype=np.int64), counts),
    )


def _classification(rows: _Rows, benchmark: Any) -> ClassificationData:
    words = benchmark.words()
    if words.templates is None and "templates" in benchmark.prompts:
        rows.survey.refuse("has no prompt templates; give prompts.templates as a list, a file or a named set")
    if isinstance(words.class_names, dict):
        rows.survey.refuse("gives prompts.class_names as a map; with jsonl it is a list, in class order")
    given: list[tuple[int, str | int]] = []
    for line, row in rows:
        label = row["label"]
        if rows.lines[row["image"]] != line:
            rows.refuse(line, f"{row['image']} has a label already, in line {rows.lines[row['image']]}")
        if (
            isinstance(label, bool)
            or not isinstance(label, str | int)
            or (isinstance(label, str) and not label.strip())
        ):
            rows.refuse(line, "'label' must be a class name or a class index from 0")
        if isinstance(label, int) and words.class_names is None:
            rows.refuse(line, "an index as 'label' needs prompts.class_names")
        given.append((line, label))
    images = rows.images()
    names = list(words.class_names or sorted({str(label) for _, label in given}))
    index = {name: i for i, name in enumerate(names)}
    shared = {name for name, times in Counter(names).items() if times > 1}
    labels = []
    for line, label in given:
        if isinstance(label, str) and label in shared:
            rows.refuse(line, f"the label {label!r} is the name of several classes; give its index from 0")
        value = index.get(label, -1) if isinstance(label, str) else label
        if not 0 <= value < len(names):
            right = "among the class names" if isinstance(label, str) else f"from 0 to {len(names) - 1}"
            index_of = "; an index is written without quotes" if parse_integer(str(label)) is not None else ""
            hint = index_of if isinstance(label, str) else ""
            rows.refuse(line, f"the label {short_repr(label)} is not {right}{hint}")
        labels.append(value)
    if is_imagenet(names) and (wrong := wrong_order([one.key for one in images], labels, names, f" in {rows.path}")):
        rows.survey.refuse(wrong)
    return ClassificationData(
        images=images,
        labels=np.array(labels, dtype=np.int64),
        class_names=names,
        templates=templates_by_class(words.templates, names, rows.survey),
    )


def _perception(rows: _Rows, benchmark: Any) -> PerceptionData:
    names, positives, negatives, subsets = [], [], [], []
    for line, row in rows:
        names.append(row["image"])
        positives.append(rows.text(line, row, "positive"))
        negatives.append(rows.text(line, row, "negative"))
        subsets.append(rows.text(line, row, "subset") if "subset" in row else "all")
    images = rows.images()
    place = {image.key: i for i, image in enumerate(images)}
    return PerceptionData.pairs(
        images=images,
        item_image=[place[name] for name in names],
        positives=positives,
        negatives=negatives,
        subsets=subsets,
    )


_MAKE: dict[str, Callable[[_Rows, Any], Data]] = {
    "retrieval": _retrieval,
    "classification": _classification,
    "perception": _perception,
}
