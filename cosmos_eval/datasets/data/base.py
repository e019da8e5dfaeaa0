"""The base class of all data: images, and what readers, checks, `--limit` and fingerprints ask of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np

from cosmos_core.errors import RequestError
from cosmos_eval.datasets.base import ImageSource, Mask, UprightImage
from cosmos_eval.datasets.digests import ContentHash
from cosmos_eval.datasets.kinds import DataKind


class Data:
    """What a reader gives: a frozen dataclass with at least `images`, `fingerprint` and `remarks`.

    A new kind of data is a subclass in one file. It must define `kind`, `hashed_as`, `counts` and `hash_into`;
    the other methods have defaults.
    """

    kind: ClassVar[DataKind]
    """What a task takes and readers make."""
    hashed_as: ClassVar[str]
    """The first word of every fingerprint of such data. Never changed, whatever the class is called."""

    images: Sequence[ImageSource]
    fingerprint: str
    """Of everything that a model sees and is asked; empty until it was computed."""
    remarks: Sequence[str]
    """What a reader of the result must know of how the data were read, one line each; not in the fingerprint."""

    left_out: Sequence[str] = ()
    """Samples that cannot be measured, each with its reason: an image that is gone from the web, say."""

    @property
    def evaluated(self) -> "Data":
        """The data that are evaluated, where there are several splits."""
        return self

    def counts(self) -> dict[str, int]:
        """How many images, texts, classes or items there are, by the words of `kind.counted`."""
        raise NotImplementedError

    def hash_into(self, content: ContentHash) -> None:
        """Hash everything but the images that a model is asked, or that decides what is right; in order."""
        raise NotImplementedError

    def problems(self) -> list[str]:
        """What does not belong together, whichever reader made it: `has ...` each; images are checked elsewhere."""
        return []

    def observations(self) -> list[str]:
        """What is right and must be told all the same, such as captions that are empty."""
        return []

    def content_observations(self) -> list[str]:
        """The same, of what shows only once the digest of every image is known."""
        return []

    def subset(self, n: int) -> Self:
        """The data of `n` images spread evenly over their order, for `--limit`; without a fingerprint.

        Args:
            n: at least 1 and less than there are.

        Raises:
            RequestError: such data cannot be limited, or `n` images leave nothing to measure.
        """
        raise RequestError(
            f"{self.kind} data cannot be limited: {type(self).__name__} has no subset; leave --limit out"
        )

    def decodable(self) -> list[ImageSource | Mask]:
        """Everything that `data check --deep` decodes."""
        return list(self.images)

    def upright(self) -> Self:
        """With every image turned as its EXIF orientation says (`exif: apply`)."""
        return self.replaced(images=[UprightImage(image) for image in self.images])

    def with_options(self, options: Mapping[str, Any]) -> Self:
        """As a definition's `dataset` options ask beyond what their reader has done."""
        return self

    def replaced(self, **changes: Any) -> Self:
        """A copy with other values of some fields."""
        return replace(self, **changes)  # type: ignore[type-var]


def spread(total: int, n: int) -> np.ndarray:
    """`n` of the numbers from 0 to `total`, strictly increasing where n <= total.

    Spread rather than the first ones, because class folders come sorted: the first hundred images of ImageNet show two
    classes.
    """
    return np.arange(n, dtype=np.int64) * total // n


def new_places(kept: np.ndarray, total: int) -> np.ndarray:
    """(total,) the new index of every old one, -1 where it is not kept."""
    places = np.full(total, -1, dtype=np.int64)
    places[kept] = np.arange(len(kept))
    return places
