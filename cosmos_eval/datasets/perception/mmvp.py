"""MMVP-VLM (Tong et al., CVPR 2024): nine visual patterns with fifteen pairs of images each, which CLIP confuses."""

from pathlib import Path
from typing import Any

from cosmos_eval.datasets.data import Data
from cosmos_eval.datasets.dataset_checks import DatasetChecker
from cosmos_eval.datasets.perception.annotation_files import find_folder_inside, parse_whole_number, read_table
from cosmos_eval.datasets.perception.items import AnnotatedItem, ItemCollector

PATTERNS = (
    "Orientation and Direction",
    "Presence of Specific Features",
    "State and Condition",
    "Quantity and Count",
    "Positional and Relational Context",
    "Color and Appearance",
    "Structural Characteristics",
    "Texts",
    "Viewpoint and Perspective",
)
"""The patterns in the order of the file, with the names that the official script prints."""
PAIRS = 15
"""Pairs of each pattern."""
IMAGE_FOLDERS = ("MLLM_VLM Images", "MLLM_VLM_Images", "MMVP_VLM_Images", "MMVP_VLM Images")
"""Names of the folder of images: the download has the first, its README the third."""
PROMPT_PREFIX = "a photo of "
COLUMNS = ("Question ID", "Type", "Statement")


def read_mmvp(benchmark: Any, data_root: Path) -> Data:
    """Read items of two images and two texts: each two consecutive rows of `Questions.csv`, as in the official script.

    Images are `<folder>/<Type of the first row>/<Question ID>.jpg`; texts are `a photo of ` and the statement. One id
    of a pair is odd and the other even: the statement of the odd row belongs to the first image, that of the even row
    to the second. The pattern is decided by the position in the file, fifteen pairs each; its rows must have one
    `Type`.

    Options: `path` (folder with `Questions.csv` and the folder of images), `leave_out_missing`.

    Raises:
        DataProblems: a missing column, an empty statement, a repeated id, two consecutive rows that are not a pair, a
            pattern without its fifteen pairs, missing images.
    """
    checker = DatasetChecker(benchmark, data_root)
    (base,) = checker.require(checker.find_path("path", "folder", containing="Questions.csv"))
    path = base / "Questions.csv"
    if not path.is_file():
        checker.add_missing(f"the file {path}", path)
    image_folder = find_folder_inside(base, IMAGE_FOLDERS, checker)
    checker.raise_if_problems()
    assert image_folder is not None
    rows = [(line, row, _read_id(line, row, path, checker)) for line, row in read_table(path, COLUMNS, checker)]
    _check_patterns([row["Type"] for _, row, _ in rows], path, checker)
    line_of_id: dict[int, int] = {}
    for line, _, question in rows:
        if question in line_of_id:
            checker.refuse(f"has the question {question} twice, in lines {line_of_id[question]} and {line} of {path}")
        line_of_id[question] = line
    collector = ItemCollector(checker)
    for pair in range(len(rows) // 2):
        (line, first_row, first_id), (_, second_row, second_id) = rows[2 * pair : 2 * pair + 2]
        _check_pair(first_id, second_id, line_of_id, f"{path}:{line}", checker)
        odd_row, even_row = (first_row, second_row) if first_id % 2 else (second_row, first_row)
        collector.add(
            AnnotatedItem(
                name=f"questions {first_id} and {second_id}",
                # both images are in the folder of the first row, as in the official script
                images=(f"{first_row['Type']}/{first_id}.jpg", f"{first_row['Type']}/{second_id}.jpg"),
                texts=(PROMPT_PREFIX + odd_row["Statement"], PROMPT_PREFIX + even_row["Statement"]),
                subset=PATTERNS[pair // PAIRS],
            )
        )
    return checker.finish(collector.build(image_folder))


def _check_pair(first_id: int, second_id: int, line_of_id: dict[int, int], where: str, checker: DatasetChecker) -> None:
    """Refuse two rows that are not a pair.

    That one id is odd and one even is not enough: if rows were moved, 3 and 2 would pass. So the partner of each must
    not be in another row.
    """
    ids = (first_id, second_id)
    if first_id % 2 == second_id % 2:
        checker.refuse(f"finds the pair {first_id} and {second_id} in {where}; one id must be odd and one even")
    for question in ids:
        partner = _partner_id(question)
        if partner not in ids and partner in line_of_id:
            checker.refuse(
                f"finds the pair {first_id} and {second_id} in {where}, but {partner}, which belongs to {question}, in "
                f"line {line_of_id[partner]}; restore the published order of the rows"
            )


def _partner_id(question: int) -> int:
    """Return the other id of a pair: 1 and 2, 3 and 4, ..."""
    return question + 1 if question % 2 else question - 1


def _read_id(line: int, row: dict[str, str], path: Path, checker: DatasetChecker) -> int:
    """Return the id of a row, after a check that none of its cells is empty."""
    where = f"{path}:{line}"
    for column in COLUMNS:
        if not row[column].strip():
            checker.refuse(f"has an empty {column!r} in {where}")
    return parse_whole_number(row["Question ID"], "Question ID", where, checker)


def _check_patterns(types: list[str], path: Path, checker: DatasetChecker) -> None:
    """Refuse a table in which a pattern does not have all of its rows together: later pairs would get the name of
    another pattern.

    Args:
        types: the cell `Type` of each row.
    """
    for i, pattern in enumerate(PATTERNS):
        block = types[2 * PAIRS * i : 2 * PAIRS * (i + 1)]
        count = block.count(block[0]) if block else 0
        if count != 2 * PAIRS or types.count(block[0]) != count:
            found = f"{count}, in the whole file {types.count(block[0])} of {block[0]!r}" if block else "none"
            checker.refuse(f"needs {2 * PAIRS} statements of '{pattern}' (pattern {i + 1}) in {path}, found {found}")
    if len(types) != 2 * PAIRS * len(PATTERNS):
        checker.refuse(f"needs {2 * PAIRS * len(PATTERNS)} statements in {path}, found {len(types)}")
