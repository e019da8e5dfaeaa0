"""Images in a column of a Parquet file, read when they are loaded.

A listed image is the number of its row: none of its bytes are kept. Parquet is read in row groups, which cannot be
entered in the middle. So a group is read from its start, a few rows at a time, and what was passed over stays in memory
until it is asked for: threads or workers that load images in nearly the same order read each group once.
"""

import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import pyarrow
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_core.printable import printable
from cosmos_eval.datasets.image_sources import ImageSource, decode
from cosmos_eval.datasets.parquet.table_file import BATCH_ROWS, TableFile, naming_damage, open_parquet

MAX_IMAGE_BYTES = 2**28
"""Most bytes of an encoded image."""
BATCH_BYTES = 2**25
"""About how many bytes are decoded together."""
REPEATED_BYTES = 2**30
"""Rows that are decoded together times bytes of the row group: a few bytes may repeat a large image in every row."""
AHEAD_BYTES = 2**28
"""Most bytes of images that were passed over and not asked for yet, in each process."""
RECENT_BYTES = 2**26
"""Most bytes of images that were asked for already: an image may be hashed and then decoded."""
CURSORS = 8
"""Row groups that are being read at the same time."""


@dataclass(frozen=True, eq=False)
class ImageColumn:
    """The column of one file that holds the bytes of images. All images of the file share it."""

    file_name: str
    """Path of the file below the folder of the dataset."""
    path: Path
    leaf: str
    """The column in the file: `image`, or `image.bytes` where it is a struct of bytes and path."""
    starts: tuple[int, ...]
    """First row of each row group."""
    batch_rows: tuple[int, ...]
    """Rows that are decoded together, for each row group."""

    @classmethod
    def of(cls, table: TableFile, leaf: str) -> "ImageColumn":
        """Return the column `leaf` of a file."""
        starts = [0]
        for count in table.group_rows:
            starts.append(starts[-1] + count)
        batch_rows = tuple(_batch_rows(table, group) for group in range(len(table.group_rows)))
        return cls(table.name, table.path, leaf, tuple(starts[:-1]), batch_rows)

    def read(self, row: int) -> bytes | None:
        """Return the bytes in a row; None if there are none.

        Raises:
            RequestError: the file cannot be read or is damaged.
        """
        group = bisect_right(self.starts, row) - 1
        return _READING.read(self, group, row - self.starts[group])


@dataclass(frozen=True, eq=False)
class ParquetImage(ImageSource):
    """The encoded image in one row of a Parquet file."""

    column: ImageColumn
    row: int
    """Counted over the file from 0."""
    names_column: bool = False
    """Whether its key has the name of the column, as for the second of two columns of images."""

    @property
    def key(self) -> str:  # type: ignore[override]
        key = f"{self.column.file_name}:{self.row}"
        return f"{key}:{self.column.leaf.partition('.')[0]}" if self.names_column else key

    def content(self) -> bytes:
        content = self.column.read(self.row)
        where = f"{printable(self.column.path)}, row {self.row}, column {printable(self.column.leaf)}"
        if content is None:
            raise RequestError(f"cannot use {where}: null in place of an image; leave the row out")
        if len(content) > MAX_IMAGE_BYTES:
            raise RequestError(f"cannot use {where}: an image of {len(content):,} bytes, more than {MAX_IMAGE_BYTES:,}")
        return content

    def encoded(self, content: bytes) -> bytes:
        return content

    def load(self) -> Image.Image:
        return decode(self.verified_content(), self.key)


def _batch_rows(table: TableFile, group: int) -> int:
    """Return how many rows of a row group are decoded together, by the bytes that the file announces."""
    size = max(1, table.group_bytes(group))
    return max(1, min(BATCH_ROWS, BATCH_BYTES * table.group_rows[group] // size, REPEATED_BYTES // size))


_Place = tuple[str, int, int, str, int]
"""Path, size and time of modification of a file, column, row group. A file that is written again is another place."""


class _Kept:
    """Images by place and row, as many of the last ones as fit."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.size = 0
        self.images: OrderedDict[tuple[_Place, int], bytes | None] = OrderedDict()

    def add(self, key: tuple[_Place, int], image: bytes | None) -> None:
        """Keep an image, and drop the oldest ones that do not fit any more."""
        self.take(key)
        self.images[key] = image
        self.size += len(image or b"")
        while self.size > self.most_bytes and len(self.images) > 1:
            self.take(next(iter(self.images)))

    def take(self, key: tuple[_Place, int]) -> bytes | None:
        """Remove an image and return it."""
        image = self.images.pop(key, None)
        self.size -= len(image or b"")
        return image


class _Cursor:
    """A row group that is read from its start to its end."""

    def __init__(self, column: ImageColumn, group: int) -> None:
        self.batches = _image_batches(column, group)
        self.next_row = 0


class _Reading:
    """What a process has read and still needs, and where its row groups are being read."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.ahead, self.recent = _Kept(AHEAD_BYTES), _Kept(RECENT_BYTES)
        self.cursors: OrderedDict[_Place, _Cursor] = OrderedDict()
        self.decoded_rows = 0
        """Rows decoded so far, for tests: each row once where images are read in order."""

    def read(self, column: ImageColumn, group: int, row: int) -> bytes | None:
        """Return the bytes in a row of a row group; None if there are none."""
        with naming_damage(column.path):
            status = column.path.stat()
        place = (str(column.path), status.st_size, status.st_mtime_ns, column.leaf, group)
        key = (place, row)
        with self.lock:
            if key in self.recent.images:
                return self.recent.images[key]
            if key not in self.ahead.images:
                self._read_on(place, column, group, row)
            image = self.ahead.take(key)
            self.recent.add(key, image)
            return image

    def _read_on(self, place: _Place, column: ImageColumn, group: int, row: int) -> None:
        """Read a row group up to a row, from where it was left or, if that is behind the row, anew."""
        cursor = self.cursors.pop(place, None)
        if cursor is None or cursor.next_row > row:
            cursor = _Cursor(column, group)
        while cursor.next_row <= row:
            with naming_damage(column.path):
                batch = next(cursor.batches, None)
                values = _bytes_of(batch) if batch is not None else ()
            if not len(values):
                raise RequestError(
                    f"cannot read {printable(column.path)}: row group {group} ends before its row {row}; do not change "
                    "data during a run, or download the file again"
                )
            for value in values:
                self.ahead.add((place, cursor.next_row), value.as_py())
                cursor.next_row += 1
            self.decoded_rows += len(values)
        self.cursors[place] = cursor
        if len(self.cursors) > CURSORS:
            self.cursors.popitem(last=False)


def _image_batches(column: ImageColumn, group: int) -> Iterator[pyarrow.RecordBatch]:
    file = open_parquet(column.path)
    with naming_damage(column.path):
        return file.iter_batches(column.batch_rows[group], row_groups=[group], columns=[column.leaf], use_threads=False)


def _bytes_of(batch: pyarrow.RecordBatch) -> Any:
    """Return the binary array of a batch with one column: the column, or what is nested in it."""
    array = batch.column(0)
    while pyarrow.types.is_struct(array.type):
        array = array.flatten()[0]  # unlike `field`, this is null where the struct is
    array.validate()  # damaged offsets would be followed into other memory
    return array


_READING = _Reading()


def _start_anew() -> None:
    """Forget all in a process that was forked: its parent may have held the lock at that moment."""
    global _READING
    _READING = _Reading()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)
