"""Assign class names to folders or indices: by name or by number, and refused where only the order would decide.

Folders are sorted by a program, names are listed by a person. If a list of names is assigned to sorted folders by
position alone and the two are sorted differently, every class gets the name of another one, and no number of the result
shows it.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from cosmos_core.printable import plural
from cosmos_eval.datasets.consistency import format_names
from cosmos_eval.datasets.dataset_checks import DatasetChecker

SHOWN = 3
"""Pairs of folder and name that a remark shows."""
ARTICLES = ("a", "an", "the")
USE_A_MAP = "give prompts.class_names as a map from folder to name"
ALLOW_CANDIDATES = "if classes without an image are only candidates, write candidates_without_images: allow in dataset"
_NUMBERED = re.compile(r"[0-9]{1,18}")
_DIGITS = re.compile(r"([0-9]+)")


def assign_class_names(
    names: Sequence[str] | Mapping[str, str] | None,
    folders: Sequence[str],
    checker: DatasetChecker,
    allow_missing: bool = False,
) -> tuple[list[str | None], list[str]]:
    """Assign a name to every class folder.

    Names are assigned by the first of these rules that applies:
        1. A map gives the name of each folder.
        2. Folders that are different whole numbers are taken in numeric order.
        3. If every folder matches one name (see `_match_names`: case, separators and numbers may differ), by name.
        4. By position, in the order of sorted folders, with a remark. Refused if a name matches another folder, or
           if people would sort the folders differently.

    Args:
        names: a list in class order, or a map from folder to name; None if the folders' names are the class names.
        folders: folder names, sorted as text.
        allow_missing: whether a name may have no folder.

    Returns:
        The folders in class order, None for a class without a folder; and the name of each class.

    Raises:
        DataProblems: names that do not fit the folders, or an order that would be a guess.
    """
    if names is None:
        return list(folders), list(folders)
    if isinstance(names, Mapping):
        return _assign_by_map(names, folders, checker, allow_missing)
    if folder_of_number := _read_numbers(folders):
        return _assign_by_number(list(names), folder_of_number, checker, allow_missing)
    name_indices = [index for index in _match_names(folders, names) if index is not None]
    all_folders_match = len(set(name_indices)) == len(folders)
    if all_folders_match and (allow_missing or len(names) == len(folders)):
        names_without_folder = [name for index, name in enumerate(names) if index not in set(name_indices)]
        return (
            [*folders, *[None] * len(names_without_folder)],
            [*(names[index] for index in name_indices), *names_without_folder],
        )
    if len(names) != len(folders):
        advice = f"; {ALLOW_CANDIDATES}" if all_folders_match else ""
        checker.refuse(
            f"has {plural(len(names), 'class name')} for {plural(len(folders), 'class folder')}: "
            f"{format_names(folders)}{advice}"
        )
    _refuse_guess(list(names), folders, checker)
    shown = ", ".join(f"{folder} = {name}" for folder, name in list(zip(folders, names, strict=True))[:SHOWN])
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    checker.add_remark(f"class names are assigned to the sorted folders by position: {shown}{more}")
    return list(folders), list(names)


def check_class_order(names: Sequence[str], reference: Sequence[str], list_name: str, checker: DatasetChecker) -> None:
    """Refuse a list of class names in which a name stands at the index of another class of the dataset.

    Args:
        names: the definition's class names, by index.
        reference: what the dataset calls the same classes, by index.
        list_name: what the definition calls the list of names, for messages.

    Raises:
        DataProblems: also if the lists have different lengths.
    """
    if len(names) != len(reference):
        checker.refuse(
            f"has {len(names):,} {list_name} for {plural(len(reference), 'class', 'classes')}: "
            f"{format_names(reference)}"
        )
    for i, other in _find_misplaced(names, reference):
        checker.refuse(
            f"has {list_name} in another order than the dataset: {names[i]!r} is number {i}, but the dataset's class "
            f"{other}, for which the list has {names[other]!r}; write them in the dataset's order"
        )


def normalize_class_name(name: str) -> str:
    """Return a key that is equal for spellings of one class name, such as `02_Sea-lions` and `a sea lion`."""
    words = [word for word in re.split(r"[\W_]+", _compose_accents(name).casefold()) if word]
    letters = [word for word in words if not word.isdecimal() and word not in ARTICLES]
    return "".join(word.removesuffix("s") for word in letters or words)


def _match_names(names: Sequence[str], reference: Sequence[str]) -> list[int | None]:
    """Return the index in the reference of each name; None if there is no match or several.

    Exact spelling comes first (`C` and `C++` are two classes), then spelling without case and separators, then
    `normalize_class_name`. A reference that one of these has matched is not matched again by a looser one.
    """
    matches: list[int | None] = [None] * len(names)
    for key in (_compose_accents, _letters_and_digits, normalize_class_name):
        name_keys, reference_keys = [key(name) for name in names], [key(name) for name in reference]
        name_counts, reference_counts = Counter(name_keys), Counter(reference_keys)
        index_of_key = {reference_key: i for i, reference_key in enumerate(reference_keys)}
        taken = {index for index in matches if index is not None}
        for i, candidate in enumerate(name_keys):
            is_unique = name_counts[candidate] == reference_counts[candidate] == 1
            if matches[i] is None and is_unique and index_of_key[candidate] not in taken:
                matches[i] = index_of_key[candidate]
    return matches


def _find_misplaced(names: Sequence[str], reference: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield (index of the name, index of the reference) for each name that matches a reference at another index.

    A reference that has its own name at its own index does not count: the other name is then merely similar.
    """
    matches = _match_names(names, reference)
    for i, match in enumerate(matches):
        if match is not None and match != i and matches[match] != match:
            yield i, match


def _compose_accents(name: str) -> str:
    """Return the name with composed accents: macOS stores `é` as `e` and a combining mark."""
    return unicodedata.normalize("NFC", name)


def _letters_and_digits(name: str) -> str:
    return re.sub(r"[\W_]+", "", _compose_accents(name).casefold())


def _read_numbers(folders: Sequence[str]) -> dict[int, str]:
    """Return number -> folder; empty unless all folders are different whole numbers."""
    if not all(_NUMBERED.fullmatch(folder) for folder in folders):
        return {}
    folder_of_number = {int(folder): folder for folder in folders}
    return folder_of_number if len(folder_of_number) == len(folders) else {}


def _assign_by_number(
    names: list[str], folder_of_number: dict[int, str], checker: DatasetChecker, allow_missing: bool
) -> tuple[list[str | None], list[str]]:
    in_order: list[str | None] = [folder_of_number[number] for number in sorted(folder_of_number)]
    if len(names) == len(in_order):
        if sorted(folder_of_number) == sorted(map(_as_number, names)):  # the names are numbers, as for digits
            name_of_number = {_as_number(name): name for name in names}
            return in_order, [name_of_number[number] for number in sorted(folder_of_number)]
        return in_order, names
    # Some classes have no folder: the numbers are class indices, from 0 or from 1.
    start = 0 if 0 in folder_of_number else 1
    if not allow_missing or max(folder_of_number) - start >= len(names):
        checker.refuse(
            f"has {plural(len(names), 'class name')} for {plural(len(in_order), 'class folder')}: "
            f"{format_names(folder_of_number.values())}"
        )
    return [folder_of_number.get(start + i) for i in range(len(names))], names


def _as_number(name: str) -> int:
    """Return the whole number that a name is; -1 if it is none."""
    return int(name) if _NUMBERED.fullmatch(name.strip()) else -1


def _assign_by_map(
    names: Mapping[str, str], folders: Sequence[str], checker: DatasetChecker, allow_missing: bool
) -> tuple[list[str | None], list[str]]:
    existing = set(folders)
    # A key of the map may write accents in another way than the file system; the exact spelling wins.
    folder_of_composed = {_compose_accents(folder): folder for folder in folders}
    exact = {folder: name for folder, name in names.items() if folder in existing}
    names = {folder_of_composed.get(_compose_accents(folder), folder): name for folder, name in names.items()} | exact
    nameless = [folder for folder in folders if folder not in names]
    if nameless:
        checker.refuse(
            f"has no class name for {plural(len(nameless), 'folder')}: {format_names(nameless)}; add them to "
            "prompts.class_names"
        )
    absent = [folder for folder in names if folder not in existing]
    if absent and not allow_missing:
        checker.refuse(
            f"has class names for {plural(len(absent), 'folder that is', 'folders that are')} not there: "
            f"{format_names(absent)}; {ALLOW_CANDIDATES}"
        )
    return [*folders, *[None] * len(absent)], [names[folder] for folder in (*folders, *absent)]


def _refuse_guess(names: list[str], folders: Sequence[str], checker: DatasetChecker) -> None:
    """Refuse names by position if one matches another folder, or if people would sort the folders differently."""
    for i, other in _find_misplaced(names, folders):
        checker.refuse(
            f"has class names in another order than its folders: by position the folder {folders[i]} would get "
            f"the name {names[i]!r}, which is that of the folder {folders[other]}; {USE_A_MAP}"
        )
    natural_order = sorted(folders, key=_natural_sort_key)
    if natural_order != list(folders):
        i = next(i for i, folder in enumerate(folders) if natural_order[i] != folder)
        checker.refuse(
            f"has class names for folders that can be sorted in two ways: the folder {folders[i]} would get the name "
            f"{names[i]!r} if they are sorted as text, and {names[natural_order.index(folders[i])]!r} by their "
            f"numbers; {USE_A_MAP}"
        )


def _natural_sort_key(folder: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts by the numbers in a name, and without regard to case: class2 before class10."""
    parts = _DIGITS.split(folder.casefold())
    return [(0, int(part[:18]), part) if part.isdecimal() else (1, 0, part) for part in parts if part]
