"""Images with one label each."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from cosmos_eval.datasets.base import ImageSource
from cosmos_eval.datasets.consistency import broken_texts, first
from cosmos_eval.datasets.data.base import Data, spread
from cosmos_eval.datasets.digests import ContentHash
from cosmos_eval.datasets.kinds import CLASSIFICATION


@dataclass(frozen=True)
class ClassificationData(Data):
    """Images with one label each.

    `templates` are applied to every class, or given for each class by its index; empty for a task without prompts.
    """

    kind = CLASSIFICATION
    hashed_as = "ClassificationData"

    images: Sequence[ImageSource]
    labels: np.ndarray  # (N,) int64
    class_names: Sequence[str]
    templates: Sequence[str] | Sequence[Sequence[str]]
    fingerprint: str = ""
    empty_classes_allowed: bool = False
    """Set where only some of the images are read (`limit`), or where the definition says so
    (`candidates_without_images: allow`): every class still competes, but a class may have none."""
    remarks: Sequence[str] = ()

    def counts(self) -> dict[str, int]:
        return {"images": len(self.images), "classes": len(self.class_names)}

    def hash_into(self, content: ContentHash) -> None:
        content.integers("labels", self.labels)
        content.strings("class_names", self.class_names)
        content.strings("templates", [template for template in self.templates if isinstance(template, str)])
        for own in self.templates:
            if not isinstance(own, str):
                content.strings("templates of a class", own)

    def problems(self) -> list[str]:
        keys, classes = [image.key for image in self.images], len(self.class_names)
        problems = broken_texts("class names", self.class_names)
        shared = [own for own in self.templates if isinstance(own, str)]
        problems += broken_texts("prompts", shared or [one for own in self.templates for one in own])
        if len(self.labels) != len(keys):
            return [f"has {len(keys):,} images but {len(self.labels):,} labels"]
        wrong = [f"{keys[i]} ({label})" for i, label in enumerate(self.labels) if not 0 <= label < classes]
        if wrong:
            problems.append(f"has {len(wrong):,} labels outside 0 to {classes - 1}: {first(wrong)}")
        if not self.empty_classes_allowed:
            empty = self._empty_classes()
            if empty:
                problems.append(
                    f"has {len(empty):,} classes without an image: {first(empty)}; where they only compete, write "
                    "candidates_without_images: allow in dataset"
                )
        per_class = self.templates and not isinstance(self.templates[0], str)
        if per_class and len(self.templates) != classes:
            problems.append(f"has prompts for {len(self.templates):,} classes, but {classes:,} classes")
        return problems

    def observations(self) -> list[str]:
        observations = []
        empty = self._empty_classes() if self.empty_classes_allowed else []
        if empty:
            verb = "has" if len(empty) == 1 else "have"
            observations.append(f"{len(empty):,} of {len(self.class_names):,} classes {verb} no image: {first(empty)}")
        names = [" ".join(name.split()) for name in self.class_names]
        shared = sorted(name for name, times in Counter(names).items() if times > 1)
        if shared:
            observations.append(f"several classes have the same name and tie: {first(shared)}")
        if len(names) == 1:
            observations.append(f"there is no class but {first(names)}, so that every image counts as right")
        return observations

    def subset(self, n: int) -> Self:
        kept = spread(len(self.images), n)
        # all class names stay, so that the task keeps its difficulty
        return self.replaced(
            images=[self.images[i] for i in kept.tolist()],
            labels=self.labels[kept],
            fingerprint="",
            empty_classes_allowed=True,
        )

    def with_options(self, options: Mapping[str, Any]) -> Self:
        return self.replaced(empty_classes_allowed=True) if self.kind.options[0] in options else self

    def _empty_classes(self) -> list[str]:
        unused = set(range(len(self.class_names))) - set(self.labels.tolist())
        return [self.class_names[c] for c in sorted(unused)]
