"""Images with captions, each of which belongs to one image or to several."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from cosmos_core.errors import RequestError, naming
from cosmos_core.printable import plural
from cosmos_eval.datasets.consistency import find_broken_texts, find_repeated_images, format_names
from cosmos_eval.datasets.data.base import Data, new_indices, spread_indices
from cosmos_eval.datasets.fingerprint import ContentHash
from cosmos_eval.datasets.image_sources import ImageSource
from cosmos_eval.datasets.kinds import RETRIEVAL
from cosmos_eval.datasets.memory_images import as_image_sources, distinct_images
from cosmos_eval.datasets.memory_values import as_list, as_texts, as_whole_numbers

NO_IMAGE = -1
"""Image of a text that belongs to none."""


def _pair_each(
    images: Iterable[Any], names: Sequence[str] | None, texts: Iterable[Any]
) -> tuple[list[Any], list[str] | None, list[str], np.ndarray]:
    """Return distinct images, their names, all captions, and (P, 2) which belong together.

    Args:
        images: N images, some of which may be the same.
        texts: N captions, or lists of captions.
    """
    image_list, captions = as_list(images, "images"), as_list(texts, "captions")
    if len(image_list) != len(captions):
        raise RequestError(
            f"got {plural(len(image_list), 'image')} and {plural(len(captions), 'caption')}; give a caption, or a "
            "list of captions, for each image"
        )
    first, index = distinct_images(image_list)
    pairs: list[tuple[int, int]] = []
    caption_list: list[str] = []
    for i, of_image in enumerate(captions):
        for caption in as_texts([of_image] if isinstance(of_image, str) else of_image, f"captions[{i}]"):
            pairs.append((index[i], len(caption_list)))
            caption_list.append(caption)
    names = None if names is None else as_list(names, "names")
    kept_names = [names[i] for i in first] if names is not None and len(names) == len(image_list) else None
    return [image_list[i] for i in first], kept_names, caption_list, np.array(pairs, dtype=np.int64).reshape(-1, 2)


def _no_pairs() -> np.ndarray:
    return np.zeros((0, 2), dtype=np.int64)


@dataclass(frozen=True, repr=False)
class RetrievalData(Data):
    """N images with M captions: `texts[j]` belongs to image `image_of_text[j]`, and to those of `further_pairs`.

    A distractor is an image without a caption or a text without an image. It is a candidate and no query.
    """

    kind = RETRIEVAL
    hashed_as = "RetrievalData"

    images: Sequence[ImageSource]
    texts: Sequence[str]
    image_of_text: np.ndarray  # (M,) int64, indices of images; NO_IMAGE for a distractor
    fingerprint: str = ""
    remarks: Sequence[str] = ()
    further_pairs: np.ndarray = field(default_factory=_no_pairs)
    """(E, 2) int64, index of the image and of the text: further images of captions that belong to several."""
    distractors_allowed: bool = False
    """Whether distractors are intended; else they are a problem. The definition says `distractors: allow`."""
    name: str = ""

    @classmethod
    def from_pairs(
        cls,
        images: Iterable[Any],
        texts: Iterable[Any],
        pairs: Any = None,
        *,
        names: Sequence[str] | None = None,
        root: str | Path | None = None,
        **fields: Any,
    ) -> "RetrievalData":
        """Build the data from the pairs of an image and a text that belong together.

        Args:
            images: as `memory_images.as_image_sources` accepts them. Without `pairs`, an image that is given several
                times, as the same path or the same object, is one image with several captions.
            texts: without `pairs`, a caption for each image, or a list of captions for each.
            pairs: (P, 2) int64, index of the image and of the text, distinct. The first image of a text is the unit
                that intervals resample.
            names: a name for each image; `root`: the folder to which names of files are relative.
            fields: further fields of the data, such as `name`.

        Raises:
            RequestError: wrong types, other lengths, or a pair of what is not there.
        """
        if pairs is None:
            with naming(cls.__name__):
                images, names, texts, pairs = _pair_each(images, names, texts)
        if not all(isinstance(image, ImageSource) for image in as_list(images, "images")):
            with naming(cls.__name__):
                images = as_image_sources(images, root, names)
                texts = as_texts(texts, "texts")
                pairs = as_whole_numbers(pairs, "pairs", 2)
                if pairs.shape[1:] != (2,) and len(pairs):
                    raise RequestError(f"pairs must have the shape (P, 2), not {pairs.shape}")
                if len(pairs) and not (pairs[:, 1].min() >= 0 and pairs[:, 1].max() < len(texts)):
                    raise RequestError(f"pairs has a text outside 0 to {len(texts) - 1}")
        images, texts = list(images), list(texts)
        pairs = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
        _, first_pair = np.unique(pairs[:, 1], return_index=True)
        is_first = np.zeros(len(pairs), dtype=bool)
        is_first[first_pair] = True
        image_of_text = np.full(len(texts), NO_IMAGE, dtype=np.int64)
        image_of_text[pairs[is_first, 1]] = pairs[is_first, 0]
        return cls(images, texts, image_of_text, further_pairs=pairs[~is_first], **fields)

    @classmethod
    def from_dataset(
        cls, dataset: Any, *, image_column: str = "image", caption_column: str = "caption", name: str = ""
    ) -> "RetrievalData":
        """Build the data from a `Dataset` of (PIL image, captions), as torchvision's CocoCaptions, or of `datasets`.

        Args:
            dataset: a map-style dataset object without transforms that make tensors; an item has one image and a
                caption or a list of captions.
            image_column, caption_column: where items are dictionaries.
            name: of the benchmark in results.

        Raises:
            RequestError: an object or items of another form.
        """
        from cosmos_eval.datasets.dataset_objects import read_items

        with naming(cls.__name__):
            images, captions = read_items(dataset, image_column, caption_column)
        return cls.from_pairs(images, captions, name=name)

    @property
    def pairs(self) -> np.ndarray:
        """(P, 2) int64, index of the image and of the text of each pair that belongs together."""
        texts = np.flatnonzero(self.image_of_text != NO_IMAGE)
        return np.concatenate([np.stack([self.image_of_text[texts], texts], axis=1), self.further_pairs])

    def normalised(self) -> Self:
        further = np.zeros((0, 2)) if self.further_pairs is None else self.further_pairs
        return (
            super()
            .normalised()
            .replaced(
                texts=as_texts(self.texts, "texts"),
                image_of_text=as_whole_numbers(self.image_of_text, "image_of_text"),
                further_pairs=as_whole_numbers(further, "further_pairs", 2),
            )
        )

    def counts(self) -> dict[str, int]:
        return {"images": len(self.images), "texts": len(self.texts)}

    def hash_into(self, content: ContentHash) -> None:
        content.strings("texts", self.texts)
        content.integers("text_picture", self.image_of_text)
        if len(self.further_pairs):
            content.integers("further_pairs", self.further_pairs.reshape(-1))

    def problems(self) -> list[str]:
        problems = []
        keys = [image.key for image in self.images]
        if len(self.texts) != len(self.image_of_text):
            problems.append(
                f"has {plural(len(self.texts), 'text')} but {plural(len(self.image_of_text), 'image')} named for them"
            )
        lowest = NO_IMAGE if self.distractors_allowed else 0
        orphans = [repr(self.texts[j]) for j, i in enumerate(self.image_of_text) if not lowest <= i < len(keys)]
        if orphans:
            problems.append(f"has {plural(len(orphans), 'caption')} that belong to no image: {format_names(orphans)}")
        problems += find_broken_texts("texts", self.texts)
        if problems:
            return problems + self._uncaptioned(self.image_of_text)
        image, text = self.further_pairs[:, 0], self.further_pairs[:, 1]
        if ((self.further_pairs < 0).any() or (image >= len(keys)).any()) or (text >= len(self.texts)).any():
            return [*problems, "has further pairs of an image or a text that does not exist"]
        pairs = self.pairs
        if len(np.unique(pairs[:, 0] * len(self.texts) + pairs[:, 1])) != len(pairs):
            problems.append("has a caption twice for one image; write each pair once")
        if not len(pairs):
            problems.append("has no image with a caption")
        return problems + self._uncaptioned(pairs[:, 0])

    def _uncaptioned(self, captioned: np.ndarray) -> list[str]:
        """Return a problem with the images that are not among the indices `captioned`, unless they are allowed."""
        uncaptioned = sorted(set(range(len(self.images))) - set(captioned.tolist()))
        if not uncaptioned or self.distractors_allowed:
            return []
        shown = format_names(self.images[i].key for i in uncaptioned)
        return [f"has {plural(len(uncaptioned), 'image')} without a caption: {shown}"]

    def observations(self) -> list[str]:
        observations = []
        images_of_empty = [
            self.images[i].key
            for i, text in zip(self.image_of_text, self.texts, strict=True)
            if i != NO_IMAGE and not text.strip()
        ]
        if images_of_empty:
            count, verb = len(images_of_empty), "is" if len(images_of_empty) == 1 else "are"
            observations.append(
                f"{count:,} of {plural(len(self.texts), 'caption')} {verb} empty, of {format_names(images_of_empty)}"
            )
        images = len(self.images) - len(np.unique(self.pairs[:, 0]))
        texts = int((self.image_of_text == NO_IMAGE).sum())
        if images or texts:
            observations.append(
                f"candidates only: {plural(images, 'image')} without a caption, "
                f"{plural(texts, 'text')} without an image"
            )
        return observations

    def content_observations(self) -> list[str]:
        """Return a remark on images that are in the data twice: the captions of each are wrong for the other."""
        return find_repeated_images(self.images)

    def subset(self, n: int) -> Self:
        image_indices = spread_indices(len(self.images), n)
        new_image = new_indices(image_indices, len(self.images))
        pairs = self.pairs[new_image[self.pairs[:, 0]] >= 0]
        if not len(pairs):
            raise RequestError(f"a limit of {plural(n, 'image')} leaves none with a caption; give more")
        # Of the texts without an image as large a share is kept as of the images.
        distractors = np.flatnonzero(self.image_of_text == NO_IMAGE)
        distractors = distractors[spread_indices(len(distractors), len(distractors) * n // len(self.images))]
        text_indices = np.union1d(pairs[:, 1], distractors)
        new_text = new_indices(text_indices, len(self.texts))
        part = self.from_pairs(
            [self.images[i] for i in image_indices.tolist()],
            [self.texts[j] for j in text_indices],
            np.stack([new_image[pairs[:, 0]], new_text[pairs[:, 1]]], axis=1),
        )
        return self.replaced(
            images=part.images,
            texts=part.texts,
            image_of_text=part.image_of_text,
            further_pairs=part.further_pairs,
            fingerprint="",
        )

    def with_options(self, options: Mapping[str, Any]) -> Self:
        return self.replaced(distractors_allowed=True) if self.kind.options[0] in options else self
