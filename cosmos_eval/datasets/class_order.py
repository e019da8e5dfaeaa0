"""Which class name belongs to which folder or index: by name, by number, or refused where order alone would be guessed.

Folders are listed by a file system, names by a person: a list laid over the other by its place alone gives every class
the name of another one as soon as the two are sorted otherwise, and nothing in the numbers says so.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from cosmos_eval.datasets.consistency import first
from cosmos_eval.datasets.dataset_checks import Survey

SHOWN = 3
ARTICLES = ("a", "an", "the")
AS_A_MAP = "give prompts.class_names as a map from folder to name"
ONLY_COMPETE = "where classes without an image only compete, write candidates_without_images: allow in dataset"
_NUMBERED = re.compile(r"[0-9]{1,18}")
_DIGITS = re.compile(r"([0-9]+)")


def name_folders(
    names: Sequence[str] | Mapping[str, str] | None, folders: Sequence[str], survey: Survey, allow_missing: bool = False
) -> tuple[list[str | None], list[str]]:
    """The class folders in class order, None for a class without one, and the name of each.

    A map is looked up. A list whose names are the folders' (other case, `_` or `-` for blanks, and a number in front do
    not matter) goes by name, in any order; folders that are all whole numbers are taken in numeric order; else the
    list must be in the order of the sorted folders, which is told, and refused where something speaks against it.

    Args:
        names: in class order, or by folder; None where the folders' names are the classes'.
        folders: sorted as text.
        allow_missing: classes without a folder are kept.

    Raises:
        DataProblems: names that do not fit the folders, or an order that would be a guess.
    """
    if names is None:
        return list(folders), list(folders)
    if isinstance(names, Mapping):
        return _by_map(names, folders, survey, allow_missing)
    if numbers := _numbers(folders):
        return _by_number(list(names), numbers, survey, allow_missing)
    of_folder = _matches(folders, names)
    matched = [place for place in of_folder if place is not None]
    by_name = len(set(matched)) == len(folders)
    if by_name and (allow_missing or len(names) == len(folders)):
        absent = [name for place, name in enumerate(names) if place not in set(matched)]
        return [*folders, *[None] * len(absent)], [*(names[place] for place in matched), *absent]
    if len(names) != len(folders):
        more = f"; {ONLY_COMPETE}" if by_name else ""
        survey.refuse(f"has {len(names):,} class names for {len(folders):,} class folders: {first(folders)}{more}")
    _refuse_guess(list(names), folders, survey)
    shown = ", ".join(f"{folder} = {name}" for folder, name in list(zip(folders, names, strict=True))[:SHOWN])
    survey.remark(f"class names are laid over the folders in sorted order: {first_of(shown, len(names))}")
    return list(folders), list(names)


def check_order(names: Sequence[str], reference: Sequence[str], what: str, survey: Survey) -> None:
    """Refuse a list of class names where one of them stands at the place of another class of the dataset.

    Args:
        names, reference: what the definition asks with, and what the dataset calls the same classes, by index.
        what: the list's name in the definition.

    Raises:
        DataProblems: also where the lists are of different lengths.
    """
    if len(names) != len(reference):
        survey.refuse(f"has {len(names):,} {what} for {len(reference):,} classes: {first(reference)}")
    for i, there in _misplaced(names, reference):
        survey.refuse(
            f"has {what} in another order than the dataset: {names[i]!r} is number {i} there and the dataset's "
            f"class {there}, whose place has {names[there]!r}; write them in the dataset's order"
        )


def name_key(name: str) -> str:
    """What two writings of a class name share: `02_Sea-lions` and `a sea lion` are one."""
    words = [word for word in re.split(r"[\W_]+", _composed(name).casefold()) if word]
    letters = [word for word in words if not word.isdecimal() and word not in ARTICLES]
    return "".join(word.removesuffix("s") for word in letters or words)


def first_of(shown: str, total: int) -> str:
    return shown + (f" and {total - SHOWN:,} more" if total > SHOWN else "")


def _matches(names: Sequence[str], reference: Sequence[str]) -> list[int | None]:
    """The place of each name in the reference, None where it has none or several: written alike (`C` and `C++` are
    two), else alike but for case and what stands between words, else by `name_key`."""
    found: list[int | None] = [None] * len(names)
    for key in (_composed, _letters_and_digits, name_key):
        own, theirs = [key(name) for name in names], [key(name) for name in reference]
        once = [Counter(own), Counter(theirs)]
        place = {one: i for i, one in enumerate(theirs)}
        taken = {i for i in found if i is not None}
        for i, one in enumerate(own):
            if found[i] is None and once[0][one] == once[1][one] == 1 and place[one] not in taken:
                found[i] = place[one]
    return found


def _misplaced(names: Sequence[str], reference: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Places whose name is that of another place of the reference, which has not got its own: (place, that place)."""
    places = _matches(names, reference)
    for i, there in enumerate(places):
        if there is not None and there != i and places[there] != there:
            yield i, there


def _composed(name: str) -> str:
    """One writing of accents: a file system may keep `é` as `e` and a mark."""
    return unicodedata.normalize("NFC", name)


def _letters_and_digits(name: str) -> str:
    return re.sub(r"[\W_]+", "", _composed(name).casefold())


def _numbers(folders: Sequence[str]) -> dict[int, str]:
    """Number -> folder, where all are whole numbers and different ones."""
    if not all(_NUMBERED.fullmatch(folder) for folder in folders):
        return {}
    found = {int(folder): folder for folder in folders}
    return found if len(found) == len(folders) else {}


def _by_number(
    names: list[str], numbers: dict[int, str], survey: Survey, allow_missing: bool
) -> tuple[list[str | None], list[str]]:
    in_order: list[str | None] = [numbers[number] for number in sorted(numbers)]
    if len(names) == len(in_order):
        if sorted(numbers) == sorted(map(_as_number, names)):  # the names are numbers themselves
            by_number = {_as_number(name): name for name in names}
            return in_order, [by_number[number] for number in sorted(numbers)]
        return in_order, names
    start = 0 if 0 in numbers else 1
    if not allow_missing or max(numbers) - start >= len(names):
        survey.refuse(f"has {len(names):,} class names for {len(in_order):,} class folders: {first(numbers.values())}")
    return [numbers.get(start + i) for i in range(len(names))], names


def _as_number(name: str) -> int:
    return int(name) if _NUMBERED.fullmatch(name.strip()) else -1


def _by_map(
    names: Mapping[str, str], folders: Sequence[str], survey: Survey, allow_missing: bool
) -> tuple[list[str | None], list[str]]:
    written = {_composed(folder): folder for folder in folders}
    there = set(folders)
    exact = {folder: name for folder, name in names.items() if folder in there}
    names = {written.get(_composed(folder), folder): name for folder, name in names.items()} | exact
    without = [folder for folder in folders if folder not in names]
    if without:
        survey.refuse(
            f"has no class name for {len(without):,} folders: {first(without)}; add them to prompts.class_names"
        )
    empty = [folder for folder in names if folder not in there]
    if empty and not allow_missing:
        survey.refuse(f"has class names for {len(empty):,} folders that are not there: {first(empty)}; {ONLY_COMPETE}")
    return [*folders, *[None] * len(empty)], [names[folder] for folder in (*folders, *empty)]


def _refuse_guess(names: list[str], folders: Sequence[str], survey: Survey) -> None:
    """Refuse a list in the order of sorted folders where a name is another folder's, or where people and machines sort
    the folders differently."""
    for i, there in _misplaced(names, folders):
        survey.refuse(
            f"has class names in another order than its folders: by its place the folder {folders[i]} would get "
            f"the name {names[i]!r}, which is that of the folder {folders[there]}; {AS_A_MAP}"
        )
    as_people = sorted(folders, key=_as_people_sort)
    if as_people != list(folders):
        i = next(i for i, folder in enumerate(folders) if as_people[i] != folder)
        survey.refuse(
            f"has class names for folders that are sorted in more than one way: the folder {folders[i]} would get the "
            f"name {names[i]!r} when they are sorted as text, and {names[as_people.index(folders[i])]!r} by their "
            f"numbers; {AS_A_MAP}"
        )


def _as_people_sort(folder: str) -> list[tuple[int, int, str]]:
    """By numbers inside a name, and without regard to case."""
    parts = _DIGITS.split(folder.casefold())
    return [(0, int(part[:18]), part) if part.isdecimal() else (1, 0, part) for part in parts if part]
