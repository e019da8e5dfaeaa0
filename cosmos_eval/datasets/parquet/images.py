"""Images in a column of a Parquet file, read when they are loaded.

A listed image is the number of its row: none of its bytes are kept. Parquet is read in row groups, which cannot be
entered in the middle. So a group is read from its start in windows of some rows, and the last windows stay in memory:
whoever loads images in order, or nearly so, reads each group once.
"""

import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import pyarrow
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_core.printable import printable
from cosmos_eval.datasets.image_sources import ImageSource, decode
from cosmos_eval.datasets.parquet.table_file import BATCH_ROWS, TableFile, naming_damage, open_parquet

MAX_IMAGE_BYTES = 2**28
"""Most bytes of an encoded image."""
WINDOW_BYTES = 2**25
"""About how many bytes of images a window has."""
CACHE_BYTES = 2**28
"""Most bytes of the windows that stay in memory, in each process; a single window may have more."""
CACHE_WINDOWS = 64
CACHE_CURSORS = 4
"""Row groups that are being read."""
REPEATED_BYTES = 2**30
"""Most bytes of a window of a column with a dictionary, in which a few bytes may repeat a large image."""


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
    windows: tuple[int, ...]
    """Rows that are decoded together, for each row group."""

    @classmethod
    def of(cls, table: TableFile, leaf: str) -> "ImageColumn":
        """Return the column `leaf` of a file."""
        starts = [0]
        for count in table.group_rows:
            starts.append(starts[-1] + count)
        windows = tuple(_window_rows(table, group, leaf) for group in range(len(table.group_rows)))
        return cls(table.name, table.path, leaf, tuple(starts[:-1]), windows)

    def read(self, row: int) -> bytes | None:
        """Return the bytes in a row; None if there are none.

        Raises:
            RequestError: the file cannot be read or is damaged.
        """
        group = bisect_right(self.starts, row) - 1
        return _CACHE.read(self, group, row - self.starts[group])


@dataclass(frozen=True, eq=False)
class ParquetImage(ImageSource):
    """The encoded image in one row of a Parquet file."""

    column: ImageColumn
    row: int
    """Counted over the file from 0."""

    @property
    def key(self) -> str:  # type: ignore[override]
        return f"{self.column.file_name}:{self.row}"

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


def _window_rows(table: TableFile, group: int, leaf: str) -> int:
    """Return how many rows of a row group are decoded together, by what the file announces."""
    chunks, rows = table.chunks(group, leaf), table.group_rows[group]
    size = sum(chunk.total_uncompressed_size for chunk in chunks)
    window = min(BATCH_ROWS, WINDOW_BYTES * rows // max(1, size))
    if any(chunk.has_dictionary_page for chunk in chunks):
        window = min(window, REPEATED_BYTES // max(1, size))
    return max(1, window)


class _Window(NamedTuple):
    start: int
    stop: int
    values: pyarrow.Array
    """(rows,) binary."""


class _Cursor(NamedTuple):
    """A row group that is read from its start to its end."""

    batches: Iterator[pyarrow.RecordBatch]
    next_row: list[int]
    """One number: the first row that was not read yet."""


_Place = tuple[str, int, int, str, int]
"""Path, size and time of modification of a file, column, row group. A file that is written again is another place."""


class _WindowCache:
    """The last windows of each process, and where its row groups are being read."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.windows: OrderedDict[tuple[_Place, int], _Window] = OrderedDict()
        self.cursors: OrderedDict[_Place, _Cursor] = OrderedDict()
        self.size = 0
        self.decoded_rows = 0
        """Rows decoded so far, for tests: each row once where images are read in order."""

    def read(self, column: ImageColumn, group: int, row: int) -> bytes | None:
        """Return the bytes in a row of a row group; None if there are none."""
        with naming_damage(column.path):
            status = column.path.stat()
        place = (str(column.path), status.st_size, status.st_mtime_ns, column.leaf, group)
        with self.lock:
            window = self._find(place, row) or self._read_on(place, column, group, row)
        value: bytes | None = window.values[row - window.start].as_py()
        return value

    def _find(self, place: _Place, row: int) -> _Window | None:
        for key, window in self.windows.items():
            if key[0] == place and window.start <= row < window.stop:
                self.windows.move_to_end(key)
                return window
        return None

    def _read_on(self, place: _Place, column: ImageColumn, group: int, row: int) -> _Window:
        """Read windows of a row group until the one with the row, from where it was left or, behind that, anew."""
        cursor = self.cursors.pop(place, None)
        if cursor is None or cursor.next_row[0] > row:
            cursor = _Cursor(_image_batches(column, group), [0])
        while True:
            with naming_damage(column.path):
                batch = next(cursor.batches, None)
            if batch is None or not batch.num_rows:
                raise RequestError(
                    f"cannot read {printable(column.path)}: row group {group} ends before its row {row}; do not change "
                    "data during a run, or download the file again"
                )
            window = self._keep(place, cursor.next_row[0], batch, column.path)
            cursor.next_row[0] = window.stop
            if row < window.stop:
                self.cursors[place] = cursor
                if len(self.cursors) > CACHE_CURSORS:
                    self.cursors.popitem(last=False)
                return window

    def _keep(self, place: _Place, start: int, batch: pyarrow.RecordBatch, path: Path) -> _Window:
        with naming_damage(path):
            values = _bytes_of(batch)
            values.validate()  # damaged offsets would be followed into other memory
        window = _Window(start, start + batch.num_rows, values)
        self.decoded_rows += batch.num_rows
        self.windows[place, start] = window
        self.size += values.nbytes
        while len(self.windows) > 1 and (self.size > CACHE_BYTES or len(self.windows) > CACHE_WINDOWS):
            self.size -= self.windows.popitem(last=False)[1].values.nbytes
        return window


def _image_batches(column: ImageColumn, group: int) -> Iterator[pyarrow.RecordBatch]:
    file = open_parquet(column.path)
    with naming_damage(column.path):
        return file.iter_batches(column.windows[group], row_groups=[group], columns=[column.leaf], use_threads=False)


def _bytes_of(batch: pyarrow.RecordBatch) -> Any:
    """Return the binary array of a batch with one column: the column, or what is nested in it."""
    array = batch.column(0)
    while pyarrow.types.is_struct(array.type):
        array = array.flatten()[0]  # unlike `field`, this is null where the struct is
    return array


_CACHE = _WindowCache()


def _start_anew() -> None:
    """Forget all windows in a process that was forked: its parent may have held the lock at that moment."""
    global _CACHE
    _CACHE = _WindowCache()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)
