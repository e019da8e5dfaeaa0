"""The lines of a user's jsonl file: one object each, with the keys that its kind of data needs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from cosmos_core.json_text import LARGEST_JSON, JsonError, load_json
from cosmos_core.text_files import read_lines
from cosmos_eval.datasets.dataset_checks import DatasetChecker, is_outside_folder
from cosmos_eval.datasets.image_sources import FileImage

KEYS: dict[str, tuple[tuple[str, ...], ...]] = {
    "retrieval": (("image", "file_name", "images"), ("captions", "caption", "text")),
    "classification": (("image", "file_name"), ("label",)),
    "multilabel": (("image", "file_name"), ("labels",)),
    "perception": (("image", "file_name"), ("positive",), ("negative",)),
    "multiple-choice": (("image", "file_name", "images"), ("captions", "caption", "text"), ("answer", "answers")),
    "multilingual-retrieval": (("image", "file_name"), ("captions",)),
}
"""Kind of data -> what every line must have: the key, then its names in a metadata.jsonl of `datasets`' imagefolder."""


class Records:
    """Iterates over the lines of a file that are not blank: line number and record, in which every key is checked."""

    def __init__(self, path: Path, folder: Path, data_kind: str, checker: DatasetChecker) -> None:
        self.path, self.folder, self.checker = path, folder, checker
        self.required = KEYS[data_kind]
        self.name_in_file: dict[str, str] = {}
        """Key -> what the current line calls it, for messages."""
        self.first_lines: dict[str, int] = {}
        """Image -> number of the first line with it; in the order of the file."""

    def refuse(self, line: int, message: str) -> NoReturn:
        """Raise all problems, with that of this line."""
        self.checker.refuse(f"cannot use {self.path}:{line}: {message}")

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, line in enumerate(read_lines(self.path, LARGEST_JSON), start=1):
            if not line.strip():
                continue
            record = self._parse(number, line)
            record |= {names[0]: record[self._find_name(number, record, names)] for names in self.required}
            for image in self._images_of(number, record):
                if is_outside_folder(image):
                    self.refuse(number, f"the image {image!r} leads out of the data root")
                self.first_lines.setdefault(image, number)
            yield number, record

    def _images_of(self, line: int, record: dict[str, Any]) -> list[str]:
        """Return the images of a line, which are several only where the kind of data knows the key `images`."""
        if "images" in self.required[0] and isinstance(record["image"], list):
            if not record["image"] and "distractors" in self.checker.options:
                return []
            return self.texts(line, record, "image")
        return [self.text(line, record, "image")]

    def _parse(self, number: int, line: str) -> dict[str, Any]:
        try:
            record = load_json(line)
        except JsonError as error:
            reason = str(error).removeprefix("line 1 ")  # a line by itself: its number in the file is already given
            self.refuse(number, f"not JSON: {reason}{self._advice(line)}")
        if not isinstance(record, dict):
            self.refuse(number, f'a line is one object, such as {{"image": "a.jpg", ...}}{self._advice(line)}')
        return record

    def _advice(self, line: str) -> str:
        """Return how to convert a file that is a table or a JSON list, by its name or its line; empty for others."""
        if self.path.suffix.lower() in (".csv", ".tsv"):
            return '; a table is not read here: write a line {"image": "a.jpg", ...} for each of its rows'
        return "; write the objects of the list, each on a line of its own" if line.lstrip().startswith("[") else ""

    def _find_name(self, line: int, record: dict[str, Any], names: tuple[str, ...]) -> str:
        """Return the first of a key's names that has a value in the record; one with null if none has."""
        present = [name for name in names if name in record]
        if not present:
            keys = ", ".join(map(repr, list(record)[:8])) or "none"
            self.refuse(line, f"the key {names[0]!r} is missing; there is {keys}")
        name = next((name for name in present if record[name] is not None), present[0])
        self.name_in_file[names[0]] = name
        return name

    def text(self, line: int, record: dict[str, Any], key: str) -> str:
        """Return the value of a key, which must be a text that is not blank."""
        value = record[key]
        if not isinstance(value, str) or not value.strip():
            self.refuse(line, f"{self.name_in_file.get(key, key)!r} must be a text, not {short_json(value)}")
        return value

    def texts(self, line: int, record: dict[str, Any], key: str) -> list[str]:
        """Return the value of a key, which must be a text or a list of at least one, none of them blank."""
        value = record[key]
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not texts or not all(isinstance(t, str) and t.strip() for t in texts):
            name = self.name_in_file.get(key, key)
            self.refuse(line, f"{name!r} must be a text or a list with at least one text, found {short_json(value)}")
        return texts

    def images(self) -> list[FileImage]:
        """Return the images of all lines, once each; call it after the iteration."""
        names = list(self.first_lines)
        if not names:
            self.checker.refuse(f"has no line in {self.path}")
        folder = self.folder
        if "images" in self.checker.options:  # of several folders, the one that has the first image
            folder = self.checker.find_path("images", "folder", containing=names[0]) or folder
        self.checker.check_images(folder, names)
        return [FileImage(name, folder / name) for name in names]


def short_json(value: Any) -> str:
    """Return a value as JSON, of at most 43 characters."""
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 40 else f"{text[:40]}..."
