"""The identity of a dataset as it was read: every image's content in order, and every word."""

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from cosmos_eval.datasets.base import ImageSource, Mask
from cosmos_eval.progress import Reporter, Silent

if TYPE_CHECKING:
    from cosmos_eval.datasets.data.base import Data

CHUNK = 64
"""Images that a thread takes at once: handing over each one by itself costs more than reading a small file."""


def dataset_fingerprint(data: "Data", workers: int = 8, reporter: Reporter | None = None) -> str:
    """Hash of what a model will see and be asked, in order; equal data give equal fingerprints on every machine.

    Covers the keys and contents of images, and what `data.hash_into` adds (captions and whom they belong to, labels,
    class names, templates, masks); never a path of this machine. Reading the images is most of the work and happens in
    `workers` threads; an image remembers its digest, so the engine does not read it again to find equal ones.

    Returns:
        64 hexadecimal digits (SHA-256).

    Raises:
        RequestError: an image cannot be read; names it.
    """
    content = ContentHash(data.hashed_as, workers, reporter)
    content.strings("keys", (image.key for image in data.images))
    content.digests("contents", data.images, "hashing images")
    data.hash_into(content)
    return content.hexdigest()


class ContentHash:
    """SHA-256 of named lists. Every string goes in after its length, so that no two different lists look alike.

    The names are hashed too: a name that stands in a fingerprint is never changed.
    """

    def __init__(self, kind: str, workers: int = 8, reporter: Reporter | None = None) -> None:
        self._hash = hashlib.sha256()
        self._workers = workers
        self._reporter = reporter
        self._add(kind.encode())

    def _add(self, content: bytes) -> None:
        self._hash.update(len(content).to_bytes(8, "little"))
        self._hash.update(content)

    def strings(self, name: str, values: Iterable[str]) -> None:
        values = list(values)
        self._add(f"{name} {len(values)}".encode())
        for value in values:
            self._add(value.encode("utf-8", "surrogatepass"))

    def integers(self, name: str, values: np.ndarray) -> None:
        self._add(f"{name} {len(values)}".encode())
        self._add(np.ascontiguousarray(values, dtype="<i8").tobytes())

    def digests(self, name: str, files: Sequence[ImageSource | Mask], description: str) -> None:
        """The digests of images or masks, read in threads; `description` names the work in progress lines."""
        self.strings(name, _digests_of(description, files, self._workers, self._reporter))

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def _digests_of(
    description: str, files: Sequence[ImageSource | Mask], workers: int, reporter: Reporter | None
) -> list[str]:
    digests: list[str] = []
    with (reporter or Silent()).task(description, len(files), "images") as advance:
        pool = ThreadPoolExecutor(max(1, workers))
        try:
            for some in pool.map(lambda start: _digests(files[start : start + CHUNK]), range(0, len(files), CHUNK)):
                digests += some
                advance(len(some))
        finally:
            pool.shutdown(cancel_futures=True)  # an unreadable image or Ctrl-C must not wait for the other thousands
    return digests


def _digests(files: Sequence[ImageSource | Mask]) -> list[str]:
    return [file.digest() for file in files]
