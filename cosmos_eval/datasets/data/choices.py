"""Items of several candidates, some of them right: captions of an image, or images of a caption."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from cosmos_core.errors import RequestError, naming
from cosmos_core.printable import plural
from cosmos_eval.datasets.consistency import find_broken_texts, format_names
from cosmos_eval.datasets.data.base import Data, new_indices, spread_indices
from cosmos_eval.datasets.fingerprint import ContentHash
from cosmos_eval.datasets.image_sources import ImageSource
from cosmos_eval.datasets.kinds import MULTIPLE_CHOICE
from cosmos_eval.datasets.memory_images import as_image_sources, distinct_images
from cosmos_eval.datasets.memory_values import as_list, as_texts, as_whole_numbers


class Choice(NamedTuple):
    """One item: an image with its candidate captions, or a caption with its candidate images."""

    images: Sequence[int]
    """Indices of images; one, or the candidates."""
    texts: Sequence[str]
    """One text, or the candidates."""
    right: Sequence[int]
    """Positions of the right candidates, from 0."""
    subset: str = "all"


@dataclass(frozen=True, repr=False)
class ChoiceData(Data):
    """I items, each of at least two candidates, which need not be equally many.

    A candidate is a pair of an image and a text: the candidates of an item share their image, or share their text.
    """

    kind = MULTIPLE_CHOICE
    hashed_as = "ChoiceData"

    images: Sequence[ImageSource]
    texts: Sequence[str]
    pairs: np.ndarray  # (P, 2) int64, index of the image and of the text of each candidate
    item_of_pair: np.ndarray  # (P,) int64, the item of each candidate: 0, 0, 0, 1, 1, ... I - 1
    is_right: np.ndarray  # (P,) bool
    subsets: Sequence[str]
    """The subset of each item. The accuracy of each subset is reported, and their mean."""
    fingerprint: str = ""
    remarks: Sequence[str] = ()
    name: str = ""

    @classmethod
    def from_lists(
        cls,
        images: Iterable[Any],
        captions: Iterable[Any],
        answers: Iterable[Any],
        subsets: Iterable[str] | None = None,
        *,
        name: str = "",
        names: Sequence[str] | None = None,
        root: str | Path | None = None,
    ) -> "ChoiceData":
        """Build the data from lists in memory, for `cosmos_eval.evaluate`.

        Args:
            images: for each item its image, or the list of its candidate images. An image that is given several times,
                as the same path or the same object, is one image of several items.
            captions: for each item the list of its candidate captions, or its caption.
            answers: for each item the position of the right candidate from 0, or a list of positions.
            subsets: the subset of each item; by default "all".
            name, names, root: as in `ClassificationData.from_lists`; `names` has a name for each image of each item.

        Raises:
            RequestError: wrong types, other lengths, or an answer that is not a candidate.
        """
        with naming(cls.__name__):
            of_items = [image if isinstance(image, list | tuple) else [image] for image in as_list(images, "images")]
            text_lists = [[text] if isinstance(text, str) else text for text in as_list(captions, "captions")]
            texts = [as_texts(of_item, f"captions[{i}]") for i, of_item in enumerate(text_lists)]
            answer_lists = [item if isinstance(item, list | tuple) else [item] for item in as_list(answers, "answers")]
            right = [as_whole_numbers(item, f"answers[{i}]").tolist() for i, item in enumerate(answer_lists)]
            parts = ["all"] * len(texts) if subsets is None else as_texts(subsets, "subsets")
            if len({len(of_items), len(texts), len(right), len(parts)}) > 1:
                raise RequestError(
                    f"got images of {plural(len(of_items), 'item')}, captions of {len(texts):,}, "
                    f"{plural(len(right), 'answer')} and {plural(len(parts), 'subset')}; give one of each for each "
                    "item"
                )
            flat = [image for of_item in of_items for image in of_item]
            first, index = distinct_images(flat)
            names = None if names is None else as_list(names, "names")
            if names is not None and len(names) != len(flat):
                raise RequestError(
                    f"got {plural(len(names), 'name')} for {plural(len(flat), 'image')}; give one for each"
                )
            kept_names = None if names is None else [names[i] for i in first]
            sources = as_image_sources([flat[i] for i in first], root, kept_names)
            position = iter(index)
            return replace(
                cls.from_items(
                    sources,
                    [
                        Choice([next(position) for _ in of_item], *rest)
                        for of_item, *rest in zip(of_items, texts, right, parts, strict=True)
                    ],
                ),
                name=name,
            )

    def normalised(self) -> Self:
        is_right = as_whole_numbers(self.is_right, "is_right")
        return (
            super()
            .normalised()
            .replaced(
                texts=as_texts(self.texts, "texts"),
                pairs=as_whole_numbers(self.pairs, "pairs", 2),
                item_of_pair=as_whole_numbers(self.item_of_pair, "item_of_pair"),
                is_right=is_right.astype(bool),
                subsets=as_texts(self.subsets, "subsets"),
            )
        )

    @classmethod
    def from_items(cls, images: Sequence[ImageSource], items: Iterable[Choice]) -> "ChoiceData":
        """Build the data from items.

        Raises:
            RequestError: an item of several images and several texts, or a right candidate that does not exist.
        """
        texts: list[str] = []
        pairs: list[tuple[int, int]] = []
        item_of_pair: list[int] = []
        is_right: list[bool] = []
        subsets = []
        for number, item in enumerate(items):
            if len(item.images) > 1 and len(item.texts) > 1:
                raise RequestError(
                    f"item {number} has {plural(len(item.images), 'image')} and {plural(len(item.texts), 'text')}; "
                    "give one image and several captions, or several images and one caption"
                )
            candidates = [(i, len(texts) + j) for i in item.images for j in range(len(item.texts))]
            if not all(0 <= position < len(candidates) for position in item.right):
                raise RequestError(
                    f"item {number} has {plural(len(candidates), 'candidate')}, and the right ones are "
                    f"{list(item.right)}; they are counted from 0"
                )
            texts += item.texts
            pairs += candidates
            item_of_pair += [number] * len(candidates)
            is_right += [position in item.right for position in range(len(candidates))]
            subsets.append(item.subset)
        return cls(
            images,
            texts,
            np.array(pairs, dtype=np.int64).reshape(-1, 2),
            np.array(item_of_pair, dtype=np.int64),
            np.array(is_right, dtype=bool),
            subsets,
        )

    @property
    def starts(self) -> np.ndarray:
        """(I,) int64, position of the first candidate of each item."""
        return np.searchsorted(self.item_of_pair, np.arange(len(self.subsets)))

    def counts(self) -> dict[str, int]:
        return {"images": len(self.images), "items": len(self.subsets)}

    def hash_into(self, content: ContentHash) -> None:
        content.integers("pairs", self.pairs.reshape(-1))
        content.integers("item_of_pair", self.item_of_pair)
        content.integers("is_right", self.is_right.astype(np.int64))
        content.strings("texts", self.texts)
        content.strings("subsets", self.subsets)

    def problems(self) -> list[str]:
        problems = find_broken_texts("texts", self.texts)
        problems += find_broken_texts("subsets", list(dict.fromkeys(self.subsets)))
        if not len(self.pairs) == len(self.item_of_pair) == len(self.is_right) or not len(self.pairs):
            return [*problems, "has no items, or lists of different lengths"]
        if any(np.diff(self.item_of_pair, prepend=0) < 0) or self.item_of_pair[-1] != len(self.subsets) - 1:
            return [*problems, "has candidates that are not in the order of their items"]
        for noun, indices, count in (
            ("image", self.pairs[:, 0], len(self.images)),
            ("text", self.pairs[:, 1], len(self.texts)),
        ):
            if not (indices.min() >= 0 and indices.max() < count):
                return [*problems, f"has items with an index of no {noun}"]
        candidates = np.bincount(self.item_of_pair, minlength=len(self.subsets))
        right = np.bincount(self.item_of_pair, weights=self.is_right, minlength=len(self.subsets))
        for is_broken, fault in ((right < 1, "right"), (candidates - right < 1, "wrong")):
            broken = np.flatnonzero(is_broken)
            if len(broken):
                shown = format_names(self._name(item) for item in broken.tolist())
                problems.append(f"has {plural(len(broken), 'item')} without a {fault} candidate: {shown}")
        return problems

    def observations(self) -> list[str]:
        texts = [" ".join(text.split()) for text in self.texts]
        return self._undecidable([(int(i), texts[j]) for i, j in self.pairs])

    def content_observations(self) -> list[str]:
        """Return a remark on items in which a wrong image has the content of a right one."""
        digests = [image.digest() for image in self.images]
        of_keys = self._undecidable([(int(i), int(j)) for i, j in self.pairs])
        of_contents = self._undecidable([(digests[i], int(j)) for i, j in self.pairs])
        return of_contents if of_contents != of_keys else []

    def _undecidable(self, candidates: Sequence[object]) -> list[str]:
        """Return a remark on items with a wrong candidate that equals a right one; `candidates` is (P,)."""
        right: dict[int, set[object]] = {}
        wrong: dict[int, set[object]] = {}
        for item, candidate, is_right in zip(self.item_of_pair.tolist(), candidates, self.is_right, strict=True):
            (right if is_right else wrong).setdefault(item, set()).add(candidate)
        undecidable = [item for item in right if right[item] & wrong.get(item, set())]
        if not undecidable:
            return []
        verb = "has" if len(undecidable) == 1 else "have"
        shown = format_names(map(self._name, undecidable))
        items = f"{len(undecidable):,} of {plural(len(self.subsets), 'item')}"
        return [f"{items} {verb} a wrong candidate equal to a right one: {shown}"]

    def subset(self, n: int) -> Self:
        """Return the items of `n` images.

        If an item has several images, items are spread evenly in place of images, so that all images of an item are
        kept; the data then have at most `n` images.
        """
        image_indices = self._images_of_items(n) if self._has_several_images() else spread_indices(len(self.images), n)
        new_image_index = new_indices(image_indices, len(self.images))
        is_kept_pair = new_image_index[self.pairs[:, 0]] >= 0
        # An item is kept if all of its images are.
        is_kept_item = np.bincount(self.item_of_pair, weights=~is_kept_pair, minlength=len(self.subsets)) == 0
        items = np.flatnonzero(is_kept_item)
        is_kept_pair = is_kept_item[self.item_of_pair]
        pairs = self.pairs[is_kept_pair]
        text_indices, new_text = np.unique(pairs[:, 1], return_inverse=True)
        return self.replaced(
            images=[self.images[i] for i in image_indices.tolist()],
            texts=[self.texts[j] for j in text_indices.tolist()],
            pairs=np.stack([new_image_index[pairs[:, 0]], new_text.reshape(-1)], axis=1),
            item_of_pair=new_indices(items, len(self.subsets))[self.item_of_pair[is_kept_pair]],
            is_right=self.is_right[is_kept_pair],
            subsets=[self.subsets[item] for item in items.tolist()],
            fingerprint="",
        )

    def _has_several_images(self) -> bool:
        return bool((self.pairs[:, 0] != self.pairs[self.starts[self.item_of_pair], 0]).any())

    def _images_of_items(self, n: int) -> np.ndarray:
        """Return the sorted indices of the images of evenly spread items, as many items as have `n` images together."""
        images = [set(of_item.tolist()) for of_item in np.split(self.pairs[:, 0], self.starts[1:])]
        chosen: set[int] = set()
        # Items in the order 0, I / 2, I / 4, 3 I / 4, ...: any number of them is spread over the dataset.
        for item in _spread_order(len(images)):
            if len(chosen | images[item]) <= n:
                chosen |= images[item]
        if not chosen:
            raise RequestError(
                f"a limit of {plural(n, 'image')} leaves no item; give at least {min(map(len, images)):,}"
            )
        return np.array(sorted(chosen), dtype=np.int64)

    def _name(self, item: int) -> str:
        """Name an item by its first image and text."""
        image, text = self.pairs[self.starts[item]]
        return f"{self.images[image].key} {self.texts[text]!r}"


def _spread_order(count: int) -> list[int]:
    """Order 0 to count - 1 so that each beginning of the order is spread over the whole range (van der Corput)."""
    bits = max(1, (count - 1).bit_length())
    reversed_bits = (int(f"{i:0{bits}b}"[::-1], 2) for i in range(1 << bits))
    return [i for i in reversed_bits if i < count]
