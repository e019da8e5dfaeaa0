"""A user's own suite: a YAML file, with definitions beside it."""

from pathlib import Path
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
    if not path.is_file():
        raise RequestError(f"there is no suite {path}; give an existing YAML file, or a name")
    return path


def is_suite_file(path: Path) -> bool:
    """Whether a YAML file has the keys of a suite, and not those of a benchmark."""
    return path.suffix in ENDINGS and path.is_file() and is_suite(read_source(path).value)


def is_suite(value: Any) -> bool:
    """Whether the content of a YAML file has the keys of a suite, and not those of a benchmark."""
    return isinstance(value, dict) and "benchmarks" in value and not value.keys() & BENCHMARK_KEYS


def find_member(source: Source, index: int) -> str | Path:
    """Return what entry `index` of `benchmarks` names: a file beside the suite, or else a shipped benchmark.

    An entry is a name (`pets`, whose file is `pets.yaml`) or a path below the suite's folder (`sets/pets.yaml`).

    Raises:
        RequestError: a path that leads out of the suite's folder, or to no file.
    """
    from cosmos_eval.datasets.dataset_checks import is_outside_folder  # imports numpy

    entry = source.value["benchmarks"][index]
    at = ("benchmarks", index)
    if is_outside_folder(entry):
        raise source.refuse(at, f"{entry!r} leads out of the suite's folder; put the definition beside the suite")
    folder = source.path.parent
    if entry.endswith(ENDINGS):
        if not is_file(folder / entry):
            raise source.refuse(at, f"there is no definition {folder / entry}")
        return folder / entry
    beside = folder / f"{entry}.yaml"
    return beside if is_file(beside) and not is_suite_file(beside) else entry
