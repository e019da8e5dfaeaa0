"""WinoGAViL (Bitton et al., NeurIPS 2022): of 5 to 12 images, those that players associate with a word."""

from pathlib import Path
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.json_text import parse_json
from cosmos_core.printable import plural
from cosmos_core.short_repr import short_repr
from cosmos_eval.datasets.data import ChoiceData, Data
from cosmos_eval.datasets.data.choices import Choice
from cosmos_eval.datasets.dataset_checks import DatasetChecker, is_outside_folder
from cosmos_eval.datasets.image_sources import FileImage
from cosmos_eval.datasets.perception.annotation_files import read_table
from cosmos_eval.datasets.perception.items import find_any_ending

COLUMNS = ("candidates", "cue", "associations")
FEW, MANY = range(5, 7), range(10, 13)
"""Numbers of candidates of the authors' two collections of items."""
VOWELS = tuple("aeiou")


def read_winogavil(benchmark: Any, data_root: Path) -> Data:
    """Read items of a cue and images from `winogavil_dataset.csv`, whose `candidates` and `associations` are JSON lists
    of names of images.

    The right candidates are those whose names are among the associations. The text is `A <cue>` or `An <cue>` in lower
    case, as DataComp asks. The subset is `5-6` or `10-12`, the number of candidates.

    Options: `path` (the csv), `images` (folder of `<name>.jpg`, or with another ending).

    Raises:
        DataProblems: a missing column, a cell that is not a list of names, another number of candidates, an item
            without right or without wrong candidates, an empty cue, missing images.
    """
    checker = DatasetChecker(benchmark, data_root)
    path, image_folder = checker.require(checker.find_path("path", "file"), checker.find_path("images", "folder"))
    index: dict[str, int] = {}
    items: list[Choice] = []
    for line, row in read_table(path, COLUMNS, checker):
        where = f"{path}:{line}"
        names = _parse_names(row["candidates"], "candidates", where, checker)
        associations = set(_parse_names(row["associations"], "associations", where, checker))
        if len(names) not in (*FEW, *MANY):
            checker.refuse(f"finds {plural(len(names), 'candidate')} in {where}; an item has 5, 6 or 10 to 12")
        right = [position for position, name in enumerate(names) if name in associations]
        if not right or len(right) == len(names):
            checker.refuse(f"finds {len(right)} of {plural(len(names), 'candidate')} among the associations in {where}")
        cue = row["cue"].strip()
        if not cue:
            checker.refuse(f"has an empty 'cue' in {where}")
        images = [index.setdefault(name, len(index)) for name in names]
        items.append(Choice(images, (cue_prompt(cue),), right, "5-6" if len(names) in FEW else "10-12"))
    file_of_name = find_any_ending(image_folder, list(index), checker)
    checker.check_images(image_folder, list(file_of_name.values()))
    images_of_names = [FileImage(name, image_folder / file_of_name[name]) for name in index]
    return checker.finish(ChoiceData.from_items(images_of_names, items))


def cue_prompt(cue: str) -> str:
    """Return the text for a cue: lower case, with an article that goes by its first letter."""
    cue = cue.lower()
    return f"An {cue}" if cue.startswith(VOWELS) else f"A {cue}"


def _parse_names(cell: str, column: str, where: str, checker: DatasetChecker) -> list[str]:
    try:
        names = parse_json(cell, where)
    except RequestError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        checker.refuse(f"finds {short_repr(cell)} for {column!r} in {where}; it must be a JSON list of names")
    outside = [name for name in names if not name.strip() or is_outside_folder(name)]
    if outside:
        checker.refuse(f"names an image outside its folder in {where}: {outside[0]!r}")
    return names
