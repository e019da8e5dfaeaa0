"""What readers use to check a dataset on disk: all problems are collected, then reported in one error."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn, TypeVar

from cosmos_core.errors import RequestError
from cosmos_core.printable import list_counts, plural, printable
from cosmos_core.text_files import kind_of
from cosmos_eval.datasets.consistency import find_inconsistencies, format_names
from cosmos_eval.datasets.data.base import Data
from cosmos_eval.datasets.reader_registry import reader_info

# fmt: off
IMAGE_SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm",
    ".avif", ".jp2", ".j2k", ".jpx", ".mpo",
))
# fmt: on
"""Lower-case endings of the files that are read as images."""
AnyData = TypeVar("AnyData", bound=Data)


@dataclass(frozen=True)
class DataReport:
    """What `cosmos_eval.datasets.check` found on disk. The benchmark can be run if there are no problems."""

    benchmark: str
    expected: dict[str, int] = field(default_factory=dict)
    """Name of a count -> its value according to the definition."""
    found: dict[str, int] = field(default_factory=dict)
    """Name of a count -> its value on disk."""
    problems: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    """Items that the definition leaves out because images are missing, each with its reason. These are not problems."""
    remarks: tuple[str, ...] = ()
    """What a result of these data will say about how they were read. These are not problems."""


class DataProblems(RequestError):
    """Data that are missing or inconsistent. The text is one line with all problems; `problems` is the list of them."""

    def __init__(self, problems: Sequence[str], expected: dict[str, int], found: dict[str, int]) -> None:
        problems = [printable(problem) for problem in problems]
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)
        self.expected = expected
        self.found = found


class DatasetChecker:
    """Collects the problems of a dataset while a reader reads it.

    A reader continues as far as it can, so that a user sees all missing files at once. `raise_if_problems` and `finish`
    raise a `DataProblems` with everything that was collected. Every problem is the end of a sentence that begins with
    the benchmark's name: "needs ...", "has ...", "cannot read ...".
    """

    def __init__(self, benchmark: Any, data_root: Path) -> None:
        self.name: str = benchmark.name
        self.options: dict[str, Any] = benchmark.dataset
        """The definition's `dataset`: the reader's options, `expected` and `needs`."""
        self.data_root = Path(data_root)
        self.expected: dict[str, int] = dict(self.options.get("expected", {}))
        self.found: dict[str, int] = {}
        self.problems: list[str] = []
        self.remarks: list[str] = []
        self.image_folder = self.data_root
        """The folder that a message about a wrong number of images names."""
        self._missing_images: list[str] = []
        self._needs: str = self.options.get("needs", "")

    def add_problem(self, problem: str) -> None:
        """Add a problem; the benchmark's name is put before it."""
        self.problems.append(f"{self.name} {problem}")

    def add_remark(self, text: str) -> None:
        """Add a remark on how the data were read, which results will show. It is not a problem."""
        self.remarks.append(text)

    def refuse(self, problem: str) -> NoReturn:
        """Add a problem after which reading cannot continue, and raise all problems.

        Raises:
            DataProblems: always.
        """
        self.add_problem(problem)
        self.raise_if_problems()
        raise AssertionError("unreachable")

    def raise_if_problems(self) -> None:
        """Raise a `DataProblems` if there are problems."""
        if self.problems:
            raise DataProblems(self.problems, self.expected, self.found)

    def find_path(self, option: str, kind: str, containing: str | None = None) -> Path | None:
        """Return the path that a PATH option names; if it does not exist, add a problem and return None.

        An option may list alternatives, of which one is chosen that exists. A folder of the right name may belong to
        another dataset, so the first alternative that contains `containing` is preferred to the first that exists.

        Args:
            kind: `folder` or `file`.
            containing: path, relative to the folder, of the first file or folder that is needed in it.

        Raises:
            RequestError: the path leads out of the data root.
        """
        option_value = self.options[option]
        alternatives = [option_value] if isinstance(option_value, str) else option_value
        addresses = [path for path in alternatives if "://" in path]
        paths = [self.resolve_path(path) for path in alternatives if path not in addresses]
        if addresses and reader_info(self.options["reader"]).stream is None:
            self.refuse(
                f"has the address {addresses[0]}, which the reader {self.options['reader']} does not read; give a path "
                "inside the data root"
            )
        if addresses and not paths:
            self.add_problem(f"has no data on disk: `cosmos-eval run` streams it from {addresses[0]}")
            return None
        existing = [path for path in paths if (path.is_dir() if kind == "folder" else path.is_file())]
        if existing:
            if containing is None or is_outside_folder(containing):  # `check_images` refuses such names later
                return existing[0]
            return next((path for path in existing if os.path.exists(path / containing)), existing[0])  # noqa: PTH110 - any name
        shown = " or ".join(str(path) for path in paths)
        self.add_missing(f"the {kind} {shown}", *paths)
        return None

    def require(self, *paths: Path | None) -> tuple[Path, ...]:
        """Return the paths that `find_path` found; raise the problems it added if one of them is None.

        Raises:
            DataProblems: with all problems up to now.
        """
        existing = tuple(path for path in paths if path is not None)
        if len(existing) < len(paths):
            self.raise_if_problems()
        return existing

    def add_missing(self, description: str, *paths: Path) -> None:
        """Add a problem for a file or folder that is missing, or is something else, such as a file for a folder.

        Args:
            description: what is needed, such as `the folder /data/coco`.
            paths: where it may be.
        """
        others = [f"{path} is {kind_of(path) or 'a file'}" for path in paths if os.path.lexists(path)]
        if others:
            self.add_problem(f"needs {description}, but {', '.join(others)}{self.take_hint()}")
        else:
            self.add_problem(f"needs {description}, which is not there{self.take_hint()}")

    def resolve_path(self, relative: str) -> Path:
        """Return a path under the data root.

        Raises:
            RequestError: `relative` is absolute or contains `..`: nothing outside the data root is read.
        """
        require_inside_data_root(relative, self.name)
        return self.data_root / relative

    def check_images(self, folder: Path, names: Sequence[str]) -> None:
        """Check that image files exist; missing ones become a problem in `finish`.

        Args:
            names: paths relative to `folder`.

        Raises:
            DataProblems: a name that leads out of the folder, is empty, or has backslashes in place of slashes.
        """
        outside = next((name for name in names if is_outside_folder(name)), None)
        if outside is not None:
            self.refuse(f"names an image outside its folder: {outside!r}; only files below {folder} are read")
        empty_names = sum(not name.strip() for name in names)
        if empty_names:
            self.refuse(
                f"names {plural(empty_names, 'image')} of {folder} with an empty name; write the name of each file"
            )
        missing_images = [name for name in names if not _is_listed(folder, name)]
        backslash_names = [
            name for name in missing_images if "\\" in name and _is_listed(folder, name.replace("\\", "/"))
        ]
        _list_names.cache_clear()  # files may be added before the next check in the same process
        if backslash_names:
            self.refuse(
                f"names {plural(len(backslash_names), 'file')} of {folder} with Windows' separators: "
                f"{format_names(backslash_names)}; "
                "write / in place of \\"
            )
        self.record_counts(images=len(names) - len(missing_images))
        self._missing_images, self.image_folder = missing_images, folder

    def record_counts(self, **counts: int) -> None:
        """Record counts, which `finish` compares with the definition's `expected`."""
        self.found |= counts

    def finish(self, data: AnyData) -> AnyData:
        """Return the data with all remarks, if counts are as expected and the data are consistent.

        Raises:
            DataProblems: otherwise, with all problems.
        """
        data = data.with_options(self.options)
        self._compare_counts(data)
        self.problems.extend(f"{self.name} {problem}" for problem in find_inconsistencies(data))
        self.raise_if_problems()
        remarks = (*data.remarks, *self.remarks, *data.observations())
        return data.replaced(remarks=remarks) if remarks else data

    def _compare_counts(self, data: Data) -> None:
        # Counts of the data come first, so that those that a reader recorded replace them.
        self.found = {"images": len(data.images) - len(self._missing_images), **data.counts(), **self.found}
        for key, found in self.found.items():
            missing = self._missing_images if key == "images" else []
            expected = self.expected.get(key, found + len(missing))
            if found == expected and not missing:
                continue
            where = f" in {self.image_folder}" if key == "images" else ""
            named = f"; missing: {format_names(missing)}" if missing else ""
            self.add_problem(f"needs {list_counts({key: expected})}{where}, found {found:,}{named}{self.take_hint()}")

    def take_hint(self) -> str:
        """Return the definition's `needs` (what to download) in brackets; empty after the first call."""
        hint, self._needs = self._needs, ""
        return f" ({hint})" if hint else ""


def is_outside_folder(relative: str) -> bool:
    """Whether a relative path leads out of its folder, on any operating system."""
    path = PurePosixPath(relative.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts or bool(re.match(r"[A-Za-z]:", relative)) or "\0" in relative


def require_inside_data_root(relative: str, name: str) -> None:
    """Raise a RequestError if a path of the benchmark `name` leads out of the data root."""
    if is_outside_folder(relative):
        raise RequestError(f"{name} asks for {relative!r}, which leads out of the data root; give a path inside it")


@lru_cache(maxsize=4096)
def _list_names(folder: str) -> frozenset[str]:
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries)
    except OSError:
        return frozenset()


def _is_listed(folder: Path, name: str) -> bool:
    """Whether the file is in the listing of its folder: one listing is faster than 50,000 calls of `is_file`."""
    parent, _, file_name = name.rpartition("/")
    return file_name in _list_names(os.path.join(folder, parent))  # noqa: PTH118 - one join for each of 50,000 names
