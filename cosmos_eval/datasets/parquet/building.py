"""Data of each kind from the rows of Parquet files."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cosmos_core.printable import plural
from cosmos_core.short_repr import short_repr
from cosmos_core.text_files import parse_integer
from cosmos_eval.datasets.class_order import check_class_order
from cosmos_eval.datasets.consistency import format_names
from cosmos_eval.datasets.data import ClassificationData, Data, PerceptionData, RetrievalData
from cosmos_eval.datasets.image_folder import templates_by_class
from cosmos_eval.datasets.image_sources import ImageSource
from cosmos_eval.datasets.imagenet_order import find_wrong_order, is_imagenet
from cosmos_eval.datasets.parquet.columns import (
    CAPTION_NAMES,
    LABEL_NAMES,
    NEGATIVE_NAMES,
    POSITIVE_NAMES,
    SUBSET_NAMES,
    find_columns,
    is_integer,
    is_text,
    is_text_list,
)
from cosmos_eval.datasets.parquet.rows import Row, Rows
from cosmos_eval.datasets.parquet.table_file import class_names_of


def build_retrieval(rows: Rows, benchmark: Any) -> RetrievalData:
    """Return images with the captions of their rows."""
    columns = rows.columns(lambda table: find_columns(table, "caption_columns", CAPTION_NAMES, rows.checker, True))
    rows.require_type(columns, "texts, or lists of texts", is_text, is_text_list)
    captions: list[list[str]] = []
    for row in rows.iterate(columns):
        if row.image == len(captions):
            captions.append([])
        captions[row.image] += rows.texts(row, columns)
    return RetrievalData(
        images=rows.images,
        texts=[caption for image_captions in captions for caption in image_captions],
        image_of_text=np.repeat(np.arange(len(captions), dtype=np.int64), list(map(len, captions))),
    )


def build_classification(rows: Rows, benchmark: Any) -> ClassificationData:
    """Return images with the class of their row."""
    checker = rows.checker
    prompts = benchmark.resolve_prompts()
    if prompts.templates is None and "templates" in benchmark.prompts:
        checker.refuse("has no prompt templates; give prompts.templates as a list, a file or a named set")
    (column,) = rows.columns(lambda table: find_columns(table, "label_column", LABEL_NAMES, checker))
    rows.require_type([column], "whole numbers, or texts", is_integer, is_text)
    of_numbers = [is_integer(table.schema.field(column).type) for table in rows.tables]
    if len(set(of_numbers)) > 1:
        checker.refuse(
            f"has the column {column!r} as numbers in some files and as texts in others; give files of one kind"
        )
    class_names = _names_of_numbers(rows, column, prompts.class_names) if of_numbers[0] else None
    reads_names = class_names is not None and is_imagenet(class_names)
    labels, keys = _read_labels(rows, column, class_names, reads_names)
    if class_names is None:
        class_names, labels = _names_of_texts(rows, column, prompts.class_names, labels)
    if reads_names and (problem := find_wrong_order(keys, labels, class_names, f" in {rows.tables[0].path}")):
        checker.refuse(problem)
    return ClassificationData(
        images=rows.images,
        labels=np.array(labels, dtype=np.int64),
        class_names=class_names,
        templates=templates_by_class(prompts.templates, class_names, checker),
    )


def _names_of_numbers(rows: Rows, column: str, names: Any) -> list[str]:
    """Return the names of numbered classes: the definition's, compared with those in the files, or the latter."""
    checker = rows.checker
    in_files = [class_names_of(table.features(), column) for table in rows.tables]
    for table, other in zip(rows.tables, in_files, strict=True):
        if other != in_files[0]:
            checker.refuse(
                f"has other class names in {table.path} than in {rows.tables[0].path}; give files of one kind"
            )
    published = in_files[0]
    if isinstance(names, Mapping):
        if published is None:
            checker.refuse(
                f"has prompts.class_names as a map, but {rows.tables[0].path} has no names for the numbers in "
                f"{column!r}; give a list, in class order"
            )
        return _map_names(names, published, checker)
    if names is None and published is None:
        checker.refuse(
            f"has numbers in the column {column!r} of {rows.tables[0].path}, and no names for them; give "
            "prompts.class_names as a list, in class order"
        )
    if names is not None and published is not None:
        check_class_order(list(names), published, "prompts.class_names", checker)
    return list(names if names is not None else published or ())


def _map_names(names: Mapping[str, str], labels: Sequence[str], checker: Any) -> list[str]:
    """Return the class name of each label by the definition's map."""
    nameless = [label for label in labels if label not in names]
    if nameless:
        checker.refuse(
            f"has no class name for {plural(len(nameless), 'label')}: {format_names(nameless)}; add them to "
            "prompts.class_names"
        )
    return [names[label] for label in labels]


def _read_labels(
    rows: Rows, column: str, class_names: Sequence[str] | None, reads_names: bool
) -> tuple[list[Any], list[str]]:
    """Return the label of each image, an index where there are class names and else a text; and names of image files.

    Args:
        reads_names: whether the names of image files are wanted.
    """
    labels: list[Any] = []
    keys: list[str] = []
    first_rows: dict[int, Row] = {}
    for row in rows.iterate([column], reads_names):
        value = row.values[column]
        if value is None or (isinstance(value, str) and not value.strip()):
            what = "null" if value is None else "an empty text"
            rows.refuse_value(row, column, f"{what} in place of a label; leave the row out")
        if class_names is not None and not 0 <= value < len(class_names):
            hint = ": the hub writes -1 where labels are not published, so give another split" if value == -1 else ""
            rows.refuse_value(row, column, f"the label {value} is not from 0 to {len(class_names) - 1}{hint}")
        if row.image < len(labels):
            first = first_rows[row.image]
            rows.refuse_value(
                row, column, f"its image has a label already, in row {first.number} of {first.table.name}"
            )
        labels.append(value)
        if not rows.in_bytes or rows.id_column is not None:
            first_rows[row.image] = row
        if reads_names:
            keys.append(rows.file_name(row))
    return labels, keys


def _names_of_texts(rows: Rows, column: str, names: Any, labels: list[str]) -> tuple[list[str], list[int]]:
    """Return the class names, and the index of each label: the labels are names, or keys of the definition's map."""
    checker = rows.checker
    distinct = sorted(set(labels))
    if isinstance(names, Mapping):
        index_of_label = {label: i for i, label in enumerate(distinct)}
        return _map_names(names, distinct, checker), [index_of_label[label] for label in labels]
    class_names = list(names) if names is not None else distinct
    counts = Counter(class_names)
    index_of_name = {name: i for i, name in enumerate(class_names)}
    for label in distinct:
        where = f"cannot use the column {column!r} of {rows.tables[0].path}: "
        if label not in index_of_name:
            advice = "; write numbers as integers" if parse_integer(label) is not None else ""
            checker.refuse(f"{where}the label {short_repr(label)} is not among prompts.class_names{advice}")
        if counts[label] > 1:
            checker.refuse(f"{where}the label {short_repr(label)} is the name of several classes; write its index")
    return class_names, [index_of_name[label] for label in labels]


def build_perception(rows: Rows, benchmark: Any) -> PerceptionData:
    """Return items of an image, its right caption and its wrong ones; with the option `negative_image_column`, items of
    two images and two captions."""
    checker = rows.checker
    (positive,) = rows.columns(lambda table: find_columns(table, "positive_column", POSITIVE_NAMES, checker))
    negatives = rows.columns(lambda table: find_columns(table, "negative_columns", NEGATIVE_NAMES, checker, True))
    subset = rows.columns(lambda table: _find_subset(rows, table))
    group = rows.columns(lambda table: _find_group(rows, table))
    rows.require_type([*subset, *group], "texts", is_text)
    rows.require_type([positive, *negatives], "texts, or lists of texts", is_text, is_text_list)
    images: list[int] = []
    choices: list[list[str]] = []
    subsets: list[str] = []
    parts: list[str] = []
    for row in rows.iterate([positive, *negatives, *subset, *group]):
        right, wrong = rows.texts(row, [positive]), rows.texts(row, negatives)
        if len(right) != 1:
            rows.refuse_value(row, positive, f"{len(right):,} right captions; an item has one: write a row for each")
        if choices and len(wrong) != len(choices[0]) - 1:
            expected = f"{len(choices[0]) - 1:,} as in the first row"
            rows.refuse_value(row, negatives[0], f"{plural(len(wrong), 'wrong caption')}, in place of {expected}")
        images.append(row.image)
        choices.append([*right, *wrong])
        subsets += rows.texts(row, subset) or ["all"]
        parts.append(" ".join(rows.texts(row, group)))
    count, width = len(choices), len(choices[0])
    item_images = np.array(images, dtype=np.int64)[:, None]
    all_images = list(rows.images)
    if "negative_image_column" in checker.options:
        if width != 2:
            checker.refuse(f"has {width - 1:,} wrong captions in each row; with negative_image_column, give one")
        negative_images, negative_index = _read_negative_images(rows, positive)
        item_images = np.stack([item_images[:, 0], len(all_images) + negative_index], axis=1)
        all_images += negative_images
    return PerceptionData(
        images=all_images,
        texts=[texts[place] for place in range(width) for texts in choices],
        item_images=item_images,
        item_texts=np.arange(count)[:, None] + count * np.arange(width),
        subsets=subsets,
        groups={" ".join(group): parts} if group else {},
    )


def _read_negative_images(rows: Rows, column: str) -> tuple[list[ImageSource], np.ndarray]:
    """Return the images of the column `negative_image_column`, and the index among them of each row's image.

    Args:
        column: a column of texts that is read beside them.
    """
    if rows.id_column is not None:
        rows.checker.refuse("has image_id_column and negative_image_column; give one of them")
    name = rows.checker.options["negative_image_column"]
    if name == rows.image_columns.name:
        rows.checker.refuse(f"has the column {name!r} as image_column and as negative_image_column; give two columns")
    negative_rows = Rows(rows.tables, rows.folder, rows.checker, name)
    index = [row.image for row in negative_rows.iterate([column])]
    return list(negative_rows.images), np.array(index, dtype=np.int64)


def _find_subset(rows: Rows, table: Any) -> list[str]:
    """Return the column of subsets, if the definition names one or a column has the usual name."""
    has_usual = any(name.lower() in SUBSET_NAMES for name in table.schema.names)
    if "subset_column" in rows.checker.options or has_usual:
        return find_columns(table, "subset_column", SUBSET_NAMES, rows.checker)
    return []


def _find_group(rows: Rows, table: Any) -> list[str]:
    """Return the columns of the option `group_columns`; none if it is not given."""
    if "group_columns" not in rows.checker.options:
        return []
    return find_columns(table, "group_columns", (), rows.checker)


BUILDERS: dict[str, Callable[[Rows, Any], Data]] = {
    "retrieval": build_retrieval,
    "classification": build_classification,
    "perception": build_perception,
}
"""Kind of data -> the function that builds it."""
