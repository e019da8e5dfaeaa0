"""The base class of all data: images, and the methods that readers, checks, `--limit` and fingerprints call."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np

from cosmos_core.errors import RequestError
from cosmos_eval.datasets.fingerprint import ContentHash
from cosmos_eval.datasets.image_sources import ImageSource, UprightImage
from cosmos_eval.datasets.kinds import DataKind
from cosmos_eval.datasets.masks import Mask
from cosmos_eval.datasets.memory_images import as_image_sources


class Data:
    """What a reader returns: a frozen dataclass with at least `images`, `fingerprint` and `remarks`.

    A new kind of data is a subclass in its own file. It must define `kind`, `hashed_as`, `counts` and `hash_into`;
    the other methods have defaults.
    """

    kind: ClassVar[DataKind]
    """The kind of data, by which tasks and readers refer to the class."""
    hashed_as: ClassVar[str]
    """The first word hashed into the fingerprint of such data. Never change it, even if the class is renamed."""

    images: Sequence[ImageSource]
    fingerprint: str
    """Hash of everything that a model is shown and asked; empty until it is computed."""
    remarks: Sequence[str]
    """What a reader of the result must know about how the data were read, one line each; not in the fingerprint."""

    name: str = ""
    """Name of the benchmark that data built in Python become (`cosmos_eval.make_benchmark`); not in the fingerprint."""

    left_out: Sequence[str] = ()
    """Samples that cannot be measured, each with its reason, for instance an image that is no longer on the web."""

    @property
    def evaluated(self) -> "Data":
        """The data that are evaluated; the test split if there are several splits."""
        return self

    def counts(self) -> dict[str, int]:
        """Return the numbers of images, texts, classes or items, under the names of `kind.count_names`."""
        raise NotImplementedError

    def hash_into(self, content: ContentHash) -> None:
        """Hash, in order, what a model is asked and what decides which answer is right; images are hashed elsewhere."""
        raise NotImplementedError

    def problems(self) -> list[str]:
        """Return every inconsistency as the end of a sentence ("has ..."). Keys of images are checked elsewhere."""
        return []

    def observations(self) -> list[str]:
        """Return remarks on data that are valid but unusual, such as empty captions."""
        return []

    def content_observations(self) -> list[str]:
        """Return remarks that need the digest of every image, such as wrong images that equal the right one."""
        return []

    def subset(self, n: int) -> Self:
        """Return the data of `n` images spread evenly over their order, for `--limit`; without a fingerprint.

        Args:
            n: at least 1 and less than the number of images.

        Raises:
            RequestError: such data cannot be limited, or nothing can be measured with `n` images.
        """
        raise RequestError(
            f"{self.kind.name} data cannot be limited: {type(self).__name__} has no subset; leave --limit out"
        )

    def decodable(self) -> list[ImageSource | Mask]:
        """Return everything that `data check --deep` decodes."""
        return list(self.images)

    def upright(self) -> Self:
        """Return the data with the EXIF orientation of every image applied (`exif: apply`)."""
        return self.replaced(images=[UprightImage(image) for image in self.images])

    def with_options(self, options: Mapping[str, Any]) -> Self:
        """Return the data with those options of a definition's `dataset` applied that belong to `kind.options`."""
        return self

    def normalised(self) -> Self:
        """Return data that were built in Python as a reader would have returned them, detached from the caller's.

        Images may be all that `memory_images.as_image_sources` accepts. Lists and arrays are copies, digests of images
        and the fingerprint are forgotten: what is measured is what the data are now.

        Raises:
            RequestError: a value of the wrong type; the end of a sentence that begins with the benchmark's name.
        """
        return self.replaced(images=[image.undigested() for image in as_image_sources(self.images)], fingerprint="")

    def without_prompts(self) -> Self:
        """Return the data without the prompt templates that the dataset brought, for a task that has no prompts."""
        return self

    def default_prompts(self) -> dict[str, Any]:
        """Return `prompts` of a definition on data that were built in Python, if they do not bring their prompts."""
        return {}

    def __repr__(self) -> str:
        counts = ", ".join(f"{count:,} {noun.replace('_', ' ')}" for noun, count in self._shown_counts().items())
        name = f"{self.name!r}, " if self.name else ""
        fingerprint = f", fingerprint {self.fingerprint[:8]}" if self.fingerprint else ""
        return f"{type(self).__name__}({name}{counts}{fingerprint})"

    def _shown_counts(self) -> dict[str, int]:
        """Return the counts, or of broken data that have none the number of images."""
        try:
            return self.counts()
        except Exception:
            return {"images": len(self.images)}

    def replaced(self, **changes: Any) -> Self:
        """Return a copy with other values of some fields."""
        return replace(self, **changes)  # type: ignore[type-var]


def spread_indices(total: int, n: int) -> np.ndarray:
    """Return (n,) indices spread evenly over 0 to `total`, strictly increasing if n <= total.

    The first n would not do: class folders are sorted, so the first hundred images of ImageNet show two classes.
    """
    return np.arange(n, dtype=np.int64) * total // n


def new_indices(old_indices: np.ndarray, total: int) -> np.ndarray:
    """Return (total,) the new index of every old index if only `old_indices` are kept; -1 for the others."""
    indices = np.full(total, -1, dtype=np.int64)
    indices[old_indices] = np.arange(len(old_indices))
    return indices
