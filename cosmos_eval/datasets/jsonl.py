"""A user's own data, one JSON object a line: images with captions, labels, or right and wrong texts."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from cosmos_core.json_text import LARGEST_JSON, JsonError, load_json
from cosmos_core.short_repr import short_repr
from cosmos_core.text_files import parse_integer, read_lines
from cosmos_eval.datasets.data import (
    ChoiceData,
    ClassificationData,
    Data,
    MultilabelData,
    PerceptionData,
    RetrievalData,
)
from cosmos_eval.datasets.data.choices import Choice
from cosmos_eval.datasets.data.multilabel import build_labels
from cosmos_eval.datasets.dataset_checks import DatasetChecker, is_outside_folder
from cosmos_eval.datasets.image_folder import templates_by_class
from cosmos_eval.datasets.image_sources import FileImage
from cosmos_eval.datasets.imagenet_order import find_wrong_order, is_imagenet
from cosmos_eval.datasets.prompts import ResolvedPrompts

KEYS: dict[str, tuple[tuple[str, ...], ...]] = {
    "retrieval": (("image", "file_name"), ("captions", "caption", "text")),
    "classification": (("image", "file_name"), ("label",)),
    "multilabel": (("image", "file_name"), ("labels",)),
    "perception": (("image", "file_name"), ("positive",), ("negative",)),
    "multiple-choice": (("image", "file_name", "images"), ("captions", "caption", "text"), ("answer", "answers")),
}
"""Kind of data -> what every line must have: the key, then its names in a metadata.jsonl of `datasets`' imagefolder."""


def read_jsonl(benchmark: Any, data_root: Path) -> Data:
    """Read images with their captions, labels or texts, in the order of the file.

    A line is, by kind of data:
        retrieval: {"image": "a.jpg", "captions": ["...", "..."]}; an image may have several lines
        classification: {"image": "a.jpg", "label": "cat"} or {"image": "a.jpg", "label": 0}; one line for each image
        multilabel: {"image": "a.jpg", "labels": ["cat", "dog"], "undecided": ["car"]}; one line for each image, labels
            as names or indices, none as []; `undecided` (also called `difficult` or `ignore`) may be missing
        perception: {"image": "a.jpg", "positive": "...", "negative": "...", "subset": "..."}; an image may have several

    A metadata.jsonl of `datasets`' imagefolder is read too: `file_name` is the image, `text` or `caption` its captions.
    A text in place of a list is a list of one. Other keys and blank lines are ignored.

        multiple-choice: {"image": "a.jpg", "captions": ["...", "..."], "answer": 0, "subset": "..."} or
            {"images": ["a.jpg", "b.jpg"], "caption": "...", "answer": 1}; several right ones as "answer": [0, 2]

    Images are below `images`, or in the folder of the file. Class names are `prompts.class_names`; without it, the
    different labels in alphabetical order.

    Options: `path` (the file), `images` (folder).

    Raises:
        DataProblems: an invalid line (with file and line), images missing, labels out of range, empty classes.
    """
    checker = DatasetChecker(benchmark, data_root)
    path = checker.find_path("path", "file")
    folder = checker.find_path("images", "folder") if "images" in checker.options else None
    if path is None or (folder is None and "images" in checker.options):
        checker.raise_if_problems()
    assert path is not None
    records = _Records(path, folder or path.parent, benchmark.data_kind, checker)
    return checker.finish(_BUILDERS[benchmark.data_kind](records, benchmark))


class _Records:
    """Iterates over the lines of a file that are not blank: line number and record, in which every key is checked."""

    def __init__(self, path: Path, folder: Path, data_kind: str, checker: DatasetChecker) -> None:
        self.path, self.folder, self.checker = path, folder, checker
        self.required = KEYS[data_kind]
        self.name_in_file: dict[str, str] = {}
        """Key -> what the current line calls it, for messages."""
        self.first_lines: dict[str, int] = {}
        """Image -> number of the first line with it; in the order of the file."""

    def refuse(self, line: int, message: str) -> NoReturn:
        """Raise all problems, with that of this line."""
        self.checker.refuse(f"cannot use {self.path}:{line}: {message}")

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, line in enumerate(read_lines(self.path, LARGEST_JSON), start=1):
            if not line.strip():
                continue
            record = self._parse(number, line)
            record |= {names[0]: record[self._find_name(number, record, names)] for names in self.required}
            for image in self._images_of(number, record):
                if is_outside_folder(image):
                    self.refuse(number, f"the image {image!r} leads out of the data root")
                self.first_lines.setdefault(image, number)
            yield number, record

    def _images_of(self, line: int, record: dict[str, Any]) -> list[str]:
        """Return the images of a line, which are several only where the kind of data knows the key `images`."""
        if "images" in self.required[0] and isinstance(record["image"], list):
            return self.texts(line, record, "image")
        return [self.text(line, record, "image")]

    def _parse(self, number: int, line: str) -> dict[str, Any]:
        try:
            record = load_json(line)
        except JsonError as error:
            reason = str(error).removeprefix("line 1 ")  # a line by itself: its number in the file is already given
            self.refuse(number, f"not JSON: {reason}{self._advice(line)}")
        if not isinstance(record, dict):
            self.refuse(number, f'a line is one object, such as {{"image": "a.jpg", ...}}{self._advice(line)}')
        return record

    def _advice(self, line: str) -> str:
        """Return how to convert a file that is a table or a JSON list, by its name or its line; empty for others."""
        if self.path.suffix.lower() in (".csv", ".tsv"):
            return '; a table is not read here: write a line {"image": "a.jpg", ...} for each of its rows'
        return "; write the objects of the list, each on a line of its own" if line.lstrip().startswith("[") else ""

    def _find_name(self, line: int, record: dict[str, Any], names: tuple[str, ...]) -> str:
        """Return the first of a key's names that has a value in the record; one with null if none has."""
        present = [name for name in names if name in record]
        if not present:
            keys = ", ".join(map(repr, list(record)[:8])) or "none"
            self.refuse(line, f"the key {names[0]!r} is missing; there is {keys}")
        name = next((name for name in present if record[name] is not None), present[0])
        self.name_in_file[names[0]] = name
        return name

    def text(self, line: int, record: dict[str, Any], key: str) -> str:
        """Return the value of a key, which must be a text that is not blank."""
        value = record[key]
        if not isinstance(value, str) or not value.strip():
            self.refuse(line, f"{self.name_in_file.get(key, key)!r} must be a text, not {short_json(value)}")
        return value

    def texts(self, line: int, record: dict[str, Any], key: str) -> list[str]:
        """Return the value of a key, which must be a text or a list of at least one, none of them blank."""
        value = record[key]
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not texts or not all(isinstance(one, str) and one.strip() for one in texts):
            name = self.name_in_file.get(key, key)
            self.refuse(line, f"{name!r} must be a text or a list with at least one text, found {short_json(value)}")
        return texts

    def images(self) -> list[FileImage]:
        """Return the images of all lines, once each; call it after the iteration."""
        names = list(self.first_lines)
        if not names:
            self.checker.refuse(f"has no line in {self.path}")
        folder = self.folder
        if "images" in self.checker.options:  # of several folders, the one that has the first image
            folder = self.checker.find_path("images", "folder", containing=names[0]) or folder
        self.checker.check_images(folder, names)
        return [FileImage(name, folder / name) for name in names]


def short_json(value: Any) -> str:
    """Return a value as JSON, of at most 43 characters."""
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _build_retrieval(records: _Records, benchmark: Any) -> RetrievalData:
    captions: dict[str, list[str]] = {}
    for line, record in records:
        value = record["captions"]
        image_captions = [value] if isinstance(value, str) else value
        name = records.name_in_file["captions"]
        if not isinstance(image_captions, list) or not image_captions:
            records.refuse(line, f"{name!r} must be a text or a list with at least one text, found {short_json(value)}")
        for caption in image_captions:
            if not isinstance(caption, str):
                wrong = short_json(caption)
                records.refuse(line, f"{name!r} must be a text or a list with at least one text, found {wrong}")
        captions.setdefault(record["image"], []).extend(image_captions)
    images = records.images()
    counts = [len(captions[image.key]) for image in images]
    return RetrievalData(
        images=images,
        texts=[caption for image in images for caption in captions[image.key]],
        image_of_text=np.repeat(np.arange(len(images), dtype=np.int64), counts),
    )


def _build_classification(records: _Records, benchmark: Any) -> ClassificationData:
    prompts = _resolve_prompts(records, benchmark)
    values = _read_label_values(records, has_class_names=prompts.class_names is not None)
    images = records.images()
    names = list(prompts.class_names or sorted({str(value) for _, value in values}))
    labels = _find_class_indices(values, names, records)
    keys = [image.key for image in images]
    if is_imagenet(names) and (problem := find_wrong_order(keys, labels, names, f" in {records.path}")):
        records.checker.refuse(problem)
    return ClassificationData(
        images=images,
        labels=np.array(labels, dtype=np.int64),
        class_names=names,
        templates=templates_by_class(prompts.templates, names, records.checker),
    )


def _read_label_values(records: _Records, has_class_names: bool) -> list[tuple[int, str | int]]:
    """Return line number and label, a class name or an index, of every image."""
    values: list[tuple[int, str | int]] = []
    for line, record in records:
        _refuse_second_line(records, line, record)
        _check_label(records, line, "label", record["label"], has_class_names)
        values.append((line, record["label"]))
    return values


def _refuse_second_line(records: _Records, line: int, record: dict[str, Any]) -> None:
    """Refuse a line whose image has a label already."""
    first_line = records.first_lines[record["image"]]
    if first_line != line:
        records.refuse(line, f"{record['image']} has a label already, in line {first_line}")


def _check_label(records: _Records, line: int, key: str, value: Any, has_class_names: bool) -> None:
    """Refuse a label that is neither a class name nor an index of given class names; `key` is where it stands."""
    is_index = isinstance(value, int) and not isinstance(value, bool)
    is_name = isinstance(value, str) and bool(value.strip())
    if not is_index and not is_name:
        records.refuse(line, f"{key!r} must be a class name or a class index from 0")
    if is_index and not has_class_names:
        records.refuse(line, f"an index as {key!r} needs prompts.class_names")


def _find_class_indices(values: list[tuple[int, str | int]], names: list[str], records: _Records) -> list[int]:
    """Return the class index of each label; refuse labels that are no class or the name of several."""
    index_of_name = {name: i for i, name in enumerate(names)}
    repeated_names = {name for name, times in Counter(names).items() if times > 1}
    labels = []
    for line, value in values:
        if isinstance(value, str):
            if value in repeated_names:
                records.refuse(line, f"the label {value!r} is the name of several classes; give its index from 0")
            if value not in index_of_name:
                advice = "; an index is written without quotes" if parse_integer(value) is not None else ""
                records.refuse(line, f"the label {short_repr(value)} is not among the class names{advice}")
            labels.append(index_of_name[value])
        else:
            if not 0 <= value < len(names):
                records.refuse(line, f"the label {short_repr(value)} is not from 0 to {len(names) - 1}")
            labels.append(value)
    return labels


UNDECIDED_NAMES = ("undecided", "difficult", "ignore")
"""Names of the optional key with classes for and against which an image does not count."""


def _build_multilabel(records: _Records, benchmark: Any) -> MultilabelData:
    prompts = _resolve_prompts(records, benchmark)
    # The labels of all images in one list, and how many each image has.
    values: dict[str, list[tuple[int, str | int]]] = {"labels": [], "undecided": []}
    counts: dict[str, list[int]] = {"labels": [], "undecided": []}
    for line, record in records:
        _refuse_second_line(records, line, record)
        undecided_name = next((name for name in UNDECIDED_NAMES if record.get(name) is not None), "")
        for key, name in (("labels", "labels"), ("undecided", undecided_name)):
            labels = record[name] if name else []
            labels = [labels] if isinstance(labels, str) else labels
            if not isinstance(labels, list):
                records.refuse(line, f"{name!r} must be a list of classes, not {short_json(labels)}")
            for label in labels:
                _check_label(records, line, name, label, has_class_names=prompts.class_names is not None)
            values[key] += [(line, label) for label in labels]
            counts[key].append(len(labels))
    images = records.images()
    every_label = {str(value) for of_key in values.values() for _, value in of_key}
    names = list(prompts.class_names or sorted(every_label))
    present, undecided = (
        np.split(_find_class_indices(values[key], names, records), np.cumsum(counts[key])[:-1])
        for key in ("labels", "undecided")
    )
    labels = build_labels(
        [classes.astype(int).tolist() for classes in present],
        [classes.astype(int).tolist() for classes in undecided],
        len(names),
    )
    return MultilabelData(images, labels, names, templates_by_class(prompts.templates, names, records.checker))


def _resolve_prompts(records: _Records, benchmark: Any) -> ResolvedPrompts:
    """Return a definition's class names, a list if there are any, and templates; refuse what jsonl cannot use."""
    prompts: ResolvedPrompts = benchmark.resolve_prompts()
    if prompts.templates is None and "templates" in benchmark.prompts:
        records.checker.refuse("has no prompt templates; give prompts.templates as a list, a file or a named set")
    if isinstance(prompts.class_names, dict):
        records.checker.refuse("has prompts.class_names as a map; for jsonl it must be a list, in class order")
    return prompts


def _build_perception(records: _Records, benchmark: Any) -> PerceptionData:
    names, positives, negatives, subsets = [], [], [], []
    for line, record in records:
        names.append(record["image"])
        positives.append(records.text(line, record, "positive"))
        negatives.append(records.text(line, record, "negative"))
        subsets.append(records.text(line, record, "subset") if "subset" in record else "all")
    images = records.images()
    index_of_image = {image.key: i for i, image in enumerate(images)}
    return PerceptionData.pairs(
        images=images,
        item_image=[index_of_image[name] for name in names],
        positives=positives,
        negatives=negatives,
        subsets=subsets,
    )


def _build_multiple_choice(records: _Records, benchmark: Any) -> ChoiceData:
    items: list[tuple[list[str], Choice]] = []
    for line, record in records:
        names = [record["image"]] if isinstance(record["image"], str) else record["image"]
        captions = records.texts(line, record, "captions")
        candidates = max(len(names), len(captions))
        if min(len(names), len(captions)) > 1 or candidates < 2:
            records.refuse(
                line,
                f"has {len(names)} images and {len(captions)} captions; give one image and several captions, or "
                "several images and one caption",
            )
        answer = record["answer"]
        right = answer if isinstance(answer, list) else [answer]
        is_position = [isinstance(one, int) and not isinstance(one, bool) and 0 <= one < candidates for one in right]
        if not right or not all(is_position):
            name = records.name_in_file["answer"]
            records.refuse(
                line,
                f"{name!r} must be the position of the right candidate from 0 to {candidates - 1}, or a list of such "
                f"positions, not {short_json(answer)}",
            )
        if len(set(right)) == candidates:
            records.refuse(line, f"all {candidates} candidates are right; an item needs a wrong one")
        subset = records.text(line, record, "subset") if "subset" in record else "all"
        items.append((names, Choice((), captions, right, subset)))
    images = records.images()
    index_of_image = {image.key: i for i, image in enumerate(images)}
    return ChoiceData.from_items(
        images, (item._replace(images=[index_of_image[name] for name in names]) for names, item in items)
    )


_BUILDERS: dict[str, Callable[[_Records, Any], Data]] = {
    "retrieval": _build_retrieval,
    "classification": _build_classification,
    "multilabel": _build_multilabel,
    "perception": _build_perception,
    "multiple-choice": _build_multiple_choice,
}
"""Kind of data -> the function that builds it."""
