"""The reader `parquet`: rows of images with a label, with captions, or with right and wrong captions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cosmos_core.printable import plural
from cosmos_eval.datasets.data import Data
from cosmos_eval.datasets.dataset_checks import DatasetChecker
from cosmos_eval.datasets.parquet.building import BUILDERS
from cosmos_eval.datasets.parquet.listing import SUFFIX, list_parquet, select_tables
from cosmos_eval.datasets.parquet.rows import Rows
from cosmos_eval.datasets.parquet.table_file import MAX_ROWS, TableFile


def read_parquet(benchmark: Any, data_root: Path) -> Data:
    """Read one image a row from a Parquet file, or from the files of a folder in the order of their names.

    Images are encoded bytes (a binary column, or the struct of bytes and path that `datasets` writes), or paths of
    files below `images`, or below the folder. Beside them, by kind of data:
        classification: whole numbers, whose class names are `prompts.class_names` or those that `datasets` keeps in
            the file (ClassLabel); or names
        retrieval: a text, a list of texts, or several columns of them
        perception: a right caption, and a wrong one or a list of them, as many in each row

    An image in bytes is named `<file>:<row>`, counted from 0; one in a file has its path as name, and rows with the
    same path share it. Image bytes are read when an image is loaded.

    Options:
        path: the file, or the folder.
        files: patterns of paths below the folder; `*` stands for any characters.
        split: a word of the paths of the files, such as test. Needed if the folder has files of several splits.
        images: folder of image files.
        image_id_column: rows with the same value are about one image, that of the first of them. Without it, each row
            with bytes is an image of its own.
        image_column, label_column, caption_columns, positive_column, negative_columns, subset_column: names of
            columns; by default those with the right type and a usual name (`columns.py`).
        group_columns: perception: columns of texts that divide the items in a further way; the part of an item is its
            values, joined by spaces, and the group is called like the columns.
        negative_image_column: perception: the column of an image that fits the wrong caption; an item then has two
            images and two captions.

    Raises:
        DataProblems: files missing or damaged, no such column, one of another type, a null (with file, row and
            column), images missing, labels out of range.
    """
    checker = DatasetChecker(benchmark, data_root)
    root = _find_root(checker)
    if root.is_file():
        return read_tables(benchmark, checker, root.parent, [root.name])
    return read_tables(benchmark, checker, root, select_tables(list_parquet(root), root, checker))


def read_tables(benchmark: Any, checker: DatasetChecker, folder: Path, names: Sequence[str]) -> Data:
    """Return the data in some Parquet files of a folder, in this order."""
    tables = [TableFile(name, folder / name) for name in names]
    total = sum(table.row_count for table in tables)
    if total > MAX_ROWS:
        checker.refuse(
            f"has {plural(total, 'row')} in {folder}, more than the {MAX_ROWS:,} that are read; give fewer files"
        )
    empty = [table.name for table in tables if not table.row_count]
    if empty and total:
        of_all = plural(len(tables), "Parquet file")
        checker.add_remark(f"{len(empty):,} of {of_all} without rows: {', '.join(empty[:3])}")
    if not total:
        checker.refuse(f"has no rows in {folder / names[0]}")
    rows = Rows(tables, folder, checker)
    checker.image_folder = folder
    return checker.finish(BUILDERS[benchmark.data_kind](rows, benchmark))


def _find_root(checker: DatasetChecker) -> Path:
    """Return the file or folder that `path` names: of a list, the first that exists."""
    value = checker.options["path"]
    paths = [checker.resolve_path(path) for path in ([value] if isinstance(value, str) else value)]
    for path in paths:
        if path.is_file() and path.name.lower().endswith(SUFFIX):
            return path
        if path.is_dir():
            return path
    if any("*" in str(path) or "?" in str(path) for path in paths):
        checker.refuse("has a pattern in dataset.path; let path be the folder, and write the pattern in dataset.files")
    files = [path for path in paths if path.is_file()]
    if files:
        checker.refuse(f"needs a folder or a file that ends in {SUFFIX}, but path is {files[0]}")
    (root,) = checker.require(checker.find_path("path", "folder"))
    return root
