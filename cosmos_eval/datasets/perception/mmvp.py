"""MMVP-VLM (Tong et al., CVPR 2024): nine visual patterns of fifteen pairs of images that CLIP takes for alike."""

from pathlib import Path
from typing import Any

from cosmos_eval.datasets.data import Data
from cosmos_eval.datasets.dataset_checks import Survey
from cosmos_eval.datasets.perception.items import Item, Items
from cosmos_eval.datasets.perception.rows import folders_inside, read_table, whole

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
"""The patterns in the order of the file, by the names that the official script prints."""
PAIRS = 15
"""Of each pattern."""
FOLDERS = ("MLLM_VLM Images", "MLLM_VLM_Images", "MMVP_VLM_Images", "MMVP_VLM Images")
"""The download's own name first; the README writes the third."""
PREFIX = "a photo of "
COLUMNS = ("Question ID", "Type", "Statement")


def read_mmvp(benchmark: Any, data_root: Path) -> Data:
    """Items of two images and two texts: two rows of `Questions.csv` after each other, as the official script reads.

    Image `<folder>/<Type of the first row>/<Question ID>.jpg`; text: `a photo of ` and the statement. Of a pair's
    ids one is odd and one is even: the odd row's statement belongs to the first image, the even row's to the second.
    The pattern is decided by the place in the file, fifteen pairs each, and must have one `Type`.

    Options: `path` (folder with `Questions.csv` and the folder of images), `leave_out_missing`.

    Raises:
        DataProblems: a column missing, an empty statement, an id twice, a pair that is not odd and even or
            of which another row is the other half, a pattern without its fifteen pairs, images missing.
    """
    survey = Survey(benchmark, data_root)
    (base,) = survey.there(survey.place("path", "folder", holding="Questions.csv"))
    path = base / "Questions.csv"
    if not path.is_file():
        survey.missing(f"the file {path}", path)
    folder = folders_inside(base, FOLDERS, survey)
    survey.stop_if_any()
    assert folder is not None
    rows = [(line, row, _id(line, row, path, survey)) for line, row in read_table(path, COLUMNS, survey)]
    _refuse_counts([row["Type"] for _, row, _ in rows], path, survey)
    lines: dict[int, int] = {}
    for line, _, number in rows:
        if number in lines:
            survey.refuse(f"has the question {number} twice, in lines {lines[number]} and {line} of {path}")
        lines[number] = line
    items = Items(survey)
    for pair in range(len(rows) // 2):
        (line, one, a), (_, other, b) = rows[2 * pair : 2 * pair + 2]
        if a % 2 == b % 2:
            survey.refuse(f"finds the pair {a} and {b} in {path}:{line}; one id must be odd and one even")
        apart = next((n for n in (a, b) if _partner(n) not in (a, b) and _partner(n) in lines), None)
        if apart is not None:
            survey.refuse(
                f"finds the pair {a} and {b} in {path}:{line}, and {_partner(apart)}, which belongs to {apart}, in "
                f"line {lines[_partner(apart)]}; keep the published order of the rows"
            )
        odd, even = (one, other) if a % 2 else (other, one)
        items.add(
            Item(
                name=f"questions {a} and {b}",
                images=(f"{one['Type']}/{a}.jpg", f"{one['Type']}/{b}.jpg"),
                texts=(PREFIX + odd["Statement"], PREFIX + even["Statement"]),
                subset=PATTERNS[pair // PAIRS],
            )
        )
    return survey.finish(items.data(folder))


def _partner(number: int) -> int:
    """The other id of a pair: 1 and 2, 3 and 4, ..."""
    return number + 1 if number % 2 else number - 1


def _id(line: int, row: dict[str, str], path: Path, survey: Survey) -> int:
    where = f"{path}:{line}"
    for column in COLUMNS:
        if not row[column].strip():
            survey.refuse(f"has an empty {column!r} in {where}")
    return whole(row["Question ID"], "Question ID", where, survey)


def _refuse_counts(types: list[str], path: Path, survey: Survey) -> None:
    """Each pattern has its rows together and all of them: else later pairs would be counted for another pattern."""
    for i, pattern in enumerate(PATTERNS):
        block = types[2 * PAIRS * i : 2 * PAIRS * (i + 1)]
        own = block.count(block[0]) if block else 0
        if own != 2 * PAIRS or types.count(block[0]) != own:
            total = f"{own}, all told {types.count(block[0])} of {block[0]!r}" if block else "none"
            survey.refuse(f"needs {2 * PAIRS} statements of '{pattern}' (pattern {i + 1}) in {path}, found {total}")
    if len(types) != 2 * PAIRS * len(PATTERNS):
        survey.refuse(f"needs {2 * PAIRS * len(PATTERNS)} statements in {path}, found {len(types)}")
