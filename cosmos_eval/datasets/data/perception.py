"""Items of a few images and a few texts, some of which belong together."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from cosmos_core.errors import RequestError, naming
from cosmos_core.printable import plural
from cosmos_eval.datasets.consistency import find_broken_texts, find_undecidable_items
from cosmos_eval.datasets.data.base import Data, new_indices, spread_indices
from cosmos_eval.datasets.fingerprint import ContentHash
from cosmos_eval.datasets.image_sources import ImageSource
from cosmos_eval.datasets.kinds import PERCEPTION
from cosmos_eval.datasets.memory_images import as_image_sources, distinct_images
from cosmos_eval.datasets.memory_values import as_list, as_texts, as_whole_numbers

SETS = ("pair", "set")
"""Kinds of sets of items that count together."""


@dataclass(frozen=True, repr=False)
class PerceptionData(Data):
    """I items of m images and n texts, the same m and n for all (`cosmos_eval.metrics.item_accuracy` has the rules).

    One image and n texts: the first text is right, or the first `right_texts`. m images and one text: the first image
    is right. Two and two: image k and text k belong together.
    """

    kind = PERCEPTION
    hashed_as = "PerceptionData"

    images: Sequence[ImageSource]
    texts: Sequence[str]
    item_images: np.ndarray  # (I, m) int64, indices of images
    item_texts: np.ndarray  # (I, n) int64, indices of texts
    subsets: Sequence[str]
    """The subset of each item. The accuracy of each subset is reported, and their mean."""
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Further ways to divide the items: name -> the part that each item belongs to, "" if it belongs to none."""
    sets: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Items that count together: `pair` or `set` -> the name of each item's pair or set, "" if it has none. A set is
    right if all of its items are (What'sUp, Kamath et al., 2023)."""
    right_texts: int = 1
    """How many of the texts of an item of one image are right: the first ones."""
    left_out: Sequence[str] = ()
    origin: str = ""
    """Name, version and file of the program that made the texts, if one did; part of the fingerprint."""
    fingerprint: str = ""
    remarks: Sequence[str] = ()
    name: str = ""

    @classmethod
    def from_lists(
        cls,
        images: Iterable[Any],
        positives: Iterable[str],
        negatives: Iterable[str],
        subsets: Iterable[str] | None = None,
        *,
        name: str = "",
        names: Sequence[str] | None = None,
        root: str | Path | None = None,
    ) -> "PerceptionData":
        """Build items of one image with a right and a wrong text, for `cosmos_eval.evaluate`.

        Args:
            images: the image of each item, as `memory_images.as_image_sources` accepts them. An image that is given
                several times, as the same path or the same object, is one image of several items.
            positives, negatives: the right and the wrong text of each item.
            subsets: the subset of each item; by default "all".
            name, names, root: as in `ClassificationData.from_lists`; `names` has a name for each item's image.

        Raises:
            RequestError: wrong types or other lengths.
        """
        with naming(cls.__name__):
            item_images = as_list(images, "images")
            right, wrong = as_texts(positives, "positives"), as_texts(negatives, "negatives")
            parts = ["all"] * len(right) if subsets is None else as_texts(subsets, "subsets")
            if len({len(item_images), len(right), len(wrong), len(parts)}) > 1:
                raise RequestError(
                    f"got {plural(len(item_images), 'image')}, {plural(len(right), 'positive')}, "
                    f"{plural(len(wrong), 'negative')} and {plural(len(parts), 'subset')}; give one of each for each "
                    "item"
                )
            names = None if names is None else as_list(names, "names")
            if names is not None and len(names) != len(item_images):
                raise RequestError(
                    f"got {plural(len(names), 'name')} for {plural(len(item_images), 'image')}; give one for each"
                )
            first, item_image = distinct_images(item_images)
            kept_names = None if names is None else [names[i] for i in first]
            sources = as_image_sources([item_images[i] for i in first], root, kept_names)
            return cls.pairs(sources, item_image, right, wrong, parts, name=name)

    @classmethod
    def pairs(
        cls,
        images: Sequence[ImageSource],
        item_image: Sequence[int] | np.ndarray,
        positives: Sequence[str],
        negatives: Sequence[str],
        subsets: Sequence[str],
        **fields: Any,
    ) -> "PerceptionData":
        """Build items of one image with a positive and a negative text.

        Args:
            item_image: (I,) index of each item's image.
            positives, negatives, subsets: one string for each item.
            fields: further fields of the data.
        """
        count = len(positives)
        item_texts = np.stack([np.arange(count), count + np.arange(count)], axis=1)
        item_images = np.asarray(item_image, dtype=np.int64)[:, None]
        return cls(images, [*positives, *negatives], item_images, item_texts, subsets, **fields)

    def normalised(self) -> Self:
        return (
            super()
            .normalised()
            .replaced(
                texts=as_texts(self.texts, "texts"),
                item_images=as_whole_numbers(self.item_images, "item_images", 2),
                item_texts=as_whole_numbers(self.item_texts, "item_texts", 2),
                subsets=as_texts(self.subsets, "subsets"),
                groups={group: as_texts(parts, f"groups[{group!r}]") for group, parts in self.groups.items()},
                sets={kind: as_texts(names, f"sets[{kind!r}]") for kind, names in self.sets.items()},
            )
        )

    def counts(self) -> dict[str, int]:
        counts = {"images": len(self.images), "items": len(self.item_images)}
        return {**counts, "left_out": len(self.left_out)} if self.left_out else counts

    def hash_into(self, content: ContentHash) -> None:
        for name, indices in (("item_images", self.item_images), ("item_texts", self.item_texts)):
            content.integers(f"{name} {indices.shape[1]}", indices.reshape(-1))
        content.strings("texts", self.texts)
        content.strings("subsets", self.subsets)
        for name, parts in self.groups.items():
            content.strings(f"group {name}", parts)
        for kind, names in self.sets.items():
            content.strings(f"set {kind}", names)
        if self.right_texts != 1:
            content.integers("right_texts", np.array([self.right_texts]))
        if self.origin:
            content.strings("origin", [self.origin])

    def problems(self) -> list[str]:
        problems = []
        lengths = {len(self.subsets), len(self.item_images), len(self.item_texts), *map(len, self.groups.values())}
        lengths |= set(map(len, self.sets.values()))
        if len(lengths) > 1:
            problems.append("has different numbers of items' images, texts, subsets or parts")
        problems += find_broken_texts("texts", self.texts)
        problems += find_broken_texts("subsets", list(dict.fromkeys(self.subsets)))
        parts = list(dict.fromkeys(part for group_parts in self.groups.values() for part in group_parts))
        parts += list(dict.fromkeys(name for names in self.sets.values() for name in names))
        if unknown := [kind for kind in self.sets if kind not in SETS]:
            problems.append(f"has sets of the kind {unknown[0]!r}; known: {', '.join(SETS)}")
        problems += find_broken_texts("parts", parts) + find_broken_texts("origins", [self.origin])
        for noun, indices, count in (
            ("image", self.item_images, len(self.images)),
            ("text", self.item_texts, len(self.texts)),
        ):
            if indices.size and not (indices.min() >= 0 and indices.max() < count):
                problems.append(f"has items with an index of no {noun}")
        return problems

    def observations(self) -> list[str]:
        texts = [" ".join(text.split()) for text in self.texts]
        return find_undecidable_items("caption", self.item_texts, texts, texts)

    def content_observations(self) -> list[str]:
        """Return a remark on items with a wrong image equal to the right one.

        Image hosts send one placeholder in place of every image that they have removed.
        """
        if self.item_images.shape[1] < 2:
            return []
        digests = [image.digest() for image in self.images]
        return find_undecidable_items("image", self.item_images, digests, [image.key for image in self.images])

    def subset(self, n: int) -> Self:
        """Return the items of `n` images.

        If an item has several images, items are spread evenly in place of images, so that all images of an item are
        kept; the data then have at most `n` images.
        """
        has_several_images = self.item_images.shape[1] > 1
        image_indices = self._images_of_items(n) if has_several_images else spread_indices(len(self.images), n)
        new_image_index = new_indices(image_indices, len(self.images))
        items = np.flatnonzero((new_image_index[self.item_images] >= 0).all(1))  # all images of the item are kept
        text_indices, new_item_texts = np.unique(self.item_texts[items], return_inverse=True)
        return self.replaced(
            images=[self.images[i] for i in image_indices.tolist()],
            texts=[self.texts[j] for j in text_indices],
            item_images=new_image_index[self.item_images[items]],
            item_texts=new_item_texts.reshape(len(items), -1),
            subsets=[self.subsets[j] for j in items],
            groups={name: [parts[j] for j in items] for name, parts in self.groups.items()},
            sets={kind: _complete_sets(names, items) for kind, names in self.sets.items()},
            left_out=(),
            fingerprint="",
        )

    def _images_of_items(self, n: int) -> np.ndarray:
        """Return the sorted indices of the images of evenly spread items, as many items as have `n` images together."""
        images_per_item = self.item_images.shape[1]
        count = min(n // images_per_item, len(self.item_images))
        if count < 1:
            raise RequestError(
                f"a limit of {plural(n, 'image')} leaves no item of {plural(images_per_item, 'image')}; give more"
            )
        return np.unique(self.item_images[spread_indices(len(self.item_images), count)])


def _complete_sets(names: Sequence[str], items: np.ndarray) -> list[str]:
    """Return the set of each chosen item; "" for an item of a set that is not chosen as a whole."""
    sizes, kept = Counter(names), Counter(names[j] for j in items)
    return [names[j] if kept[names[j]] == sizes[names[j]] else "" for j in items]
