"""A dataset of the Hugging Face hub, read from its Parquet files on disk.

Nothing is downloaded here, and no code of the dataset runs (loading scripts are not even fetched): `needed_files` says
which files of which commit must be where, `cosmos_eval.datasets.fetch` fetches them when asked, and `read_hf_dataset`
reads them with pyarrow.
"""

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.printable import printable
from cosmos_core.short_repr import short_repr
from cosmos_eval.datasets.data import Data
from cosmos_eval.datasets.dataset_checks import DatasetChecker
from cosmos_eval.datasets.fetch.addresses import is_repository
from cosmos_eval.datasets.parquet.listing import SUFFIX, list_parquet, select_tables
from cosmos_eval.datasets.split_options import options_of_split

FOLDER = "hf"
"""Folder below the data root that holds the files of all datasets of the hub."""
HUB = "https://huggingface.co/datasets"
DEFAULT_SPLIT = "test"
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class NeededFiles:
    """Which files of a dataset repository a definition reads, and where they must be."""

    repository: str
    """`owner/name` on the hub."""
    revision: str
    """A commit: 40 hexadecimal digits."""
    patterns: tuple[str, ...]
    """Patterns of paths in the repository, in which `*` stands for any characters, slashes included. They may fit a few
    files more than are read: how a repository names its splits is only known once its files are listed (`select`)."""
    folder: str
    """Below the data root; files have the same paths below it as in the repository."""
    benchmark: Any = None
    """The definition."""

    def select(self, paths: Sequence[str]) -> list[str]:
        """Return those of the repository's paths that the definition reads.

        Raises:
            DataProblems: the repository has no Parquet files, no such split or configuration, or several of them.
        """
        parquet = sorted(path for path in paths if path.lower().endswith(SUFFIX))
        where = f"{self.repository} at {self.revision[:12]}"
        selected: set[str] = set()
        for options in _options_of_splits(self.benchmark.dataset):
            checker = DatasetChecker(self.benchmark, Path())
            checker.options = {**options, "split": _split(options)} if "files" not in options else options
            if not parquet:
                checker.refuse(f"needs Parquet files, and {where} has none; {_converted_advice(self.repository)}")
            selected |= set(select_tables(parquet, where, checker, one_configuration=True))
        return sorted(selected)

    @property
    def selection(self) -> list[dict[str, Any]]:
        """The options that decide which files are read, for each split."""
        keys = ("split", "config", "files")
        return [
            {key: options[key] for key in keys if key in options}
            for options in _options_of_splits(self.benchmark.dataset)
        ]

    def are_there(self, data_root: Path) -> bool:
        """Whether the files on disk are those that the definition reads, as far as their names tell."""
        folder = data_root / self.folder
        try:
            return bool(self.select(list_parquet(folder) if folder.is_dir() else []))
        except RequestError:
            return False


def needed_files(benchmark: Any) -> NeededFiles:
    """Return which files of the hub a definition with the reader `hf-dataset` needs, and where.

    Raises:
        RequestError: the repository's name is none, or the revision is not a full commit.
    """
    options = benchmark.dataset
    _check_source(benchmark.name, options)
    patterns: list[str] = []
    for split_options in _options_of_splits(options):
        patterns += _patterns_of(split_options)
    repository, revision = options["repository"], options["revision"]
    return NeededFiles(repository, revision, tuple(dict.fromkeys(patterns)), folder_of(repository, revision), benchmark)


def folder_of(repository: str, revision: str) -> str:
    """Return the folder of a dataset below the data root, such as `hf/owner--name/<commit>`."""
    return f"{FOLDER}/{repository.replace('/', '--')}/{revision}"


def read_hf_dataset(benchmark: Any, data_root: Path) -> Data:
    """Read the Parquet files of a dataset of the hub at one commit, from `hf/<owner>--<name>/<commit>`.

    Rows are read as by the reader `parquet`. Images are bytes, or paths of files in the same folder.

    Options:
        repository: `owner/name`.
        revision: the full commit. A branch would change, and so would the numbers.
        split: test, unless `files` is given.
        config: the configuration, where the repository has several: a folder.
        files: patterns of paths in the repository, in place of `split`; `*` stands for any characters.
        image_column, label_column, ...: as for `parquet`.

    Raises:
        DataProblems: files missing (with what to do), and as `read_parquet`.
        RequestError: the repository's name is none, or the revision is not a full commit.
    """
    from cosmos_eval.datasets.parquet.reader import read_tables

    checker = DatasetChecker(benchmark, data_root)
    options = checker.options
    _check_source(benchmark.name, options)
    if "files" not in options:
        checker.options = options = {**options, "split": _split(options)}
    folder = checker.data_root / folder_of(options["repository"], options["revision"])
    names = list_parquet(folder) if folder.is_dir() else []
    if not _may_be_read(names, options):
        # the caller adds the command that fetches them, as for all data that can be fetched
        checker.refuse(
            f"needs Parquet files of {options['repository']} in {folder}, which is not there{checker.take_hint()}"
        )
    return read_tables(benchmark, checker, folder, select_tables(names, folder, checker, one_configuration=True))


def _check_source(name: str, options: dict[str, Any]) -> None:
    """Check the name of the repository, and that the revision is a full commit.

    Raises:
        RequestError: otherwise, with how to find the commit.
    """
    repository, revision = options["repository"], options["revision"]
    if not is_repository(repository):
        raise RequestError(
            f"{name}: dataset.repository must be the owner and name of a dataset on the hub, such as owner/name, not "
            f"{printable(short_repr(repository))}"
        )
    if not _COMMIT.fullmatch(revision):
        raise RequestError(
            f"{name}: dataset.revision must be a full commit of 40 hexadecimal digits, not "
            f"{printable(short_repr(revision))}, so that the data never change; {_commit_advice(repository)}"
        )


def _commit_advice(repository: str) -> str:
    return (
        f"'git ls-remote {HUB}/{repository} HEAD refs/convert/parquet' prints the commit of the main branch and, "
        "where the hub converted the data to Parquet, that of the conversion"
    )


def _converted_advice(repository: str) -> str:
    return (
        "give the commit of refs/convert/parquet as revision, where the hub keeps the data converted to Parquet: "
        f"'git ls-remote {HUB}/{repository} refs/convert/parquet'"
    )


def _options_of_splits(options: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the options of the evaluated split, then those of each further split of a task that learns."""
    return [options, *(options_of_split(options, name) for name in options.get("splits", {}))]


def _patterns_of(options: dict[str, Any]) -> list[str]:
    """Return the patterns of the files of one split in the repository."""
    return list(options.get("files") or [f"*{_escape(_split(options))}*{SUFFIX}"])


def _split(options: dict[str, Any]) -> str:
    return str(options.get("split", DEFAULT_SPLIT))


def _escape(text: str) -> str:
    """Return a text without the characters that have a meaning in patterns."""
    return re.sub(r"([*?[])", r"[\1]", text)


def _may_be_read(names: Sequence[str], options: dict[str, Any]) -> bool:
    """Whether some files on disk fit the patterns that are fetched; others may be of other definitions."""
    return any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in _patterns_of(options))
