"""Captions in a file for each language, line by line beside a file of image names (XTD-10 and sets made like it)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.printable import plural
from cosmos_core.text_files import read_lines
from cosmos_eval.datasets.data import Data, MultilingualRetrievalData
from cosmos_eval.datasets.dataset_checks import DatasetChecker
from cosmos_eval.datasets.image_sources import FileImage

PLACE = "{language}"


def read_caption_files(benchmark: Any, data_root: Path) -> Data:
    """Read one caption of each image in each language: line i of a language's file belongs to line i of the image list.

    Options: `images` (folder), `image_names` (text file with the name of an image a line), `captions` (folder of the
    files; of a list, the first that has the file of a language), `file_name` (of these files, with `{language}` in
    place of the code; default `{language}.txt`), `languages` (codes, in the order of tables).

    An empty line inside a file is an empty caption, empty lines at its end are ignored. clip-benchmark pairs lines in
    the same way, but leaves out images that are missing and lines without a partner; here both are problems.

    Raises:
        DataProblems: files missing, another number of lines than images, images missing or listed twice.
        RequestError: a file name without `{language}`, or no text file in UTF-8.
    """
    checker = DatasetChecker(benchmark, data_root)
    languages = read_codes(checker)
    paths = _find_files(checker, languages)
    folder = checker.find_path("images", "folder")
    names_path = checker.find_path("image_names", "file")
    (names_path,) = checker.require(names_path)
    checker.raise_if_problems()
    names = [line.strip() for line in _read_lines(names_path)]
    folder = checker.find_path("images", "folder", containing=names[0] if names else None) or folder
    assert folder is not None
    checker.check_images(folder, names)
    captions: dict[str, list[str]] = {}
    for language, path in zip(languages, paths, strict=True):
        assert path is not None
        captions[language] = [line.strip() for line in _read_lines(path)]
        if len(captions[language]) != len(names):
            checker.add_problem(
                f"has {plural(len(captions[language]), 'caption')} in {path} for the {plural(len(names), 'image')} of "
                f"{names_path}; they belong together line by line: fetch both again"
            )
    checker.raise_if_problems()
    return checker.finish(MultilingualRetrievalData.from_captions([FileImage(n, folder / n) for n in names], captions))


def read_codes(checker: DatasetChecker) -> list[str]:
    """Return the option `languages`; DataProblems if it is empty or names one twice."""
    languages: list[str] = list(checker.options["languages"])
    if not languages or len(set(languages)) < len(languages):
        checker.refuse("needs dataset.languages, a list of different language codes")
    return languages


def _find_files(checker: DatasetChecker, languages: Sequence[str]) -> list[Path | None]:
    """Return the file of each language; where some do not exist, add one problem, and return None in their place.

    Raises:
        RequestError: a file name without `{language}` or with a folder, or a folder that leads out of the data root.
    """
    template: str = checker.options.get("file_name", f"{PLACE}.txt")
    if PLACE not in template or "/" in template or "\\" in template:
        raise RequestError(
            f"{checker.name}: dataset.file_name must be a file's name with {PLACE} for the code of a language, not "
            f"{template}"
        )
    value = checker.options["captions"]
    folders: Sequence[str] = [value] if isinstance(value, str) else value
    candidates = [
        [checker.resolve_path(f"{folder}/{template.replace(PLACE, language)}") for folder in folders]
        for language in languages
    ]
    found = [next((path for path in paths if path.is_file()), None) for paths in candidates]
    missing = [paths for paths, path in zip(candidates, found, strict=True) if path is None]
    if missing:
        # 201 languages would be as many lines
        others = f" and those of {plural(len(missing) - 1, 'other language')}" if len(missing) > 1 else ""
        checker.add_missing(f"the file {' or '.join(map(str, missing[0]))}{others}", *missing[0])
    return found


def _read_lines(path: Path) -> list[str]:
    lines = read_lines(path)
    while lines and not lines[-1].strip():
        lines.pop()
    return lines
