"""A user's own suite: a YAML file, with definitions beside it."""

from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.file_checks import is_file, user_path
from cosmos_eval.protocol.source import Source, read_source

ENDINGS = (".yaml", ".yml")
BENCHMARK_KEYS = frozenset(("task", "dataset", "base"))
"""Keys that definitions of benchmarks have, and suites have not."""


def find_own_suite(name_or_path: str | Path) -> Path | None:
    """Return the file of a suite that is given by its path; None for a name.

    Raises:
        RequestError: a path of no file.
    """
    path = user_path(name_or_path)
    if path.suffix not in ENDINGS:
        return None
    if not is_file(path):
        raise RequestError(f"there is no suite {path}; give an existing YAML file, or a name")
    return path


def is_suite_file(path: Path) -> bool:
    """Whether a YAML file has the keys of a suite, and not those of a benchmark."""
    return path.suffix in ENDINGS and is_file(path) and is_suite(read_source(path).value)


def is_suite(value: Any) -> bool:
    """Whether the content of a YAML file has the keys of a suite, and not those of a benchmark."""
    return isinstance(value, dict) and "benchmarks" in value and not value.keys() & BENCHMARK_KEYS


def find_member(source: Source, index: int) -> str | Path:
    """Return what entry `index` of `benchmarks` names: a file beside the suite, or else a shipped benchmark.

    An entry is a name (`pets`, whose file is `pets.yaml`) or a path from the suite's folder (`sets/pets.yaml`,
    `../shared/pets.yaml`).

    Raises:
        RequestError: an absolute path, which other machines do not have, or a path to no file.
    """
    entry = source.value["benchmarks"][index]
    at = ("benchmarks", index)
    folder = source.path.parent
    if PurePosixPath(entry).is_absolute() or PureWindowsPath(entry).drive or "\0" in entry:
        raise source.refuse(at, f"{entry!r:.400} is not a path from the suite's folder; write it relative to {folder}")
    if entry.endswith(ENDINGS):
        if not is_file(folder / entry):
            raise source.refuse(at, f"there is no definition {folder / entry!s:.400}")
        return folder / entry
    beside = folder / f"{entry}.yaml"
    if is_file(beside) and not is_suite_file(beside):
        return beside
    if ".." in PurePosixPath(entry).parts:
        raise source.refuse(at, f"there is no definition {beside!s:.400}")
    return entry
