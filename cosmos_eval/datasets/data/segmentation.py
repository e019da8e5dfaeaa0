"""Images with the class of each of their pixels."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from cosmos_core.errors import RequestError, naming
from cosmos_core.printable import plural
from cosmos_eval.datasets.colours import default_palette
from cosmos_eval.datasets.consistency import find_broken_texts
from cosmos_eval.datasets.data.base import Data, spread_indices
from cosmos_eval.datasets.fingerprint import ContentHash
from cosmos_eval.datasets.image_sources import ImageSource
from cosmos_eval.datasets.kinds import SEGMENTATION
from cosmos_eval.datasets.masks import Mask
from cosmos_eval.datasets.memory_images import as_image_sources
from cosmos_eval.datasets.memory_masks import as_masks
from cosmos_eval.datasets.memory_values import as_list, as_texts
from cosmos_eval.datasets.prompts import DEFAULT_TEMPLATES
from cosmos_eval.metrics.iou import IGNORED

__all__ = ["IGNORED", "SegmentationData"]


@dataclass(frozen=True, repr=False)
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
    name: str = ""

    @classmethod
    def from_lists(
        cls,
        images: Iterable[Any],
        masks: Iterable[Any],
        class_names: Sequence[str],
        palette: Sequence[tuple[int, int, int]] | None = None,
        *,
        name: str = "",
        names: Sequence[str] | None = None,
        root: str | Path | None = None,
    ) -> "SegmentationData":
        """Build the data from lists in memory, for `cosmos_eval.evaluate`.

        Args:
            images: N images, as `memory_images.as_image_sources` accepts them.
            masks: for each image an array (H, W) of class indices, a PIL image of them (mode L, P, I or I;16), or the
                path of one; 255 is ignored.
            class_names: C texts in class order.
            palette: the colour of each class in overlays; by default VOC's colour map.
            name, names, root: as in `ClassificationData.from_lists`.

        Raises:
            RequestError: wrong types, other lengths, or a mask that has no class indices.
        """
        with naming(cls.__name__):
            class_list = as_texts(class_names, "class_names")
            colours = default_palette(len(class_list)) if palette is None else list(palette)
            sources, mask_list = as_image_sources(images, root, names), as_list(masks, "masks")
            if len(mask_list) != len(sources):
                raise RequestError(
                    f"got {plural(len(sources), 'image')} and {plural(len(mask_list), 'mask')}; give one for each"
                )
            keys = [source.key for source in sources]
            return cls(sources, as_masks(mask_list, keys, len(class_list)), class_list, colours, name=name)

    def normalised(self) -> Self:
        data = super().normalised()
        class_names, masks = as_texts(self.class_names, "class_names"), as_list(self.masks, "masks")
        if len(masks) != len(data.images):
            raise RequestError(
                f"has {plural(len(data.images), 'image')} and {plural(len(masks), 'mask')}; give one for each image"
            )
        keys = [image.key for image in data.images]
        palette = list(self.palette) if len(self.palette) else default_palette(len(class_names))
        return data.replaced(masks=as_masks(masks, keys, len(class_names)), class_names=class_names, palette=palette)

    def default_prompts(self) -> dict[str, Any]:
        return {"templates": list(DEFAULT_TEMPLATES), "words": {name: [name] for name in self.class_names}}

    def counts(self) -> dict[str, int]:
        return {"images": len(self.images), "classes": len(self.class_names)}

    def hash_into(self, content: ContentHash) -> None:
        content.digests("masks", self.masks, "hashing masks")
        content.strings("class_names", self.class_names)

    def problems(self) -> list[str]:
        problems = find_broken_texts("class names", self.class_names)
        keys = [image.key for image in self.images]
        if [mask.key for mask in self.masks] != keys:
            problems.append(f"has {plural(len(keys), 'image')}, and {plural(len(self.masks), 'mask')} of other images")
        if len(self.palette) != len(self.class_names):
            problems.append(
                f"has {plural(len(self.class_names), 'class', 'classes')} and {plural(len(self.palette), 'colour')}"
            )
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
