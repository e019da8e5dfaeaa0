"""Images with any number of labels each."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from cosmos_core.errors import RequestError, naming
from cosmos_core.printable import plural
from cosmos_eval.datasets.consistency import format_names
from cosmos_eval.datasets.data.base import Data, spread_indices
from cosmos_eval.datasets.data.class_prompts import (
    find_broken_class_prompts,
    hash_class_prompts,
    select_shared_templates,
)
from cosmos_eval.datasets.fingerprint import ContentHash
from cosmos_eval.datasets.image_sources import ImageSource
from cosmos_eval.datasets.kinds import MULTILABEL
from cosmos_eval.datasets.memory_images import as_image_sources
from cosmos_eval.datasets.memory_values import (
    as_class_names,
    as_labels,
    as_list,
    as_templates,
    as_texts,
    as_whole_numbers,
)

ABSENT, PRESENT, UNDECIDED = 0, 1, -1
"""What an image says of a class. UNDECIDED, such as an object that VOC's annotators called difficult: the image counts
neither for nor against the class."""


@dataclass(frozen=True, repr=False)
class MultilabelData(Data):
    """N images, each with any number of C classes.

    `templates` are the prompt templates of all classes, or one list of templates for each class, in class order.
    """

    kind = MULTILABEL
    hashed_as = "MultilabelData"

    images: Sequence[ImageSource]
    labels: np.ndarray  # (N, C) int8: PRESENT, ABSENT or UNDECIDED
    class_names: Sequence[str]
    templates: Sequence[str] | Sequence[Sequence[str]]
    fingerprint: str = ""
    remarks: Sequence[str] = ()
    name: str = ""

    @classmethod
    def from_lists(
        cls,
        images: Iterable[Any],
        labels: Any,
        class_names: Sequence[str] | str | None = None,
        templates: Any = None,
        undecided: Sequence[Sequence[Any]] | None = None,
        *,
        name: str = "",
        names: Sequence[str] | None = None,
        root: str | Path | None = None,
    ) -> "MultilabelData":
        """Build the data from lists in memory, for `cosmos_eval.evaluate`.

        Args:
            images: N images, as `memory_images.as_image_sources` accepts them.
            labels: for each image the list of its classes, as names or as indices from 0; or an array (N, C) of 1, 0
                and -1 (undecided). Lists that look like such an array are refused.
            class_names, templates, name, names, root: as in `ClassificationData.from_lists`.
            undecided: for each image the classes for and against which it does not count.

        Raises:
            RequestError: wrong types, other lengths, or a label that is not a class.
        """
        with naming(cls.__name__):
            sources = as_image_sources(images, root, names)
            is_table = hasattr(labels, "shape")
            rows = [] if is_table else [as_list(row, f"labels[{i}]") for i, row in enumerate(as_list(labels, "labels"))]
            further = [as_list(row, f"undecided[{i}]") for i, row in enumerate(undecided or [()] * len(rows))]
            used = [label for row in (*rows, *further) for label in row]
            class_list = as_class_names(class_names, [0] if is_table else used)
            if is_table:
                table = as_whole_numbers(labels, "labels", 2)
            else:
                _refuse_table_in_lists(rows, len(class_list))
                for noun, given in (("labels", rows), ("undecided", further)):
                    if len(given) != len(sources):
                        raise RequestError(
                            f"got {plural(len(sources), 'image')} and {len(given):,} {noun}; give one for each"
                        )
                table = build_labels(
                    _class_indices(rows, class_list, "labels"),
                    _class_indices(further, class_list, "undecided"),
                    len(class_list),
                )
            return cls(sources, table, class_list, as_templates(templates, class_list), name=name).normalised()

    def normalised(self) -> Self:
        class_names = as_texts(self.class_names, "class_names")
        labels = as_whole_numbers(self.labels, "labels", 2)
        clipped = np.clip(labels, -128, 127).astype(np.int8)  # values that are not labels stay none
        return (
            super()
            .normalised()
            .replaced(labels=clipped, class_names=class_names, templates=as_templates(self.templates, class_names))
        )

    def without_prompts(self) -> Self:
        return self.replaced(templates=[], fingerprint="")

    def counts(self) -> dict[str, int]:
        counts = {"images": len(self.images), "classes": len(self.class_names)}
        counts["labels"] = int((self.labels == PRESENT).sum())
        undecided = int((self.labels == UNDECIDED).sum())
        return {**counts, "undecided": undecided} if undecided else counts

    def hash_into(self, content: ContentHash) -> None:
        content.integers(f"labels {len(self.class_names)}", self.labels.astype(np.int64).reshape(-1))
        hash_class_prompts(content, self.class_names, self.templates)

    def problems(self) -> list[str]:
        names = list(self.class_names)
        problems = find_broken_class_prompts(names, self.templates)
        repeated = sorted(name for name, times in Counter(names).items() if times > 1)
        if repeated:  # every class has a metric of its name
            problems.append(
                f"has {plural(len(repeated), 'class name')} twice: {format_names(repeated)}; name each class apart"
            )
        if self.labels.shape != (len(self.images), len(names)):
            shape = " x ".join(map(str, self.labels.shape))
            problems.append(
                f"has labels of {shape} for {plural(len(self.images), 'image')} and "
                f"{plural(len(names), 'class', 'classes')}"
            )
            return problems
        odd = np.flatnonzero(~np.isin(self.labels, (ABSENT, PRESENT, UNDECIDED)).all(1))
        if len(odd):
            keys = format_names(self.images[i].key for i in odd.tolist())
            problems.append(
                f"has {plural(len(odd), 'image')} with a label other than {PRESENT}, {ABSENT}, {UNDECIDED}: {keys}"
            )
        if not (self.labels == PRESENT).any():
            problems.append("has no image with a label")
        if self.templates and not select_shared_templates(self.templates) and len(self.templates) != len(names):
            problems.append(
                f"has prompts for {plural(len(self.templates), 'class', 'classes')}, but {len(names):,} class names"
            )
        return problems

    def observations(self) -> list[str]:
        present = self.labels == PRESENT
        observations = []
        unused = [self.class_names[c] for c in np.flatnonzero(~present.any(0)).tolist()]
        if unused:
            verb = "has" if len(unused) == 1 else "have"
            observations.append(
                f"{len(unused):,} of {plural(len(self.class_names), 'class', 'classes')} {verb} no image and no "
                f"average precision: {format_names(unused)}"
            )
        return observations

    def subset(self, n: int) -> Self:
        image_indices = spread_indices(len(self.images), n)
        if not (self.labels[image_indices] == PRESENT).any():  # then the first images with a label, which exist
            image_indices = np.sort(np.flatnonzero((self.labels == PRESENT).any(1))[:n])
        return self.replaced(
            images=[self.images[i] for i in image_indices.tolist()], labels=self.labels[image_indices], fingerprint=""
        )


def _refuse_table_in_lists(rows: Sequence[Sequence[Any]], classes: int) -> None:
    """Refuse lists that are rows of a table (N, C) of 1, 0 and -1: read as indices, 0 and 1 would be two classes."""
    values = (ABSENT, PRESENT, UNDECIDED)
    if classes < 2 or not rows or any(len(row) != classes for row in rows):
        return
    if all(not isinstance(entry, str) and entry in values for row in rows for entry in row):
        raise RequestError(
            f"labels are lists of {classes:,} values 0 and 1 for {classes:,} classes; give such a table as an array, "
            "numpy.array(labels), or for each image the indices of its classes"
        )


def _class_indices(rows: Sequence[Sequence[Any]], class_names: Sequence[str], noun: str) -> list[list[int]]:
    """Return the indices of each image's classes.

    Raises:
        RequestError: no class of this name or index; names the position.
    """
    indices = []
    for i, row in enumerate(rows):
        classes = as_labels(row, class_names, f"{noun}[{i}]").tolist()
        wrong = next((label for label in classes if not 0 <= label < len(class_names)), None)
        if wrong is not None:
            raise RequestError(f"{noun}[{i}] has the label {wrong}, outside 0 to {len(class_names) - 1}")
        indices.append(classes)
    return indices


def build_labels(present: Sequence[Sequence[int]], undecided: Sequence[Sequence[int]], class_count: int) -> np.ndarray:
    """Build (N, C) int8 labels from the classes of each image; a class in both lists is PRESENT.

    Args:
        present: indices of the classes of each image.
        undecided: indices of the undecided classes of each image.
        class_count: C.
    """
    labels = np.full((len(present), class_count), ABSENT, dtype=np.int8)
    for value, classes_by_image in ((UNDECIDED, undecided), (PRESENT, present)):
        for row, classes in zip(labels, classes_by_image, strict=True):
            row[list(classes)] = value
    return labels
