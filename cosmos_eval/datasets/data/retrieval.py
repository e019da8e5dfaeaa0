"""Images with captions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from cosmos_eval.datasets.base import Picture
from cosmos_eval.datasets.consistency import broken_texts, first
from cosmos_eval.datasets.data.base import Data, new_places, spread
from cosmos_eval.datasets.digests import ContentHash
from cosmos_eval.datasets.kinds import RETRIEVAL


@dataclass(frozen=True)
class RetrievalData(Data):
    """Images with captions: `texts[j]` belongs to image `text_picture[j]`."""

    kind = RETRIEVAL
    hashed_as = "RetrievalData"

    pictures: Sequence[Picture]
    texts: Sequence[str]
    text_picture: np.ndarray  # (M,) int64
    fingerprint: str = ""
    remarks: Sequence[str] = ()

    def counts(self) -> dict[str, int]:
        return {"images": len(self.pictures), "texts": len(self.texts)}

    def hash_into(self, content: ContentHash) -> None:
        content.strings("texts", self.texts)
        content.integers("text_picture", self.text_picture)

    def problems(self) -> list[str]:
        problems = []
        keys = [picture.key for picture in self.pictures]
        if len(self.texts) != len(self.text_picture):
            problems.append(f"has {len(self.texts):,} texts but {len(self.text_picture):,} pictures named for them")
        wrong = [repr(self.texts[j]) for j, i in enumerate(self.text_picture) if not 0 <= i < len(keys)]
        if wrong:
            problems.append(f"has {len(wrong):,} captions that belong to no picture: {first(wrong)}")
        problems += broken_texts("texts", self.texts)
        without = sorted(set(range(len(keys))) - set(self.text_picture.tolist()))
        if without:
            problems.append(f"has {len(without):,} pictures without a caption: {first(keys[i] for i in without)}")
        return problems

    def observations(self) -> list[str]:
        pairs = zip(self.text_picture, self.texts, strict=True)
        empty = [self.pictures[i].key for i, text in pairs if not text.strip()]
        if not empty:
            return []
        verb = "is" if len(empty) == 1 else "are"
        return [f"{len(empty):,} of {len(self.texts):,} captions {verb} empty, of {first(empty)}"]

    def subset(self, n: int) -> Self:
        kept = spread(len(self.pictures), n)
        places = new_places(kept, len(self.pictures))
        own = np.flatnonzero(places[self.text_picture] >= 0)
        return self.replaced(
            pictures=[self.pictures[i] for i in kept.tolist()],
            texts=[self.texts[j] for j in own],
            text_picture=places[self.text_picture[own]],
            fingerprint="",
        )
