"""Images with captions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from cosmos_eval.datasets.consistency import find_broken_texts, format_names
from cosmos_eval.datasets.data.base import Data, new_indices, spread_indices
from cosmos_eval.datasets.fingerprint import ContentHash
from cosmos_eval.datasets.image_sources import ImageSource
from cosmos_eval.datasets.kinds import RETRIEVAL


@dataclass(frozen=True)
class RetrievalData(Data):
    """N images with M captions: `texts[j]` belongs to image `image_of_text[j]`."""

    kind = RETRIEVAL
    hashed_as = "RetrievalData"

    images: Sequence[ImageSource]
    texts: Sequence[str]
    image_of_text: np.ndarray  # (M,) int64, indices of images
    fingerprint: str = ""
    remarks: Sequence[str] = ()

    def counts(self) -> dict[str, int]:
        return {"images": len(self.images), "texts": len(self.texts)}

    def hash_into(self, content: ContentHash) -> None:
        content.strings("texts", self.texts)
        content.integers("text_picture", self.image_of_text)

    def problems(self) -> list[str]:
        problems = []
        keys = [image.key for image in self.images]
        if len(self.texts) != len(self.image_of_text):
            problems.append(f"has {len(self.texts):,} texts but {len(self.image_of_text):,} images named for them")
        orphans = [repr(self.texts[j]) for j, i in enumerate(self.image_of_text) if not 0 <= i < len(keys)]
        if orphans:
            problems.append(f"has {len(orphans):,} captions that belong to no image: {format_names(orphans)}")
        problems += find_broken_texts("texts", self.texts)
        uncaptioned = sorted(set(range(len(keys))) - set(self.image_of_text.tolist()))
        if uncaptioned:
            problems.append(
                f"has {len(uncaptioned):,} images without a caption: {format_names(keys[i] for i in uncaptioned)}"
            )
        return problems

    def observations(self) -> list[str]:
        pairs = zip(self.image_of_text, self.texts, strict=True)
        images_of_empty = [self.images[i].key for i, text in pairs if not text.strip()]
        if not images_of_empty:
            return []
        count, verb = len(images_of_empty), "is" if len(images_of_empty) == 1 else "are"
        return [f"{count:,} of {len(self.texts):,} captions {verb} empty, of {format_names(images_of_empty)}"]

    def content_observations(self) -> list[str]:
        """Return a remark on images that are in the data twice: the captions of each are wrong for the other."""
        first_images: dict[str, str] = {}
        repeated = [
            image.key for image in self.images if first_images.setdefault(image.digest(), image.key) != image.key
        ]
        if not repeated:
            return []
        verb = "equals" if len(repeated) == 1 else "equal"
        return [
            f"{len(repeated):,} of {len(self.images):,} images {verb} an earlier one and tie: {format_names(repeated)}"
        ]

    def subset(self, n: int) -> Self:
        image_indices = spread_indices(len(self.images), n)
        new_index = new_indices(image_indices, len(self.images))
        text_indices = np.flatnonzero(new_index[self.image_of_text] >= 0)
        return self.replaced(
            images=[self.images[i] for i in image_indices.tolist()],
            texts=[self.texts[j] for j in text_indices],
            image_of_text=new_index[self.image_of_text[text_indices]],
            fingerprint="",
        )
