"""Images with the class of each of their pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from cosmos_eval.datasets.base import ImageSource, Mask
from cosmos_eval.datasets.consistency import broken_texts
from cosmos_eval.datasets.data.base import Data, spread
from cosmos_eval.datasets.digests import ContentHash
from cosmos_eval.datasets.kinds import SEGMENTATION
from cosmos_eval.metrics.areas import IGNORED

__all__ = ["IGNORED", "SegmentationData"]


@dataclass(frozen=True)
class SegmentationData(Data):
    """Images with the class of each of their pixels: `masks[i]` belongs to `images[i]` and has its size."""

    kind = SEGMENTATION
    hashed_as = "SegmentationData"

    images: Sequence[ImageSource]
    masks: Sequence[Mask]
    class_names: Sequence[str]
    palette: Sequence[tuple[int, int, int]]
    """The dataset's own colours, one a class."""
    fingerprint: str = ""
    remarks: Sequence[str] = ()

    def counts(self) -> dict[str, int]:
        return {"images": len(self.images), "classes": len(self.class_names)}

    def hash_into(self, content: ContentHash) -> None:
        content.digests("masks", self.masks, "hashing masks")
        content.strings("class_names", self.class_names)

    def problems(self) -> list[str]:
        problems = broken_texts("class names", self.class_names)
        keys = [image.key for image in self.images]
        if [mask.key for mask in self.masks] != keys:
            problems.append(f"has {len(keys):,} images and masks of {len(self.masks):,} that are not theirs")
        if len(self.palette) != len(self.class_names):
            problems.append(f"has {len(self.class_names):,} classes and {len(self.palette):,} colours")
        return problems

    def subset(self, n: int) -> Self:
        kept = spread(len(self.images), n).tolist()
        return self.replaced(images=[self.images[i] for i in kept], masks=[self.masks[i] for i in kept], fingerprint="")

    def decodable(self) -> list[ImageSource | Mask]:
        return [*self.images, *self.masks]

    def upright(self) -> Self:
        """Its reader turns images and masks together."""
        return self
