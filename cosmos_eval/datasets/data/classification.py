"""Images with one label each."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from cosmos_core.errors import RequestError, naming
from cosmos_core.printable import plural
from cosmos_eval.datasets.consistency import format_names
from cosmos_eval.datasets.data.base import Data, spread_indices
from cosmos_eval.datasets.data.class_prompts import find_broken_class_prompts, hash_class_prompts
from cosmos_eval.datasets.fingerprint import ContentHash
from cosmos_eval.datasets.image_sources import ImageSource
from cosmos_eval.datasets.kinds import CLASSIFICATION
from cosmos_eval.datasets.memory_images import as_image_sources
from cosmos_eval.datasets.memory_values import as_class_names, as_labels, as_list, as_templates, as_texts


@dataclass(frozen=True, repr=False)
class ClassificationData(Data):
    """N images with one label each.

    `templates` are the prompt templates of all classes, or one list of templates for each class, in class order; empty
    for a task without prompts.
    """

    kind = CLASSIFICATION
    hashed_as = "ClassificationData"

    images: Sequence[ImageSource]
    labels: np.ndarray  # (N,) int64, indices of class_names
    class_names: Sequence[str]
    templates: Sequence[str] | Sequence[Sequence[str]]
    fingerprint: str = ""
    empty_classes_allowed: bool = False
    """Whether a class may have no image and is a candidate all the same: if only a part of the images is read
    (`--limit`), or the definition says `candidates_without_images: allow`."""
    remarks: Sequence[str] = ()
    name: str = ""
    groups: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Kind of group, such as region -> (N,) int64 number of the group of each image, whose accuracies are measured."""

    @classmethod
    def from_lists(
        cls,
        images: Iterable[Any],
        labels: Iterable[Any],
        class_names: Sequence[str] | str | None = None,
        templates: Any = None,
        *,
        name: str = "",
        names: Sequence[str] | None = None,
        root: str | Path | None = None,
        empty_classes_allowed: bool = False,
    ) -> "ClassificationData":
        """Build the data from lists in memory, for `cosmos_eval.evaluate`.

        Args:
            images: N images, as `memory_images.as_image_sources` accepts them: paths, PIL images, bytes, arrays.
            labels: (N,) indices of `class_names` from 0, or class names.
            class_names: C texts in class order, or a named set (`imagenet1k`). Without it, the different labels in
                alphabetical order, as the reader `jsonl` does.
            templates: texts with `{c}` for the class name, a named set (`openai-80`), a map from class name to texts,
                or one list for each class; by default "a photo of a {c}.".
            name: of the benchmark in results.
            names: a name for each image; `root`: the folder to which names of files are relative.
            empty_classes_allowed: whether classes may have no image and are candidates all the same.

        Raises:
            RequestError: wrong types, other lengths, or a label that is not a class.
        """
        with naming(cls.__name__):
            label_list = as_list(labels.tolist() if hasattr(labels, "tolist") else labels, "labels")
            class_list = as_class_names(class_names, label_list)
            sources = as_image_sources(images, root, names)
            if len(label_list) != len(sources):
                raise RequestError(
                    f"got {plural(len(sources), 'image')} and {plural(len(label_list), 'label')}; give one for each"
                )
            return cls(
                images=sources,
                labels=as_labels(label_list, class_list),
                class_names=class_list,
                templates=as_templates(templates, class_list),
                empty_classes_allowed=empty_classes_allowed,
                name=name,
            )

    @classmethod
    def from_dataset(
        cls,
        dataset: Any,
        class_names: Sequence[str] | str | None = None,
        templates: Any = None,
        *,
        image_column: str = "image",
        label_column: str = "label",
        name: str = "",
    ) -> "ClassificationData":
        """Build the data from a torchvision `Dataset` of (PIL image, label), or one of the library `datasets`.

        Args:
            dataset: a map-style dataset object without transforms that make tensors.
            class_names: as in `from_lists`; by default those that the object carries (`classes`, `features`).
            templates: as in `from_lists`.
            image_column, label_column: where items are dictionaries.
            name: of the benchmark in results.

        Raises:
            RequestError: an object or items of another form, or no class names.
        """
        from cosmos_eval.datasets.dataset_objects import find_class_names, read_items

        with naming(cls.__name__):
            images, labels = read_items(dataset, image_column, label_column)
        class_names = find_class_names(dataset, label_column) if class_names is None else class_names
        return cls.from_lists(images, labels, class_names, templates, name=name)

    def normalised(self) -> Self:
        class_names = as_texts(self.class_names, "class_names")
        return (
            super()
            .normalised()
            .replaced(
                labels=as_labels(as_list(self.labels, "labels"), class_names),
                class_names=class_names,
                templates=as_templates(self.templates, class_names),
            )
        )

    def without_prompts(self) -> Self:
        return self.replaced(templates=[], fingerprint="")

    def counts(self) -> dict[str, int]:
        return {"images": len(self.images), "classes": len(self.class_names)}

    def hash_into(self, content: ContentHash) -> None:
        content.integers("labels", self.labels)
        hash_class_prompts(content, self.class_names, self.templates)
        for kind, groups in self.groups.items():
            content.integers(f"group {kind}", groups)

    def problems(self) -> list[str]:
        keys, classes = [image.key for image in self.images], len(self.class_names)
        problems = find_broken_class_prompts(self.class_names, self.templates)
        if len(self.labels) != len(keys):
            return [f"has {plural(len(keys), 'image')} but {plural(len(self.labels), 'label')}"]
        problems += [
            f"has {plural(len(groups), 'group')} of the kind {kind} for {plural(len(keys), 'image')}"
            for kind, groups in self.groups.items()
            if len(groups) != len(keys)
        ]
        wrong_labels = [f"{keys[i]} ({label})" for i, label in enumerate(self.labels) if not 0 <= label < classes]
        if wrong_labels:
            problems.append(
                f"has {plural(len(wrong_labels), 'label')} outside 0 to {classes - 1}: {format_names(wrong_labels)}"
            )
        if not self.empty_classes_allowed:
            empty = self._empty_classes()
            if empty:
                problems.append(
                    f"has {plural(len(empty), 'class', 'classes')} without an image: {format_names(empty)}; leave them "
                    "out, or, if they are only candidates, write candidates_without_images: allow in dataset of a "
                    "definition (in Python: empty_classes_allowed=True)"
                )
        per_class = self.templates and not isinstance(self.templates[0], str)
        if per_class and len(self.templates) != classes:
            problems.append(
                f"has prompts for {plural(len(self.templates), 'class', 'classes')}, but {classes:,} class names"
            )
        return problems

    def observations(self) -> list[str]:
        observations = []
        empty = self._empty_classes() if self.empty_classes_allowed else []
        if empty:
            verb = "has" if len(empty) == 1 else "have"
            observations.append(
                f"{len(empty):,} of {plural(len(self.class_names), 'class', 'classes')} {verb} no image: "
                f"{format_names(empty)}"
            )
        names = [" ".join(name.split()) for name in self.class_names]
        repeated = sorted(name for name, times in Counter(names).items() if times > 1)
        if repeated:
            observations.append(f"several classes have the same name and tie: {format_names(repeated)}")
        if len(names) == 1:
            observations.append(f"the only class is {format_names(names)}, so every image counts as right")
        return observations

    def subset(self, n: int) -> Self:
        image_indices = spread_indices(len(self.images), n)
        # All classes stay candidates: with fewer, the task would be easier.
        return self.replaced(
            images=[self.images[i] for i in image_indices.tolist()],
            labels=self.labels[image_indices],
            groups={kind: groups[image_indices] for kind, groups in self.groups.items()},
            fingerprint="",
            empty_classes_allowed=True,
        )

    def with_options(self, options: Mapping[str, Any]) -> Self:
        return self.replaced(empty_classes_allowed=True) if self.kind.options[0] in options else self

    def with_classes(self, class_names: Sequence[str]) -> Self:
        """Return the data with these classes, its own ones among them, in this order; without templates."""
        label_of_name = {name: label for label, name in enumerate(class_names)}
        new_labels = np.array([label_of_name[name] for name in self.class_names], dtype=np.int64)
        return self.replaced(class_names=list(class_names), labels=new_labels[self.labels], templates=[])

    def _empty_classes(self) -> list[str]:
        """Return the names of classes without an image, in class order."""
        unused = set(range(len(self.class_names))) - set(self.labels.tolist())
        return [self.class_names[label] for label in sorted(unused)]
