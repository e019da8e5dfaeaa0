"""Items of a few images and a few texts, of which some belong together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from cosmos_core.errors import RequestError
from cosmos_eval.datasets.base import ImageSource
from cosmos_eval.datasets.consistency import broken_texts, undecidable
from cosmos_eval.datasets.data.base import Data, new_places, spread
from cosmos_eval.datasets.digests import ContentHash
from cosmos_eval.datasets.kinds import PERCEPTION


@dataclass(frozen=True)
class PerceptionData(Data):
    """Items of a few images and a few texts, of one shape for all (`cosmos_eval.metrics.comparisons` has the rules).

    One image and n texts: the first text is right. m images and one text: the first image is right. Two and two:
    image k and text k belong together.
    """

    kind = PERCEPTION
    hashed_as = "PerceptionData"

    images: Sequence[ImageSource]
    texts: Sequence[str]
    item_images: np.ndarray  # (I, m) int64, indices of images
    item_texts: np.ndarray  # (I, n) int64, indices of texts
    subsets: Sequence[str]
    """Of each item; its own accuracy is reported, and the mean over subsets."""
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Further ways to divide the items: name -> the part that each item belongs to, "" where it belongs to none."""
    left_out: Sequence[str] = ()
    origin: str = ""
    """How the texts were made, where they were made by a program: its name, version and file; part of the identity."""
    fingerprint: str = ""
    remarks: Sequence[str] = ()

    @classmethod
    def pairs(
        cls,
        images: Sequence[ImageSource],
        item_image: Sequence[int] | np.ndarray,
        positives: Sequence[str],
        negatives: Sequence[str],
        subsets: Sequence[str],
        **more: Any,
    ) -> "PerceptionData":
        """Items of one image with a right and a wrong text."""
        count = len(positives)
        texts = np.stack([np.arange(count), count + np.arange(count)], axis=1)
        item_images = np.asarray(item_image, dtype=np.int64)[:, None]
        return cls(images, [*positives, *negatives], item_images, texts, subsets, **more)

    def counts(self) -> dict[str, int]:
        counts = {"images": len(self.images), "items": len(self.item_images)}
        return {**counts, "left_out": len(self.left_out)} if self.left_out else counts

    def hash_into(self, content: ContentHash) -> None:
        for name, places in (("item_images", self.item_images), ("item_texts", self.item_texts)):
            content.integers(f"{name} {places.shape[1]}", places.reshape(-1))
        content.strings("texts", self.texts)
        content.strings("subsets", self.subsets)
        for name, parts in self.groups.items():
            content.strings(f"group {name}", parts)
        if self.origin:
            content.strings("origin", [self.origin])

    def problems(self) -> list[str]:
        problems = []
        lengths = {len(self.subsets), len(self.item_images), len(self.item_texts), *map(len, self.groups.values())}
        if len(lengths) > 1:
            problems.append("has items of unequal parts (images, texts, subset)")
        problems += broken_texts("texts", self.texts)
        problems += broken_texts("subsets", list(dict.fromkeys(self.subsets)))
        parts = list(dict.fromkeys(part for own in self.groups.values() for part in own))
        problems += broken_texts("parts", parts) + broken_texts("origins", [self.origin])
        for what, places, count in (
            ("image", self.item_images, len(self.images)),
            ("text", self.item_texts, len(self.texts)),
        ):
            if places.size and not (places.min() >= 0 and places.max() < count):
                problems.append(f"has items that belong to no {what}")
        return problems

    def observations(self) -> list[str]:
        texts = [" ".join(text.split()) for text in self.texts]
        return undecidable("caption", self.item_texts, texts, texts)

    def content_observations(self) -> list[str]:
        """Items whose wrong image is the right one: hosts show one placeholder for all that they have removed."""
        if self.item_images.shape[1] < 2:
            return []
        digests = [image.digest() for image in self.images]
        return undecidable("image", self.item_images, digests, [image.key for image in self.images])

    def subset(self, n: int) -> Self:
        """Items of several images are spread, not the images, so that an item keeps all of its own: `n` is then the
        most images there are."""
        several = self.item_images.shape[1] > 1
        kept = self._images_of_items(n) if several else spread(len(self.images), n)
        places = new_places(kept, len(self.images))
        items = np.flatnonzero((places[self.item_images] >= 0).all(1))  # all of an item's images are kept
        shown, asked = np.unique(self.item_texts[items], return_inverse=True)
        return self.replaced(
            images=[self.images[i] for i in kept.tolist()],
            texts=[self.texts[j] for j in shown],
            item_images=places[self.item_images[items]],
            item_texts=asked.reshape(len(items), -1),
            subsets=[self.subsets[j] for j in items],
            groups={name: [parts[j] for j in items] for name, parts in self.groups.items()},
            left_out=(),
            fingerprint="",
        )

    def _images_of_items(self, n: int) -> np.ndarray:
        """The images of as many items, spread evenly, as have `n` images when none is shared."""
        count = self.item_images.shape[1]
        items = min(n // count, len(self.item_images))
        if items < 1:
            raise RequestError(f"a limit of {n} images leaves no item of {count} images; give more")
        return np.unique(self.item_images[spread(len(self.item_images), items)])
