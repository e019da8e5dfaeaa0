"""SVO-Probes (Hendricks & Nematzadeh, Findings of ACL 2021): a sentence, an image that shows it, and an image that
differs in the subject, the verb or the object."""

from pathlib import Path
from typing import Any

from cosmos_eval.datasets.data import Data
from cosmos_eval.datasets.dataset_checks import DatasetChecker
from cosmos_eval.datasets.perception.annotation_files import parse_whole_number, read_table
from cosmos_eval.datasets.perception.items import AnnotatedItem, ItemCollector

SUBSETS = {"subj_neg": "subject", "verb_neg": "verb", "obj_neg": "object"}
"""Column, which is true if the negative differs in this part -> subset."""
COLUMNS = ("sentence", "pos_image_id", "neg_image_id", *SUBSETS)
TRUE_WORDS, FALSE_WORDS = ("true", "1"), ("false", "0")


def read_svo(benchmark: Any, data_root: Path) -> Data:
    """Read items of two images, the right one first, and a sentence from `svo_probes.csv`.

    As in the authors' notebook, rows whose negative differs in several parts (or in none) are not used, and rows with
    the same sentence, images and part are one item. The user downloads the images from the addresses in the table and
    saves them as `<image id>.jpg`, or with another ending.

    Options: `path` (the csv), `images` (folder), `leave_out_missing` (items whose images are missing, or are not
    images, are counted and left out). `expected.rows` is the number of rows of the table.

    Raises:
        DataProblems: a missing column, an empty sentence, a cell that is not an id or a truth value, missing images.
    """
    checker = DatasetChecker(benchmark, data_root)
    path, image_folder = checker.require(checker.find_path("path", "file"), checker.find_path("images", "folder"))
    rows = read_table(path, COLUMNS, checker)
    checker.record_counts(rows=len(rows))
    collector = ItemCollector(checker, any_ending=True)
    seen: set[tuple[str, str, str, str]] = set()
    for line, row in rows:
        where = f"{path}:{line}"
        subsets = [subset for column, subset in SUBSETS.items() if _parse_bool(row[column], column, where, checker)]
        sentence = row["sentence"]
        if not sentence.strip():
            checker.refuse(f"has an empty sentence in {where}")
        positive = str(parse_whole_number(row["pos_image_id"], "pos_image_id", where, checker))
        negative = str(parse_whole_number(row["neg_image_id"], "neg_image_id", where, checker))
        if len(subsets) != 1 or (sentence, positive, negative, subsets[0]) in seen:
            continue
        seen.add((sentence, positive, negative, subsets[0]))
        collector.add(AnnotatedItem(f"line {line}", (positive, negative), (sentence,), subsets[0]))
    return checker.finish(collector.build(image_folder))


def _parse_bool(cell: str, column: str, where: str, checker: DatasetChecker) -> bool:
    word = cell.strip().lower()
    if word not in TRUE_WORDS + FALSE_WORDS:
        checker.refuse(f"finds {cell!r} for {column!r} in {where}; it must be True or False")
    return word in TRUE_WORDS
