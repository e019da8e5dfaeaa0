"""Checks of `dataset` in a definition: its reader, the reader's options, and its splits."""

from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.plugins import off_note
from cosmos_core.short_repr import short_repr
from cosmos_core.suggestions import close, near
from cosmos_eval.datasets.colours import parse_colour
from cosmos_eval.datasets.reader import (
    ALLOW,
    APPLY,
    COLOUR_MAP,
    COLOURS,
    NAMES,
    NAMES_OR_FILE,
    NUMBER,
    PATH,
    SWITCH,
    TEXT,
    ReaderInfo,
)
from cosmos_eval.datasets.reader_options import KIND_OPTIONS
from cosmos_eval.datasets.reader_registry import READERS, reader_info
from cosmos_eval.datasets.split_options import options_of_split
from cosmos_eval.protocol.source import Keys, Source
from cosmos_eval.protocol.task_info import TaskInfo
from cosmos_eval.protocol.value_checks import check_keys, check_type

EVALUATED = "test"
"""Name that the evaluated split may have among `dataset.splits`."""
_NAMED_BY = {
    "candidates_without_images": "candidate classes",
    "distractors": "images and texts that are candidates only",
}
"""Option of some kinds of data -> what other kinds do not have."""


def with_test_split(source: Source, dataset: dict[str, Any], task: TaskInfo) -> dict[str, Any]:
    """Return `dataset` with the options of `splits.test` in the place of its own: those are of the evaluated split."""
    splits = dataset.get("splits")
    if not task.splits or not isinstance(splits, dict) or EVALUATED not in splits:
        return dataset
    _check_split_options(source, EVALUATED, splits[EVALUATED])
    others = {name: options for name, options in splits.items() if name != EVALUATED}
    return {**dataset, **splits[EVALUATED], "splits": others}


def refuse_misplaced_split(source: Source, definition: dict[str, Any], task: TaskInfo) -> None:
    """Raise RequestError if a split of the task stands beside `dataset` instead of below `dataset.splits`."""
    for key in definition:
        if key in _splits_of(task):
            raise source.refuse((key,), _where_splits_belong(task, key))


def _splits_of(task: TaskInfo) -> tuple[str, ...]:
    """Names of the splits that a definition can give options of; none for a task of one split."""
    return (*task.splits, *task.optional_splits, EVALUATED) if task.splits else ()


def _where_splits_belong(task: TaskInfo, name: str) -> str:
    needed = ", ".join(f"{split}: {{path: ...}}" for split in (*task.splits, EVALUATED))
    return f"the split {name} belongs below splits: write dataset: {{reader: ..., splits: {{{needed}}}}}"


def _check_split_options(source: Source, name: str, options: Any) -> None:
    if not isinstance(options, dict):
        raise source.refuse(
            ("dataset", "splits", name),
            f"the split {name} must be a map of options, such as {{path: {name}}}, not {short_repr(options)}",
        )


def check_dataset(source: Source, definition: dict[str, Any], task: TaskInfo) -> None:
    """Check `dataset`: its reader, the reader's options, and splits, which repeat those options."""
    dataset = definition["dataset"]
    if "reader" not in dataset:
        raise source.refuse(("dataset",), "the key 'reader' is missing in dataset")
    check_type(source, ("dataset", "reader"), dataset["reader"], str)
    info = _reader_of(source, ("dataset", "reader"), dataset["reader"])
    misplaced = [key for key in dataset if key in _splits_of(task) and info.kind(key) is None]
    if misplaced:
        raise source.refuse(("dataset", misplaced[0]), _where_splits_belong(task, misplaced[0]))
    missing = [key for key in info.required if key not in dataset]
    if missing and task.splits and "splits" in dataset:
        raise source.refuse(
            ("dataset", "splits"),
            f"{task.name} is evaluated on the split {EVALUATED}, which has no {missing[0]}: write "
            f"dataset.splits.{EVALUATED} with its options",
        )
    check_keys(
        source,
        ("dataset",),
        dataset,
        required={"reader": str, **info.required},
        optional={**info.optional, "expected": dict, "needs": str, **({"splits": dict} if task.splits else {})},
    )
    readers = _check_splits(source, dataset, info, task)
    _check_kind(source, ("task",), dataset["reader"], info, task)
    _check_options(source, ("dataset",), dataset, dataset, info, task)
    for name, reader in readers.items():
        at = ("dataset", "splits", name)
        _check_options(source, at, dataset["splits"][name], options_of_split(dataset, name), reader, task)


def _check_options(
    source: Source, at: Keys, options: dict[str, Any], merged: dict[str, Any], info: ReaderInfo, task: TaskInfo
) -> None:
    """Check the values of a reader's options.

    Args:
        at: keys that lead to the options.
        options: of `dataset` or of one split.
        merged: for a split, the options of `dataset` overridden by its own; else the same as `options`.
        info: the reader.
        task: the task, which may know further options.
    """
    for option, value in options.items():
        kind = info.kind(option)
        if kind is not None:
            _check_option(source, (*at, option), value, kind)
    for option in KIND_OPTIONS:
        if option in options and option not in task.kind.options:
            raise source.refuse((*at, option), f"{task.name} has no {_NAMED_BY[option]}; leave {option} out")
    for option, needed_option in info.only_with.items():
        if option in options and needed_option not in merged:
            raise source.refuse(
                (*at, option), f"{option} does nothing without {needed_option}; add {needed_option}, or remove {option}"
            )
    for key, count in options.get("expected", {}).items():
        count_at: Keys = (*at, "expected", key)
        if key not in task.kind.count_names:
            known = ", ".join(task.kind.count_names)
            raise source.refuse(
                count_at, f"unknown key {short_repr(key)} in expected; for {task.name} it counts {known}"
            )
        check_type(source, count_at, count, int)
        if count < 1:
            raise source.refuse(count_at, f"expected {key} must be at least 1; leave it out if it is not known")


def _reader_of(source: Source, at: Keys, name: str) -> ReaderInfo:
    """Return the reader that the value at `at` names.

    Raises:
        RequestError: there is no such reader, or it is a plug-in's that cannot be used.
    """
    if name not in READERS.names():
        known = f"{close(name, READERS.names())}; known: {', '.join(READERS.names())}{off_note()}"
        raise source.refuse(at, f"unknown reader {short_repr(name)}{known}")
    try:
        return reader_info(name)
    except RequestError as error:
        raise source.refuse(at, str(error)) from error


def _check_kind(source: Source, at: Keys, name: str, info: ReaderInfo, task: TaskInfo) -> None:
    """Check that a reader gives the data that a task takes."""
    if task.kind.name not in info.kinds:
        raise source.refuse(at, f"the reader {name} gives data for {', '.join(info.kinds)}, not for {task.name}")


def _check_splits(source: Source, dataset: dict[str, Any], info: ReaderInfo, task: TaskInfo) -> dict[str, ReaderInfo]:
    """Check `dataset.splits`: a map for each split that the task needs, of options that override those of `dataset`.

    Returns:
        The reader of each split: the one of `dataset`, or its own, which inherits no options.
    """
    at: Keys
    splits = dataset.get("splits", {})
    for name in task.splits:
        if name not in splits:
            at = ("dataset", "splits") if splits else ("dataset",)
            raise source.refuse(at, f"{task.name} needs the split {name}: write dataset.splits.{name} with its options")
    readers = {}
    for name, options in splits.items():
        at = ("dataset", "splits", name)
        if name not in (*task.splits, *task.optional_splits):
            known = (*task.splits, *task.optional_splits)
            raise source.refuse(at, f"{task.name} has no split {short_repr(name)}{near(str(name), known)}")
        _check_split_options(source, name, options)
        readers[name] = info
        if "reader" in options:
            check_type(source, (*at, "reader"), options["reader"], str)
            readers[name] = _reader_of(source, (*at, "reader"), options["reader"])
            _check_kind(source, (*at, "reader"), options["reader"], readers[name], task)
        own_reader = options.get("reader", dataset["reader"]) != dataset["reader"]
        required = dict(readers[name].required)
        check_keys(
            source,
            at,
            options,
            required=required if own_reader else {},
            optional={**required, **readers[name].optional, "reader": str, "expected": dict, "needs": str},
        )
    return readers


def _check_option(source: Source, at: Keys, value: Any, kind: str) -> None:
    """Check the value of one reader option against its kind (`cosmos_eval.datasets.reader`)."""
    if kind == PATH:
        if not isinstance(value, list):
            check_type(source, at, value, str)
        for i, path in enumerate(value if isinstance(value, list) else []):
            check_type(source, (*at, i), path, str)
        if not value:
            raise source.refuse(at, f"{at[-1]} must be {PATH}")
    elif kind in (APPLY, ALLOW):
        if value != kind:
            raise source.refuse(at, f"{at[-1]} must be {kind}, not {value!r}; leave the key out to turn it off")
    elif kind in (COLOURS, COLOUR_MAP):
        _check_colours(source, at, value, kind)
    elif kind == NAMES_OR_FILE and isinstance(value, str):
        if not value.endswith((".txt", ".json")):
            raise source.refuse(at, f"{at[-1]} must be {kind}, not {short_repr(value)}")
    elif kind in (NAMES, NAMES_OR_FILE):
        check_type(source, at, value, list)
        for i, name in enumerate(value):
            check_type(source, (*at, i), name, str)
    else:
        check_type(source, at, value, {TEXT: str, NUMBER: int, SWITCH: bool}[kind])
        if kind == NUMBER and value < 0:
            raise source.refuse(at, f"{at[-1]} must be {NUMBER} of at least 0, not {value}")


def _check_colours(source: Source, at: Keys, value: Any, kind: str) -> None:
    """Check a list of colours, or a map from colour to text."""
    check_type(source, at, value, list if kind == COLOURS else dict)
    if not value:
        raise source.refuse(at, f"{at[-1]} is empty")
    for i, colour in enumerate(value):
        colour_at: Keys = (*at, i if kind == COLOURS else colour)
        try:
            parse_colour(colour)
        except ValueError as error:
            raise source.refuse(colour_at, f"{at[-1]}: {error}") from error
        if kind == COLOUR_MAP and not isinstance(value[colour], str):
            raise source.refuse(
                colour_at, f"{at[-1]} has {short_repr(value[colour])} for {colour}; write the name of a class"
            )
