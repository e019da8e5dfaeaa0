"""Images with the class of each of their pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from cosmos_eval.datasets.base import Mask, Picture
from cosmos_eval.datasets.consistency import broken_texts
from cosmos_eval.datasets.data.base import Data, spread
from cosmos_eval.datasets.digests import ContentHash
from cosmos_eval.datasets.kinds import SEGMENTATION
from cosmos_eval.metrics.areas import IGNORED

__all__ = ["IGNORED", "SegmentationData"]


@dataclass(frozen=True)
class SegmentationData(Data):
    """Images with the class of each of their pixels: `masks[i]` belongs to `pictures[i]` and has its size."""

    kind = SEGMENTATION
    hashed_as = "SegmentationData"

    pictures: Sequence[Picture]
    masks: Sequence[Mask]
    class_names: Sequence[str]
    palette: Sequence[tuple[int, int, int]]
    """The dataset's own colours, one a class."""
    fingerprint: str = ""
    remarks: Sequence[str] = ()

    def counts(self) -> dict[str, int]:
        return {"images": len(self.pictures), "classes": len(self.class_names)}

    def hash_into(self, content: ContentHash) -> None:
        content.digests("masks", self.masks, "hashing masks")
        content.strings("class_names", self.class_names)

    def problems(self) -> list[str]:
        problems = broken_texts("class names", self.class_names)
        keys = [picture.key for picture in self.pictures]
        if [mask.key for mask in self.masks] != keys:
            problems.append(f"has {len(keys):,} pictures and masks of {len(self.masks):,} that are not theirs")
        if len(self.palette) != len(self.class_names):
            problems.append(f"has {len(self.class_names):,} classes and {len(self.palette):,} colours")
        return problems

    def subset(self, n: int) -> Self:
        kept = spread(len(self.pictures), n).tolist()
        return self.replaced(
            pictures=[self.pictures[i] for i in kept], masks=[self.masks[i] for i in kept], fingerprint=""
        )

    def decodable(self) -> list[Picture | Mask]:
        return [*self.pictures, *self.masks]

    def upright(self) -> Self:
        """Its reader turns images and masks together."""
        return self
