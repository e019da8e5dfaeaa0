"""One Parquet file: opened with checks, and read a few rows at a time.

Only pyarrow reads the files. Its exceptions become one line that names the file. What a file declares (rows, sizes of
columns) is checked before anything is decoded.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from cosmos_core.errors import RequestError
from cosmos_core.json_text import JsonError, load_json
from cosmos_core.printable import plural, printable
from cosmos_core.text_files import impostor_of, open_regular

MAGIC = b"PAR1"
ENCRYPTED = b"PARE"
MAX_ROWS = 20_000_000
"""Most rows of all files of a dataset: a few damaged bytes can announce any number."""
MAX_COLUMN_BYTES = 2**31
"""Most bytes of a column of texts or labels in one row group."""
BATCH_ROWS = 1024
"""Most rows that are decoded together."""
BATCH_BYTES = 2**32
"""Rows of a batch times bytes of the whole column in its row group, which no value exceeds."""


@contextmanager
def naming_damage(path: Path) -> Iterator[None]:
    """Turn what pyarrow raises inside the block into one line that names the file.

    Raises:
        RequestError: in place of pyarrow's exceptions and those of the file system.
    """
    try:
        yield
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError, MemoryError, OverflowError, LookupError) as error:
        reason = " ".join(printable(str(error)).split()) or type(error).__name__
        raise RequestError(
            f"cannot read {printable(path)}: {reason[:200]}; download it again, or write it with pyarrow"
        ) from error


@dataclass(frozen=True)
class TableFile:
    """A Parquet file below the folder of a dataset."""

    name: str
    """Its path below the folder, with slashes. Keys of images begin with it, so it holds no path of this machine."""
    path: Path

    @cached_property
    def _header(self) -> tuple[pyarrow.parquet.FileMetaData, pyarrow.Schema]:
        with open_parquet(self.path) as file, naming_damage(self.path):
            metadata, schema = file.metadata, file.schema_arrow
            # names that are not UTF-8 are found here, and not wherever they are used
            str(schema.remove_metadata())
            for i in range(len(metadata.schema)):
                str(metadata.schema.column(i).path)
            return metadata, schema

    @property
    def metadata(self) -> pyarrow.parquet.FileMetaData:
        """What the file announces.

        Raises:
            RequestError: no Parquet file, damaged, or encrypted.
        """
        return self._header[0]

    @property
    def schema(self) -> pyarrow.Schema:
        """The columns and their types."""
        return self._header[1]

    @property
    def row_count(self) -> int:
        """The number of rows that the file announces."""
        return int(self.metadata.num_rows)

    @cached_property
    def group_rows(self) -> tuple[int, ...]:
        """Rows of each row group, as announced."""
        with naming_damage(self.path):
            rows = tuple(self.metadata.row_group(i).num_rows for i in range(self.metadata.num_row_groups))
        if sum(rows) != self.row_count or any(count < 0 for count in rows):
            raise RequestError(
                f"cannot read {printable(self.path)}: its row groups have {plural(sum(rows), 'row')}, but the file "
                f"announces {self.row_count:,}; download it again"
            )
        return rows

    def group_bytes(self, group: int) -> int:
        """Bytes of all columns of a row group before compression, as announced."""
        return int(self.metadata.row_group(group).total_byte_size)

    def _column_bytes(self, group: int, column: str) -> int:
        """Bytes of a column in a row group before compression, with all that is nested in it.

        Call it for columns of which a row was read. Of others, damaged metadata would end the process: pyarrow does not
        catch the exceptions of its C++ code here (seen with 26.0).
        """
        schema, row_group = self.metadata.schema, self.metadata.row_group(group)
        paths = [schema.column(i).path for i in range(len(schema))]
        leaves = [i for i, path in enumerate(paths) if f"{path}.".startswith(f"{column}.")]
        return sum(int(row_group.column(i).total_uncompressed_size) for i in leaves)

    def features(self) -> dict[str, Any]:
        """The features that `datasets` keeps in the file: name of a column -> its description. Empty if there are none.

        They only give names to classes and columns, so a description that cannot be read counts as none.
        """
        text = (self.schema.metadata or {}).get(b"huggingface", b"")
        try:
            content = load_json(text.decode("utf-8"))
            features = content["info"]["features"]
        except (JsonError, UnicodeDecodeError, KeyError, TypeError):
            return {}
        return features if isinstance(features, dict) else {}

    def first_value(self, column: str) -> Any:
        """The first value of a column, or of a field in a struct; None if it is null or there are no rows."""
        with open_parquet(self.path) as file, naming_damage(self.path):
            batch = next(file.iter_batches(1, columns=[column], use_threads=False), None)
            return _column_of(batch, column)[0].as_py() if batch is not None and batch.num_rows else None

    def null_counts(self, column: str) -> Iterator[tuple[int, int, int]]:
        """Yield first row, number of rows and number of nulls of each row group that has nulls in a column.

        The counts are those of the file's statistics; of a row group without statistics nothing is known, and nothing
        is yielded. No values are read, but those of one row: the metadata of an unread column may be damaged in a way
        that ends the process (`_column_bytes`).
        """
        with open_parquet(self.path) as file:
            first = 0
            for group, rows in enumerate(self.group_rows):
                if rows:
                    with naming_damage(self.path):
                        next(file.iter_batches(1, row_groups=[group], columns=[column], use_threads=False), None)
                        nulls = self._announced_nulls(group, column)
                    if nulls:
                        yield first, rows, nulls
                first += rows

    def _announced_nulls(self, group: int, column: str) -> int:
        """Nulls of a column without columns nested in it, by the statistics of a row group; 0 if it has none."""
        row_group = self.metadata.row_group(group)
        for i in range(len(self.metadata.schema)):
            if self.metadata.schema.column(i).path == column:
                chunk = row_group.column(i)
                statistics = chunk.statistics if chunk.is_stats_set else None
                if statistics is not None and statistics.has_null_count:
                    return int(statistics.null_count)
        return 0

    def read(self, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, list[Any]]]]:
        """Yield the first row of each batch, counted over the file from 0, and column -> values of the batch.

        Args:
            columns: names of columns, or of fields in a struct such as `image.path`.

        Raises:
            RequestError: damaged, more bytes in a column than are read, fewer rows than announced, or a text that is
                not UTF-8 (names the row).
        """
        with open_parquet(self.path) as file:
            yield from self._read(file, columns)

    def _read(
        self, file: pyarrow.parquet.ParquetFile, columns: Sequence[str]
    ) -> Iterator[tuple[int, dict[str, list[Any]]]]:
        first = 0
        for group, announced in enumerate(self.group_rows):
            start = first
            for batch in self._batches(file, group, columns):
                yield first, {name: self._values(batch, name, first) for name in columns}
                first += batch.num_rows
            if first - start != announced:
                raise RequestError(
                    f"cannot read {printable(self.path)}: row group {group} has {plural(first - start, 'row')}, but "
                    f"announces {announced:,}; download it again"
                )

    def _batches(
        self, file: pyarrow.parquet.ParquetFile, group: int, columns: Sequence[str]
    ) -> Iterator[pyarrow.RecordBatch]:
        if not self.group_rows[group]:
            return
        with naming_damage(self.path):  # one row: its metadata are checked before their sizes are asked for
            next(file.iter_batches(1, row_groups=[group], columns=list(columns), use_threads=False), None)
        largest = 1
        for name in columns:
            size = self._column_bytes(group, name)
            if size > MAX_COLUMN_BYTES:
                raise RequestError(
                    f"cannot read {printable(self.path)}: the column {printable(name)} has {size:,} bytes in row group "
                    f"{group}, more than the {MAX_COLUMN_BYTES:,} that are read; write smaller row groups"
                )
            largest = max(largest, size)
        # A short file can repeat a long value in every row: the fewer rows at a time, the longer a value can be.
        rows = max(1, min(BATCH_ROWS, BATCH_BYTES // largest))
        batches = file.iter_batches(rows, row_groups=[group], columns=list(columns), use_threads=False)
        while True:
            with naming_damage(self.path):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def _values(self, batch: pyarrow.RecordBatch, column: str, first: int) -> list[Any]:
        try:
            with naming_damage(self.path):
                array = _column_of(batch, column)
                array.validate()  # damaged offsets of texts would be followed into other memory
            return list(array.to_pylist())
        except UnicodeDecodeError as error:
            row = first + next(i for i in range(len(array)) if not _is_decodable(array[i]))
            raise RequestError(
                f"cannot use {printable(self.path)}, row {row}, column {printable(column)}: a text that is not UTF-8; "
                "write it as UTF-8"
            ) from error


def _column_of(batch: pyarrow.RecordBatch, column: str) -> Any:
    """Return a column of a batch; of `image.path`, where there is no column of this name, the field of the struct."""
    if column in batch.schema.names:
        return batch.column(batch.schema.get_field_index(column))
    struct, _, field = column.rpartition(".")
    array = batch.column(batch.schema.get_field_index(struct))
    return array.flatten()[array.type.get_field_index(field)]  # unlike `field`, this is null where the struct is


def _is_decodable(value: pyarrow.Scalar) -> bool:
    try:
        value.as_py()
    except UnicodeDecodeError:
        return False
    return True


def open_parquet(path: Path) -> pyarrow.parquet.ParquetFile:
    """Open a Parquet file; only its metadata are read.

    Raises:
        RequestError: it cannot be opened, is empty, another file in its place, encrypted, or damaged.
    """
    try:
        with open_regular(path) as file:
            start = file.read(1024)
            size = file.seek(0, 2)
            file.seek(max(0, size - len(MAGIC)))
            end = file.read()
    except OSError as error:
        raise RequestError(f"cannot read {printable(path)}: {error.strerror or error}") from error
    if not start:
        raise RequestError(f"{printable(path)} is empty; download or write it again")
    if impostor := impostor_of(start):
        raise RequestError(f"{printable(path)} is {impostor}")
    if start.startswith(ENCRYPTED) or end == ENCRYPTED:
        raise RequestError(f"{printable(path)} is encrypted; write it without encryption")
    if not start.startswith(MAGIC):
        raise RequestError(f"{printable(path)} is not a Parquet file; give files that begin with PAR1")
    if end != MAGIC:
        raise RequestError(f"{printable(path)} is cut short: it does not end as a Parquet file; download it again")
    with naming_damage(path):
        # Without memory_map: a file that is cut short while it is mapped would end the process.
        return pyarrow.parquet.ParquetFile(
            str(path), memory_map=False, buffer_size=2**20, pre_buffer=False, page_checksum_verification=True
        )


def class_names_of(features: dict[str, Any], column: str) -> list[str] | None:
    """The names of the classes that `datasets` keeps for a column of labels (ClassLabel); None if there are none."""
    feature = features.get(column)
    names = feature.get("names") if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" else None
    if isinstance(names, dict):  # written by old versions: {"0": "cat", "1": "dog"}
        keys = list(names)
        numbered = all(re.fullmatch(r"\d{1,9}", key) for key in keys) and sorted(map(int, keys)) == list(
            range(len(keys))
        )
        names = [names[key] for key in sorted(keys, key=int)] if numbered else None
    return names if isinstance(names, list) and names and all(isinstance(name, str) for name in names) else None
