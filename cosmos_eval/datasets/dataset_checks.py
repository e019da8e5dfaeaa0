"""What a reader finds on the disk, and everything that is missing, collected before anything is refused."""

import os
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn, TypeVar

from cosmos_core.errors import RequestError
from cosmos_core.printable import printable
from cosmos_core.text_files import kind_of
from cosmos_eval.datasets.consistency import first, inconsistencies
from cosmos_eval.datasets.data.base import Data

# fmt: off
IMAGE_SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm",
    ".avif", ".jp2", ".j2k", ".jpx", ".mpo",
))
# fmt: on
AnyData = TypeVar("AnyData", bound=Data)


class DataProblems(RequestError):
    """Data that are missing or do not fit together: one line with all of it, and the list."""

    def __init__(self, problems: Sequence[str], expected: dict[str, int], found: dict[str, int]) -> None:
        problems = [printable(problem) for problem in problems]
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)
        self.expected = expected
        self.found = found


class Survey:
    """Collects problems while a reader goes on as far as it can; `stop_if_any` ends with all of them at once."""

    def __init__(self, benchmark: Any, data_root: Path) -> None:
        self.name: str = benchmark.name
        self.options: dict[str, Any] = benchmark.dataset
        self.root = Path(data_root)
        self.expected: dict[str, int] = dict(self.options.get("expected", {}))
        self.found: dict[str, int] = {}
        self.problems: list[str] = []
        self.remarks: list[str] = []
        self.images_in = self.root
        """The folder that a wrong number of images is told with."""
        self._missing_images: list[str] = []
        self._needs: str = self.options.get("needs", "")

    def add(self, problem: str) -> None:
        """Note a problem; the benchmark's name is put before it."""
        self.problems.append(f"{self.name} {problem}")

    def remark(self, text: str) -> None:
        """Note what a result must say of how its data were read; no problem."""
        self.remarks.append(text)

    def refuse(self, problem: str) -> NoReturn:
        """Note a problem that nothing can be read beyond, and stop with all that were found."""
        self.add(problem)
        self.stop_if_any()
        raise AssertionError("unreachable")

    def stop_if_any(self) -> None:
        if self.problems:
            raise DataProblems(self.problems, self.expected, self.found)

    def place(self, option: str, kind: str, holding: str | None = None) -> Path | None:
        """The path that a PLACE option names, `kind` being folder or file; None with a problem noted when absent.

        Of several alternatives the first that has `holding` (the first file or folder needed below it) is taken, since
        a folder of that name may be there for another dataset; where none has it, the first that exists.

        Raises:
            RequestError: a path that leads out of the data root.
        """
        given = self.options[option]
        places = [self.inside(one) for one in ([given] if isinstance(given, str) else given)]
        there = [path for path in places if (path.is_dir() if kind == "folder" else path.is_file())]
        if there:
            if holding is None or escapes(holding):  # a name that leads out is refused by `images`
                return there[0]
            return next((path for path in there if os.path.exists(path / holding)), there[0])  # noqa: PTH110 - any name
        shown = " or ".join(str(path) for path in places)
        self.missing(f"the {kind} {shown}", *places)
        return None

    def there(self, *places: Path | None) -> tuple[Path, ...]:
        """What `place` found; where one of them is absent, stops with all that was noted."""
        found = tuple(path for path in places if path is not None)
        if len(found) < len(places):
            self.stop_if_any()
        return found

    def missing(self, what: str, *places: Path) -> None:
        """Note a file or folder that is not there; `places` are looked at for something else of its name."""
        others = [f"{path} is {kind_of(path) or 'a file'}" for path in places if os.path.lexists(path)]
        if others:
            self.add(f"needs {what}, but {', '.join(others)}{self.hint()}")
        else:
            self.add(f"needs {what}, which is not there{self.hint()}")

    def inside(self, relative: str, base: Path | None = None) -> Path:
        """`relative` under the data root (or under `base`, itself a folder in it).

        Raises:
            RequestError: an absolute path, or one with `..`: only what the data root holds is read.
        """
        check_inside(relative, self.name)
        return (base or self.root) / relative

    def images(self, folder: Path, names: Sequence[str]) -> None:
        """Note which of the files `names` (relative to `folder`) are not there. Lists each folder once."""
        bad = next((name for name in names if escapes(name)), None)
        if bad is not None:
            self.refuse(f"names an image outside its folder: {bad!r}; only files below {folder} are read")
        nameless = sum(not name.strip() for name in names)
        if nameless:
            self.refuse(f"names {nameless:,} images of {folder} with an empty name; write the name of each file")
        missing = [name for name in names if not _listed(folder, name)]
        windows = [name for name in missing if "\\" in name and _listed(folder, name.replace("\\", "/"))]
        _names_in.cache_clear()
        if windows:
            self.refuse(
                f"names {len(windows):,} files of {folder} with Windows' separators: {first(windows)}; write / in "
                "place of \\"
            )
        self.count(images=len(names) - len(missing))
        self._missing_images, self.images_in = missing, folder

    def count(self, **found: int) -> None:
        """Note how many there are; `finish` compares with what is expected."""
        self.found |= found

    def finish(self, data: AnyData) -> AnyData:
        """The data, once counts are as expected and everything in them belongs together.

        Raises:
            DataProblems: otherwise, with all of it.
        """
        data = data.with_options(self.options)
        self._compare_counts(data)
        self.problems.extend(f"{self.name} {problem}" for problem in inconsistencies(data))
        self.stop_if_any()
        remarks = (*data.remarks, *self.remarks, *data.observations())
        return data.replaced(remarks=remarks) if remarks else data

    def _compare_counts(self, data: Data) -> None:
        self.found = {"images": len(data.images) - len(self._missing_images), **data.counts(), **self.found}
        for key, found in self.found.items():
            missing = self._missing_images if key == "images" else []
            expected = self.expected.get(key, found + len(missing))
            if found == expected and not missing:
                continue
            where = f" in {self.images_in}" if key == "images" else ""
            named = f"; missing: {first(missing)}" if missing else ""
            noun = "images" if key == "images" else key.replace("_", " ")
            self.add(f"needs {expected:,} {noun}{where}, found {found:,}{named}{self.hint()}")

    def hint(self) -> str:
        """What to fetch, said once."""
        hint, self._needs = self._needs, ""
        return f" ({hint})" if hint else ""


def escapes(relative: str) -> bool:
    """Whether a relative path leads out of its folder, on any system."""
    path = PurePosixPath(relative.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts or bool(re.match(r"[A-Za-z]:", relative)) or "\0" in relative


def check_inside(relative: str, name: str) -> None:
    if escapes(relative):
        raise RequestError(f"{name} asks for {relative!r}, which leads out of the data root; give a path inside it")


@lru_cache(maxsize=4096)
def _names_in(folder: str) -> frozenset[str]:
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries)
    except OSError:
        return frozenset()


def _listed(folder: Path, name: str) -> bool:
    parent, _, own = name.rpartition("/")
    return own in _names_in(os.path.join(folder, parent))  # noqa: PTH118 - one join for each of 50,000 names
