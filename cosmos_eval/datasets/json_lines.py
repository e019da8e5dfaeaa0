"""The lines of a JSON Lines file of a dataset's authors."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cosmos_core.json_text import LARGEST_JSON, JsonError, load_json
from cosmos_core.text_files import read_lines
from cosmos_eval.datasets.dataset_checks import DatasetChecker


def read_json_lines(path: Path, checker: DatasetChecker, largest: int = LARGEST_JSON) -> Iterator[tuple[int, Any]]:
    """Yield the number, from 1, and the value of each line that is not blank.

    Args:
        largest: most bytes of the file.

    Raises:
        DataProblems: a line that is not JSON; names file and line.
    """
    for number, line in enumerate(read_lines(path, largest), start=1):
        if not line.strip():
            continue
        try:
            value = load_json(line)
        except JsonError as error:
            reason = str(error).removeprefix("line 1 ")  # a line by itself: its number in the file is already given
            checker.refuse(f"cannot use {path}:{number}: not JSON: {reason}")
        yield number, value
