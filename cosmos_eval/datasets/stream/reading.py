"""What a reader offers whose data can be streamed: its shards are read one at a time, in any folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from cosmos_eval.datasets.data.base import Data
from cosmos_eval.datasets.image_sources import ImageSource


class Samples(Protocol):
    """The samples of one shard, in order."""

    @property
    def images(self) -> Sequence[ImageSource]: ...

    @property
    def labels(self) -> Sequence[Any]: ...

    @property
    def lone_block(self) -> int | None: ...


class StreamedReading(Protocol):
    """One dataset, whose small files are in a folder, and whose shards come and go there.

    `ReaderInfo.stream` makes one: `(benchmark, folder) -> StreamedReading`.
    """

    identity: str
    """What decides, besides the bytes of a shard, which samples are read from it."""
    count_file: str
    """Path of the file with the number of shards, which must exist."""
    small_files: Sequence[str]
    """Paths of further files that are read if they exist."""

    def shard_paths(self) -> list[str]:
        """Return the path of each shard, in order; the small files are in the folder.

        Raises:
            DataProblems: a small file is missing or damaged.
        """

    def read_shard(self, path: Path) -> Samples:
        """Return the samples of a shard on disk.

        Raises:
            RequestError: a broken shard.
        """

    def build(self, shards: Mapping[str, Samples], partial: bool) -> Data:
        """Return the data of all shards; no image is opened.

        Args:
            shards: name -> samples, in order.
            partial: some samples only, so that counts of the definition say nothing, and classes may have no image.

        Raises:
            DataProblems: labels that do not fit, unexpected counts.
        """

    def samples(self, images: Sequence[ImageSource], labels: Sequence[Any], lone_block: int | None) -> Samples:
        """Return what `read_shard` has returned, made of parts that were stored."""

    def store_label(self, label: Any) -> Any:
        """Return a label as a value of JSON."""

    def restore_label(self, value: Any) -> Any:
        """Return the label that `store_label` stored; ValueError if it is none."""
