"""Images with the class of each of their pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from cosmos_eval.datasets.consistency import find_broken_texts
from cosmos_eval.datasets.data.base import Data, spread_indices
from cosmos_eval.datasets.fingerprint import ContentHash
from cosmos_eval.datasets.image_sources import ImageSource
from cosmos_eval.datasets.kinds import SEGMENTATION
from cosmos_eval.datasets.masks import Mask
from cosmos_eval.metrics.iou import IGNORED

__all__ = ["IGNORED", "SegmentationData"]


@dataclass(frozen=True)
class SegmentationData(Data):
    """Images with the class of each of their pixels: `masks[i]` belongs to `images[i]` and has the same size."""

    kind = SEGMENTATION
    hashed_as = "SegmentationData"

    images: Sequence[ImageSource]
    masks: Sequence[Mask]
    class_names: Sequence[str]
    palette: Sequence[tuple[int, int, int]]
    """The dataset's own colours (red, green, blue), one for each class."""
    fingerprint: str = ""
    remarks: Sequence[str] = ()

    def counts(self) -> dict[str, int]:
        return {"images": len(self.images), "classes": len(self.class_names)}

    def hash_into(self, content: ContentHash) -> None:
        content.digests("masks", self.masks, "hashing masks")
        content.strings("class_names", self.class_names)

    def problems(self) -> list[str]:
        problems = find_broken_texts("class names", self.class_names)
        keys = [image.key for image in self.images]
        if [mask.key for mask in self.masks] != keys:
            problems.append(f"has {len(keys):,} images, and {len(self.masks):,} masks that do not belong to them")
        if len(self.palette) != len(self.class_names):
            problems.append(f"has {len(self.class_names):,} classes and {len(self.palette):,} colours")
        return problems

    def subset(self, n: int) -> Self:
        image_indices = spread_indices(len(self.images), n).tolist()
        return self.replaced(
            images=[self.images[i] for i in image_indices], masks=[self.masks[i] for i in image_indices], fingerprint=""
        )

    def decodable(self) -> list[ImageSource | Mask]:
        return [*self.images, *self.masks]

    def upright(self) -> Self:
        """Return the data unchanged: their reader already applies the EXIF orientation to images and masks together."""
        return self
