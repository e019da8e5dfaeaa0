"""Segmentation masks of a dataset: the class of every pixel of an image."""

import copy
from dataclasses import dataclass
from typing import Self

import numpy as np

from cosmos_eval.datasets.image_sources import changed_file_error, content_digest


class Mask:
    """The class of every pixel of one image. A subclass has a `key` and defines `load`."""

    key: str
    """Key of the image that the mask belongs to."""

    def load(self) -> np.ndarray:
        """Return (H, W) integers: indices of the benchmark's classes, or `cosmos_eval.metrics.iou.IGNORED`.

        Raises:
            RequestError: the mask cannot be read; names its file.
        """
        raise NotImplementedError

    def digest(self) -> str:
        """Return the digest of the labels that `load` returns; it is computed once."""
        known_digest: str | None = self.__dict__.get("_digest")
        if known_digest is None:
            known_digest = self.__dict__["_digest"] = labels_digest(self.load())
        return known_digest

    def undigested(self) -> Self:
        """Return a copy without a digest: it is computed from what the mask is now."""
        mask = copy.copy(self)
        mask.__dict__.pop("_digest", None)
        return mask

    def verified_labels(self) -> np.ndarray:
        """Return the labels. If `digest` was computed, here or in another process, it must still fit.

        Raises:
            RequestError: the mask cannot be read, has changed since then, or is a different file on this machine.
        """
        labels = self.load()
        known_digest = self.__dict__.get("_digest")
        if known_digest is not None and labels_digest(labels) != known_digest:
            raise changed_file_error("mask", getattr(self, "path", None), self.key)
        return labels


def labels_digest(labels: np.ndarray) -> str:
    """Return the digest of (H, W) labels; it does not depend on their integer type."""
    return content_digest(repr(labels.shape).encode() + np.ascontiguousarray(labels, dtype="<i4").tobytes())


@dataclass(frozen=True, eq=False)
class ArrayMask(Mask):
    """A mask in memory."""

    key: str
    labels: np.ndarray  # (H, W) integers

    def load(self) -> np.ndarray:
        return self.labels
