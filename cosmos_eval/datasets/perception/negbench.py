"""NegBench (Alhamoud et al., CVPR 2025).

- Multiple choice: of four captions with and without negation, one is true.
- Retrieval: images with their captions, to which the authors add what the images do not show.
"""

from pathlib import Path
from typing import Any

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
        answer = parse_whole_number(row["correct_answer"], "correct_answer", where, checker)
        if answer >= len(CAPTIONS):
            checker.refuse(f"finds the answer {answer} in {where}; it must be 0 to {len(CAPTIONS) - 1}")
        template = row["correct_answer_template"].strip()
        if not template:
            checker.refuse(f"has an empty 'correct_answer_template' in {where}")
        captions = [row[column] for column in CAPTIONS]
        collector.add(
            AnnotatedItem(
                name=f"line {line}",
                images=(row["image_path"].replace("\\", "/").rpartition("/")[2],),
                texts=(captions[answer], *captions[:answer], *captions[answer + 1 :]),
                subset=template,
            )
        )
    return checker.finish(collector.build(collector.require_image_folder()))


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
