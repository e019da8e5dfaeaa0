"""Images with captions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from cosmos_eval.datasets.base import ImageSource
from cosmos_eval.datasets.consistency import broken_texts, first
from cosmos_eval.datasets.data.base import Data, new_places, spread
from cosmos_eval.datasets.digests import ContentHash
from cosmos_eval.datasets.kinds import RETRIEVAL


@dataclass(frozen=True)
class RetrievalData(Data):
    """Images with captions: `texts[j]` belongs to image `image_of_text[j]`."""

    kind = RETRIEVAL
    hashed_as = "RetrievalData"

    images: Sequence[ImageSource]
    texts: Sequence[str]
    image_of_text: np.ndarray  # (M,) int64
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
        wrong = [repr(self.texts[j]) for j, i in enumerate(self.image_of_text) if not 0 <= i < len(keys)]
        if wrong:
            problems.append(f"has {len(wrong):,} captions that belong to no image: {first(wrong)}")
        problems += broken_texts("texts", self.texts)
        without = sorted(set(range(len(keys))) - set(self.image_of_text.tolist()))
        if without:
            problems.append(f"has {len(without):,} images without a caption: {first(keys[i] for i in without)}")
        return problems

    def observations(self) -> list[str]:
        pairs = zip(self.image_of_text, self.texts, strict=True)
        empty = [self.images[i].key for i, text in pairs if not text.strip()]
        if not empty:
            return []
        verb = "is" if len(empty) == 1 else "are"
        return [f"{len(empty):,} of {len(self.texts):,} captions {verb} empty, of {first(empty)}"]

    def subset(self, n: int) -> Self:
        kept = spread(len(self.images), n)
        places = new_places(kept, len(self.images))
        own = np.flatnonzero(places[self.image_of_text] >= 0)
        return self.replaced(
            images=[self.images[i] for i in kept.tolist()],
            texts=[self.texts[j] for j in own],
            image_of_text=places[self.image_of_text[own]],
            fingerprint="",
        )
