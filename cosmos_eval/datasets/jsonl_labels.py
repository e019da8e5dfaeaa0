"""Classification and multi-label data from a user's jsonl file: labels as class names or as indices."""

from collections import Counter
from typing import Any

import numpy as np

from cosmos_core.short_repr import short_repr
from cosmos_core.text_files import parse_integer
from cosmos_eval.datasets.data import ClassificationData, MultilabelData
from cosmos_eval.datasets.data.multilabel import build_labels
from cosmos_eval.datasets.image_folder import templates_by_class
from cosmos_eval.datasets.imagenet_order import find_wrong_order, is_imagenet
from cosmos_eval.datasets.jsonl_records import Records, short_json
from cosmos_eval.datasets.prompts import ResolvedPrompts


def build_classification(records: Records, benchmark: Any) -> ClassificationData:
    """Build the data of images with one label each."""
    prompts = _resolve_prompts(records, benchmark)
    values = _read_label_values(records, has_class_names=prompts.class_names is not None)
    images = records.images()
    labels_of_classes, names = _name_classes(prompts, {str(value) for _, value in values})
    labels = _find_class_indices(_as_keys(values, prompts, records), labels_of_classes, records)
    keys = [image.key for image in images]
    if is_imagenet(names) and (problem := find_wrong_order(keys, labels, names, f" in {records.path}")):
        records.checker.refuse(problem)
    return ClassificationData(
        images=images,
        labels=np.array(labels, dtype=np.int64),
        class_names=names,
        templates=templates_by_class(prompts.templates, names, records.checker),
    )


def _read_label_values(records: Records, has_class_names: bool) -> list[tuple[int, str | int]]:
    """Return line number and label, a class name or an index, of every image."""
    values: list[tuple[int, str | int]] = []
    for line, record in records:
        _refuse_second_line(records, line, record)
        _check_label(records, line, "label", record["label"], has_class_names)
        values.append((line, record["label"]))
    return values


def _refuse_second_line(records: Records, line: int, record: dict[str, Any]) -> None:
    """Refuse a line whose image has a label already."""
    first_line = records.first_lines[record["image"]]
    if first_line != line:
        records.refuse(line, f"{record['image']} has a label already, in line {first_line}")


def _check_label(records: Records, line: int, key: str, value: Any, has_class_names: bool) -> None:
    """Refuse a label that is neither a class name nor an index of given class names; `key` is where it stands."""
    is_index = isinstance(value, int) and not isinstance(value, bool)
    is_name = isinstance(value, str) and bool(value.strip())
    if not is_index and not is_name:
        records.refuse(line, f"{key!r} must be a class name or a class index from 0")
    if is_index and not has_class_names:
        records.refuse(line, f"an index as {key!r} needs prompts.class_names")


def _name_classes(prompts: ResolvedPrompts, labels: set[str]) -> tuple[list[str], list[str]]:
    """Return what lines call each class, and its name, in class order.

    A list gives names that are also the labels; a map gives the name of each label, also of one that is a number;
    without either, the labels are the names, in alphabetical order.
    """
    if isinstance(prompts.class_names, dict):
        return list(prompts.class_names), list(prompts.class_names.values())
    names = list(prompts.class_names or sorted(labels))
    return names, names


def _as_keys(
    values: list[tuple[int, str | int]], prompts: ResolvedPrompts, records: Records
) -> list[tuple[int, str | int]]:
    """Return labels as they stand in a map of class names (numbers as texts); refuse one that the map lacks."""
    if not isinstance(prompts.class_names, dict):
        return values
    for line, value in values:
        if str(value) not in prompts.class_names:
            records.refuse(
                line, f"the label {short_repr(value)} is not a key of the map prompts.class_names; add its name"
            )
    return [(line, str(value)) for line, value in values]


def _find_class_indices(values: list[tuple[int, str | int]], names: list[str], records: Records) -> list[int]:
    """Return the class index of each label; refuse labels that are not a class or the name of several."""
    index_of_name = {name: i for i, name in enumerate(names)}
    repeated_names = {name for name, times in Counter(names).items() if times > 1}
    labels = []
    for line, value in values:
        if isinstance(value, str):
            if value in repeated_names:
                records.refuse(line, f"the label {value!r} is the name of several classes; give its index from 0")
            if value not in index_of_name:
                advice = "; an index is written without quotes" if parse_integer(value) is not None else RENAME
                records.refuse(line, f"the label {short_repr(value)} is not among the class names{advice}")
            labels.append(index_of_name[value])
        else:
            if not 0 <= value < len(names):
                records.refuse(line, f"the label {short_repr(value)} is not from 0 to {len(names) - 1}")
            labels.append(value)
    return labels


RENAME = "; to rename classes, give prompts.class_names as a map from label to name"
UNDECIDED_NAMES = ("undecided", "difficult", "ignore")
"""Names of the optional key with classes for and against which an image does not count."""


def build_multilabel(records: Records, benchmark: Any) -> MultilabelData:
    """Build the data of images with any number of labels each."""
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
    labels_of_classes, names = _name_classes(prompts, every_label)
    indices = {
        key: _find_class_indices(_as_keys(labels, prompts, records), labels_of_classes, records)
        for key, labels in values.items()
    }
    present, undecided = (np.split(indices[key], np.cumsum(counts[key])[:-1]) for key in ("labels", "undecided"))
    labels = build_labels(
        [classes.astype(int).tolist() for classes in present],
        [classes.astype(int).tolist() for classes in undecided],
        len(names),
    )
    return MultilabelData(images, labels, names, templates_by_class(prompts.templates, names, records.checker))


def _resolve_prompts(records: Records, benchmark: Any) -> ResolvedPrompts:
    """Return a definition's class names and templates; refuse what jsonl cannot use."""
    prompts: ResolvedPrompts = benchmark.resolve_prompts()
    if prompts.templates is None and "templates" in benchmark.prompts:
        records.checker.refuse("has no prompt templates; give prompts.templates as a list, a file or a named set")
    return prompts
