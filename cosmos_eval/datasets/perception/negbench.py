"""NegBench (Alhamoud et al., CVPR 2025).

- Multiple choice: of four captions with and without negation, one is true; of two, for chest radiographs of CheXpert.
- Retrieval: images with their captions, to which the authors add what the images do not show.
"""

from pathlib import Path
from typing import Any

from cosmos_core.short_repr import short_repr
from cosmos_eval.datasets.data import Data
from cosmos_eval.datasets.dataset_checks import DatasetChecker
from cosmos_eval.datasets.long_captions.captioned import build_retrieval
from cosmos_eval.datasets.perception.annotation_files import (
    parse_text_list,
    parse_whole_number,
    parts_of_address,
    read_table,
)
from cosmos_eval.datasets.perception.items import AnnotatedItem, ItemCollector

CAPTIONS = ("caption_0", "caption_1", "caption_2", "caption_3")
COLUMNS = ("image_path", "correct_answer", *CAPTIONS, "correct_answer_template")
TWO_CAPTIONS = CAPTIONS[:2]
BINARY_COLUMNS = ("image_path", "correct_answer", *TWO_CAPTIONS)
CHEXPERT_SPLITS = ("train", "valid", "test")
"""Folders of CheXpert, in which images are `<patient>/<study>/<view>.jpg`."""


def read_negbench(benchmark: Any, data_root: Path) -> Data:
    """Read items of an image and four captions from a table with `image_path`, `correct_answer` (0 to 3), `caption_0`
    to `caption_3` and `correct_answer_template`.

    The subset is the template of the right caption: positive, negative or hybrid. Images have the last part of
    `image_path` as name: the paths are those of the authors' machine.

    Options: `path` (the csv), `images` (folder), `leave_out_missing`.

    Raises:
        DataProblems: a missing column, an answer that is not 0 to 3, an empty caption or template, missing images.
    """
    checker = DatasetChecker(benchmark, data_root)
    (path,) = checker.require(checker.find_path("path", "file"))
    collector = ItemCollector(checker)
    for line, row in read_table(path, COLUMNS, checker):
        where = f"{path}:{line}"
        texts, _ = _put_right_caption_first(row, CAPTIONS, where, checker)
        template = row["correct_answer_template"].strip()
        if not template:
            checker.refuse(f"has an empty 'correct_answer_template' in {where}")
        image = row["image_path"].replace("\\", "/").rpartition("/")[2]
        collector.add(AnnotatedItem(name=f"line {line}", images=(image,), texts=texts, subset=template))
    return checker.finish(collector.build(collector.require_image_folder()))


def read_negbench_chexpert(benchmark: Any, data_root: Path) -> Data:
    """Read items of a chest radiograph and two captions from a table with `image_path`, `correct_answer` (0 or 1),
    `caption_0` and `caption_1`.

    The subset is the column of the right caption. Names of files of CheXpert are not unique, so that images have their
    path from the folder `train`, `valid` or `test` on as name; what is before it is of the authors' machine.

    Options: `path` (the csv), `images` (CheXpert's folder, which has `train` or `valid`), `leave_out_missing`.

    Raises:
        DataProblems: a missing column, an answer that is not 0 or 1, an empty caption, an image path of another form,
            missing images.
    """
    checker = DatasetChecker(benchmark, data_root)
    (path,) = checker.require(checker.find_path("path", "file"))
    collector = ItemCollector(checker)
    for line, row in read_table(path, BINARY_COLUMNS, checker):
        where = f"{path}:{line}"
        texts, column = _put_right_caption_first(row, TWO_CAPTIONS, where, checker)
        image = _path_in_chexpert(row["image_path"], where, checker)
        collector.add(AnnotatedItem(name=f"line {line}", images=(image,), texts=texts, subset=column))
    return checker.finish(collector.build(collector.require_image_folder()))


def _put_right_caption_first(
    row: dict[str, str], columns: tuple[str, ...], where: str, checker: DatasetChecker
) -> tuple[tuple[str, ...], str]:
    """Return the captions of a row, the right one first, and its column."""
    answer = parse_whole_number(row["correct_answer"], "correct_answer", where, checker)
    if answer >= len(columns):
        checker.refuse(f"finds the answer {answer} in {where}; it must be 0 to {len(columns) - 1}")
    order = (columns[answer], *columns[:answer], *columns[answer + 1 :])
    return tuple(row[column] for column in order), columns[answer]


def _path_in_chexpert(path: str, where: str, checker: DatasetChecker) -> str:
    """Return a path from the last folder of CheXpert's splits on."""
    parts = path.replace("\\", "/").split("/")
    starts = [i for i, part in enumerate(parts[:-1]) if part in CHEXPERT_SPLITS]
    if not starts:
        checker.refuse(f"finds the image {short_repr(path)} in {where}; it must have the folder train, valid or test")
    return "/".join(parts[starts[-1] :])


def read_negbench_retrieval(benchmark: Any, data_root: Path) -> Data:
    """Read images with their captions from a table with `filepath` and `captions`, a list of texts as in Python.

    Images have the last part of `filepath` as name: the paths are those of the authors' machine.

    Options: `path` (the csv), `images` (folder).

    Raises:
        DataProblems: a missing column, a row without captions, an empty caption, missing images.
    """
    checker = DatasetChecker(benchmark, data_root)
    (path,) = checker.require(checker.find_path("path", "file"))
    captioned: list[tuple[str, list[str]]] = []
    for line, row in read_table(path, ("filepath", "captions"), checker):
        where = f"{path}:{line}"
        captions = parse_text_list(row["captions"], "captions", where, checker)
        if not captions or not all(caption.strip() for caption in captions):
            checker.refuse(f"finds no caption, or an empty one, in {where}")
        captioned.append((parts_of_address(row["filepath"].replace("\\", "/"), where, checker)[-1], captions))
    (folder,) = checker.require(checker.find_path("images", "folder", containing=captioned[0][0]))
    return checker.finish(build_retrieval(checker, folder, captioned))
