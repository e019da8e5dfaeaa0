"""The rows of several Parquet files: their images, and the values beside them, checked; messages name file and row."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

from cosmos_core.short_repr import short_repr
from cosmos_eval.datasets.dataset_checks import DatasetChecker, is_outside_folder
from cosmos_eval.datasets.image_sources import FileImage, ImageSource
from cosmos_eval.datasets.linked_paths import find_link_outside
from cosmos_eval.datasets.parquet.columns import (
    ImageColumns,
    describe_type,
    find_image_column,
    is_integer,
    is_text,
    require_column,
)
from cosmos_eval.datasets.parquet.images import ImageColumn, ParquetImage
from cosmos_eval.datasets.parquet.table_file import TableFile
from cosmos_eval.progress import current_reporter

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|data:|file:")


@dataclass(frozen=True)
class Row:
    """One row: where it is, the index of its image, and its values."""

    table: TableFile
    number: int
    """Counted over the file from 0."""
    image: int
    values: dict[str, Any]
    """Column -> value."""


class Rows:
    """Iterates over the rows of all files; afterwards `images` are the images, in the order of their first rows.

    Args:
        image_column: the second column of images, whose name is part of their keys; by default the option of this name,
            or the one that is found.
    """

    def __init__(
        self, tables: Sequence[TableFile], folder: Path, checker: DatasetChecker, image_column: str | None = None
    ) -> None:
        self.tables, self.folder, self.checker = tables, folder, checker
        self.names_column = image_column is not None
        option = image_column or checker.options.get("image_column")
        columns = [find_image_column(table, option, checker) for table in tables]
        self._refuse_differences("images", [column.name for column in columns])
        self.image_columns: ImageColumns = columns[0]
        leaf = self.image_columns.bytes_leaf
        in_bytes = [leaf is not None and self._has_bytes(table, leaf) for table in tables]
        self.in_bytes = in_bytes[0]
        self._refuse_differences("kinds of images", ["bytes" if value else "paths" for value in in_bytes])
        self.images: list[ImageSource] = []
        self.id_column = checker.options.get("image_id_column")
        if self.id_column is not None:
            if not self.in_bytes:
                checker.refuse(
                    "has image_id_column, but images are paths, which already say which are equal; leave it out"
                )
            for table in tables:
                require_column(table, "image_id_column", self.id_column, checker)
            self.require_type([self.id_column], "whole numbers, or texts", is_integer, is_text)
        elif self.in_bytes:
            self._refuse_null_images()
        self.index_of_id: dict[Any, int] = {}
        """Value of `image_id_column` -> index of its image."""
        self.files: dict[str, tuple[int, TableFile, int]] = {}
        """Path of an image file -> its index, and the first row with it."""

    def refuse(self, table: TableFile, row: int, column: str, message: str) -> NoReturn:
        """Raise all problems, with that of a value."""
        self.checker.refuse(f"cannot use {table.path}, row {row}, column {column}: {message}")

    def refuse_value(self, row: Row, column: str, message: str) -> NoReturn:
        """Raise all problems, with that of a value of a row."""
        self.refuse(row.table, row.number, column, message)

    def columns(self, find: Callable[[TableFile], list[str]]) -> list[str]:
        """Return the columns that `find` finds in every file, which must be the same."""
        found = [find(table) for table in self.tables]
        self._refuse_differences("columns", [", ".join(names) for names in found])
        return found[0]

    def require_type(self, columns: Sequence[str], kinds: str, *accepted: Callable[[Any], bool]) -> None:
        """Refuse a column whose values are of none of the accepted types.

        Args:
            kinds: the accepted types, in words.
        """
        for table in self.tables:
            for name in columns:
                if not any(accepts(table.schema.field(name).type) for accepts in accepted):
                    self.checker.refuse(
                        f"cannot use the column {name!r} of {table.path}: it holds {describe_type(table, name)}, and "
                        f"must hold {kinds}"
                    )

    def iterate(self, columns: Sequence[str], needs_file_names: bool = False) -> Iterator[Row]:
        """Yield all rows with their values in some columns, and collect their images.

        Args:
            needs_file_names: also give the name of each image's file as the value of `path_leaf`, if there is one.
        """
        path_leaf = self.image_columns.path_leaf
        reads_paths = path_leaf is not None and (needs_file_names or not self.in_bytes)
        optional = [path_leaf if reads_paths else None, self.id_column]
        wanted = list(dict.fromkeys([*columns, *(column for column in optional if column is not None)]))
        total = sum(table.row_count for table in self.tables)
        with current_reporter().task("reading tables", total, "rows") as advance:
            for table in self.tables:
                image_column = self._image_column(table) if self.in_bytes else None
                for first, values in table.read(wanted):
                    count = len(values[wanted[0]])
                    for i in range(count):
                        row_values = {name: column[i] for name, column in values.items()}
                        if image_column is not None:
                            index = self._image_in_bytes(table, image_column, first + i, row_values)
                        else:
                            assert path_leaf is not None
                            index = self._file_image(table, first + i, path_leaf, row_values[path_leaf])
                        yield Row(table, first + i, index, row_values)
                    advance(count)
        if not self.in_bytes:
            self._check_files()

    def texts(self, row: Row, columns: Sequence[str]) -> list[str]:
        """Return the texts in some columns, each of which has a text or a list of texts."""
        texts: list[str] = []
        for column in columns:
            value = row.values[column]
            values = [value] if isinstance(value, str) else value
            if not values or any(text is None for text in values):
                what = "an empty list" if values is not None and not values else "null"
                self.refuse_value(row, column, f"{what} in place of a text; leave the row out")
            texts += values
        return texts

    def file_name(self, row: Row) -> str:
        """Return the name of a row's image file, without the wnid that the hub adds to ImageNet's; empty if unknown."""
        name = row.values.get(self.image_columns.path_leaf or "") or ""
        return re.sub(r"_n\d{8}(?=\.|$)", "", str(name))

    def _refuse_differences(self, what: str, found: Sequence[str]) -> None:
        """Refuse files that do not agree on something."""
        for (first, second), (table, other) in zip(pairwise(found), pairwise(self.tables), strict=True):
            if first != second:
                self.checker.refuse(
                    f"has different {what} in its files: {first} in {table.path}, {second} in {other.path}; name the "
                    "columns in dataset, or give files of one kind"
                )

    def _has_bytes(self, table: TableFile, leaf: str) -> bool:
        """Whether images are bytes and not only paths, by the first row."""
        return self.image_columns.path_leaf is None or table.first_value(leaf) is not None or not table.row_count

    def _refuse_null_images(self) -> None:
        """Refuse images that are null, as far as the statistics tell; others are refused when they are read."""
        leaf = self.image_columns.bytes_leaf
        assert leaf is not None
        for table in self.tables:
            for first, rows, nulls in table.null_counts(leaf):
                where = f"row {first}" if rows == 1 else f"rows {first} to {first + rows - 1}"
                self.checker.refuse(
                    f"cannot use {table.path}, {where}, column {leaf}: null in place of an image in {nulls:,} of them; "
                    "leave these rows out"
                )

    def _image_column(self, table: TableFile) -> ImageColumn:
        assert self.image_columns.bytes_leaf is not None
        return ImageColumn.of(table, self.image_columns.bytes_leaf)

    def _image_in_bytes(self, table: TableFile, column: ImageColumn, row: int, values: dict[str, Any]) -> int:
        """Return the index of the image in a row, or of the earlier one with the same id."""
        new_index = len(self.images)
        if self.id_column is not None:
            image_id = values[self.id_column]
            if image_id is None:
                self.refuse(table, row, self.id_column, "null in place of an id; leave the row out")
            if (index := self.index_of_id.setdefault(image_id, new_index)) < new_index:
                return index
        self.images.append(ParquetImage(column, row, self.names_column))
        return new_index

    def _file_image(self, table: TableFile, row: int, column: str, name: Any) -> int:
        """Return the index of the image file in a row; rows with the same path share it."""
        if name is None or not name.strip():
            what = "null" if name is None else "an empty text"
            self.refuse(table, row, column, f"{what} in place of an image's path; leave the row out")
        if _URL.match(name):
            self.refuse(table, row, column, f"{short_repr(name)} is an address; download the images, and write paths")
        if is_outside_folder(name):
            self.refuse(table, row, column, f"the image {short_repr(name)} leads out of the data root")
        return self.files.setdefault(name, (len(self.files), table, row))[0]

    def _check_files(self) -> None:
        """Make the images of files, and check that they exist below their folder, links followed."""
        names = list(self.files)
        folder = self.folder
        if "images" in self.checker.options:  # of several folders, the one that has the first image
            (folder,) = self.checker.require(self.checker.find_path("images", "folder", containing=names[0]))
        if (name := find_link_outside(folder, names)) is not None:
            _, table, row = self.files[name]
            column = self.image_columns.path_leaf or ""
            self.refuse(table, row, column, f"the image {name!r} is a link that leads out of {folder}; copy the file")
        self.checker.check_images(folder, names)
        self.images = [FileImage(name, folder / name) for name in names]
