"""Which Parquet files of a folder, or of a repository, are the data: by patterns, or by the name of a split."""

import fnmatch
import os
import re
from collections.abc import Sequence
from pathlib import Path

from cosmos_core.printable import plural
from cosmos_eval.datasets.consistency import MAX_NAMES, format_names
from cosmos_eval.datasets.dataset_checks import DatasetChecker, is_outside_folder
from cosmos_eval.datasets.image_folder import is_side_folder

SUFFIX = ".parquet"
SPLIT_WORDS = frozenset(
    ("train", "training", "test", "testing", "validation", "valid", "val", "dev", "eval", "evaluation")
)
_SEPARATORS = r"[-._ /0-9]"
_SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})(\D.*)?")
PARTIAL = "partial-"
"""The hub begins folders so in which it converted only the first gigabytes of a split."""


def list_parquet(folder: Path) -> list[str]:
    """Return the Parquet files below a folder, sorted, relative to it and with slashes; hidden ones are left out."""
    names = []
    for current, inner_folders, files in os.walk(folder):
        inner_folders[:] = [name for name in inner_folders if not is_side_folder(name)]
        relative = Path(current).relative_to(folder).as_posix()
        prefix = "" if relative == "." else f"{relative}/"
        names += [prefix + name for name in files if name.lower().endswith(SUFFIX) and not name.startswith(".")]
    return sorted(names)


def select_tables(
    names: Sequence[str], where: object, checker: DatasetChecker, one_configuration: bool = False
) -> list[str]:
    """Return those of the files that the options `files`, `split` and `config` of a definition select, sorted by name.

    Args:
        names: all Parquet files, sorted.
        where: the folder or repository, for messages.
        one_configuration: refuse files of several configurations, which the hub keeps in a folder each.

    Raises:
        DataProblems: nothing is selected, a pattern selects nothing, several splits or configurations, a split of
            which shards are missing or which the hub converted in part only.
    """
    patterns, split, config = (checker.options.get(option) for option in ("files", "split", "config"))
    if not names:
        checker.refuse(f"has no Parquet files in {where}{checker.take_hint()}")
    selected = list(names)
    if config is not None:
        selected = [name for name in selected if config in name.split("/")[:-1]]
        if not selected:
            folders = sorted({folder for name in names for folder in name.split("/")[:-1]})
            known = f"; folders are {format_names(folders)}" if folders else "; leave config out"
            checker.refuse(f"has no Parquet files of the configuration {config!r} in {where}{known}")
    if patterns is not None:
        return _select_by_patterns(selected, patterns, where, checker)
    if split is not None:
        of_split = [name for name in selected if is_of_split(name, split)]
        if not of_split:
            checker.refuse(
                f"has no Parquet files of the split {split!r} in {where}, only {format_names(selected)}; give another "
                "split, or files, a list of patterns"
            )
        selected = of_split
    else:
        words = sorted(set().union(*(_split_words(name) for name in selected)))
        if len(words) > 1:
            checker.refuse(f"has files of several splits in {where}: {format_names(words)}; give dataset.split")
    if one_configuration:
        configurations = sorted({_configuration(name, split) for name in selected})
        if len(configurations) > 1:
            checker.refuse(
                f"has files of several configurations in {where}: {format_names(configurations)}; give dataset.config"
            )
    _refuse_incomplete(selected, where, checker)
    return selected


def is_of_split(name: str, split: str) -> bool:
    """Whether a file is of a split, whose name is then a word of its path: `data/test-00000-of-00001.parquet`."""
    stem = name[: -len(SUFFIX)] if name.lower().endswith(SUFFIX) else name
    return re.search(rf"(?:^|{_SEPARATORS}){re.escape(split)}(?:{_SEPARATORS}|$)", stem) is not None


def _split_words(name: str) -> set[str]:
    return set(SPLIT_WORDS) & set(re.split(r"[^a-z]+", name.lower()))


def _configuration(name: str, split: str | None) -> str:
    """Return the folder of a file, without the folder of its split."""
    folders = [folder for folder in name.split("/")[:-1] if split is None or not is_of_split(folder, split)]
    return "/".join(folders) or "."


def _select_by_patterns(
    names: Sequence[str], patterns: Sequence[str], where: object, checker: DatasetChecker
) -> list[str]:
    """Return the files that fit a pattern, in which `*` stands for any characters, slashes included."""
    for pattern in patterns:
        if is_outside_folder(pattern):
            checker.refuse(f"names files outside of {where}: {pattern!r}; write patterns of paths below it")
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
            checker.refuse(f"has no Parquet file {pattern} in {where}, only {format_names(names)}; see dataset.files")
    if not patterns:
        checker.refuse("has an empty list in dataset.files; write patterns, or leave it out")
    return [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]


def _refuse_incomplete(names: Sequence[str], where: object, checker: DatasetChecker) -> None:
    partial = [name for name in names if any(folder.startswith(PARTIAL) for folder in name.split("/"))]
    if partial:
        checker.refuse(
            f"would read only the first part of the data: the hub did not convert the rest ({format_names(partial)} in "
            f"{where}); name the files in dataset.files to measure on this part"
        )
    present: dict[tuple[str, str, str], set[int]] = {}
    for name in names:
        if match := _SHARD.fullmatch(name[: -len(SUFFIX)]):
            present.setdefault((match[1], match[3], match[4] or ""), set()).add(int(match[2]))
    for (start, total, end), numbers in present.items():
        missing = [number for number in range(min(int(total), 100_000)) if number not in numbers]
        if missing:
            shown = [f"{start}-{number:05d}-of-{total}{end}{SUFFIX}" for number in missing[: MAX_NAMES + 1]]
            checker.refuse(
                f"needs {plural(int(total), 'file')} {start}-*-of-{total}{end}{SUFFIX} in {where}, found "
                f"{len(numbers):,}; missing: {format_names(shown)}{checker.take_hint()}"
            )
