"""The fingerprint of a dataset: a hash of every image's content, in order, and of every text, label and mask."""

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from cosmos_eval.datasets.image_sources import ImageSource
from cosmos_eval.datasets.masks import Mask
from cosmos_eval.progress import Reporter, Silent

if TYPE_CHECKING:
    from cosmos_eval.datasets.data.base import Data

CHUNK = 64
"""Images in one task of the thread pool: one task for each image would cost more than reading a small file."""


def dataset_fingerprint(data: "Data", workers: int = 8, reporter: Reporter | None = None) -> str:
    """Hash everything that a model is shown and asked, in order. Equal data have equal fingerprints on every machine.

    Covers the keys and contents of images, and what `data.hash_into` adds: captions and the images they belong to,
    labels, class names, templates, masks. Paths of this machine are not hashed. Most of the time is spent reading
    images, in `workers` threads; an image keeps its digest, so that the engine, which looks for equal images, does
    not read it again.

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
    """SHA-256 of named lists. The length of each string is hashed before it, so different lists never look alike.

    The names are hashed too: never change one that is in use.
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
        """Add a list of strings."""
        values = list(values)
        self._add(f"{name} {len(values)}".encode())
        for value in values:
            self._add(value.encode("utf-8", "surrogatepass"))

    def integers(self, name: str, values: np.ndarray) -> None:
        """Add (N,) integers."""
        self._add(f"{name} {len(values)}".encode())
        self._add(np.ascontiguousarray(values, dtype="<i8").tobytes())

    def digests(self, name: str, files: Sequence[ImageSource | Mask], description: str) -> None:
        """Add the digests of images or masks, which are read in threads.

        Args:
            description: what progress lines call this work.
        """
        self.strings(name, _compute_digests(files, description, self._workers, self._reporter))

    def hexdigest(self) -> str:
        """Return the hash of everything that was added: 64 hexadecimal digits."""
        return self._hash.hexdigest()


def _compute_digests(
    files: Sequence[ImageSource | Mask], description: str, workers: int, reporter: Reporter | None
) -> list[str]:
    def digests_of_chunk(start: int) -> list[str]:
        return [file.digest() for file in files[start : start + CHUNK]]

    digests: list[str] = []
    with (reporter or Silent()).task(description, len(files), "images") as advance:
        pool = ThreadPoolExecutor(max(1, workers))
        try:
            for chunk_digests in pool.map(digests_of_chunk, range(0, len(files), CHUNK)):
                digests += chunk_digests
                advance(len(chunk_digests))
        finally:
            pool.shutdown(cancel_futures=True)  # an unreadable image or Ctrl-C must not wait for thousands of others
    return digests
