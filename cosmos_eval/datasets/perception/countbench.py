"""CountBench (Paiss et al., ICCV 2023): a caption with the right count among captions with other counts."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from cosmos_eval.datasets.data import Data, PerceptionData
from cosmos_eval.datasets.dataset_checks import DatasetChecker
from cosmos_eval.datasets.parquet.columns import find_image_column, is_integer, is_text, require_column
from cosmos_eval.datasets.parquet.images import ImageColumn, ParquetImage
from cosmos_eval.datasets.parquet.listing import list_parquet
from cosmos_eval.datasets.parquet.table_file import TableFile

WORDS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight", 9: "nine", 10: "ten"}


def read_countbench(benchmark: Any, data_root: Path) -> Data:
    """Read items of an image and nine captions from Parquet files with the columns image, text and number.

    The first caption is `text`. In each other one, every mention of its number (as a word) is replaced by another
    number from two to ten; a capital letter is kept. The subset is the number. Rows without an image (the addresses no
    longer work), and rows whose text does not have the word of their number, are counted and left out.

    Options: `path` (folder of the Parquet files). `expected.rows` is the number of rows.

    Raises:
        DataProblems: no Parquet file, no such columns, a number that is not 2 to 10, an empty text.
    """
    checker = DatasetChecker(benchmark, data_root)
    (folder,) = checker.require(checker.find_path("path", "folder"))
    names = list_parquet(folder)
    if not names:
        checker.refuse(f"finds no Parquet files in {folder}; download them into it")
    images, captions, subsets, left_out = [], [], [], []
    row_count = 0
    for table in (TableFile(name, folder / name) for name in names):
        leaf = find_image_column(table, None, checker).bytes_leaf
        if leaf is None:
            checker.refuse(f"needs images as bytes in {table.path}")
        for column, accepts, kind in (("text", is_text, "texts"), ("number", is_integer, "whole numbers")):
            require_column(table, column, column, checker)
            if not accepts(table.schema.field(column).type):
                checker.refuse(f"needs {kind} in the column {column!r} of {table.path}")
        image_column = ImageColumn.of(table, leaf)
        row_count += table.row_count
        for first, values in table.read(["text", "number"]):
            for i, (text, number) in enumerate(zip(values["text"], values["number"], strict=True)):
                row = first + i
                if number not in WORDS or not (text or "").strip():
                    checker.refuse(f"finds the number {number} or an empty text in row {row} of {table.path}")
                if image_column.read(row) is None:
                    left_out.append(f"row {row}: has no image")
                elif (other_captions := replace_number(text, number)) is None:
                    left_out.append(f"row {row}: does not have the word {WORDS[number]!r}")
                else:
                    images.append(ParquetImage(image_column, row))
                    captions.append([text, *other_captions])
                    subsets.append(WORDS[number])
    checker.record_counts(rows=row_count)
    if not captions:
        checker.refuse(f"finds no rows with an image and its number in {folder}")
    checker.image_folder = folder
    return checker.finish(
        PerceptionData(
            images=images,
            texts=[text for of_item in captions for text in of_item],
            item_images=np.arange(len(images))[:, None],
            item_texts=np.arange(len(images) * len(WORDS)).reshape(-1, len(WORDS)),
            subsets=subsets,
            left_out=tuple(left_out),
        )
    )


def replace_number(text: str, number: int) -> list[str] | None:
    """Return a caption with each other number from two to ten, in this order; None if its own number is not in it."""
    pattern = re.compile(rf"\b{WORDS[number]}\b", re.IGNORECASE)
    if not pattern.search(text):
        return None

    def with_number(other: str) -> str:
        def like(match: re.Match[str]) -> str:
            found = match[0]
            return other.upper() if found.isupper() else other.capitalize() if found[0].isupper() else other

        return pattern.sub(like, text)

    return [with_number(word) for value, word in WORDS.items() if value != number]
