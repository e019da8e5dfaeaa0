"""Checks of a benchmark definition or suite: known keys, right types, values that exist. Errors name file and line."""

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
from cosmos_eval.protocol.feature_transforms import FeatureTransforms
from cosmos_eval.protocol.known_differences import read_differences, read_papers
from cosmos_eval.protocol.source import Keys, Source
from cosmos_eval.protocol.task_info import TaskInfo
from cosmos_eval.protocol.task_registry import TASKS, task_info

REQUIRED_KEYS = {"name": str, "version": int, "task": str, "dataset": dict, "metrics": dict}
"""Required keys of a definition -> type."""
OPTIONAL_KEYS = {"prompts": dict, "embeddings": dict, "source": str, "summary": str, "published": list, "fetch": list}
"""Optional keys of a definition -> type; a task may add one of its own."""
LONGEST_NAME = 200
"""Bytes. The name is part of file names with endings, and file systems allow 255 bytes."""
EVALUATED = "test"
"""Name that the evaluated split may have among `dataset.splits`."""
_NAMED_BY = {
    "candidates_without_images": "candidate classes",
    "distractors": "images and texts that are candidates only",
}
"""Option of some kinds of data -> what other kinds do not have."""
_TYPE_NAMES = {
    str: "a text",
    int: "a whole number",
    dict: "a map",
    list: "a list",
    float: "a number",
    bool: "true or false",
}


def check_definition(source: Source) -> dict[str, Any]:
    """Check a definition.

    Args:
        source: the definition as read, merged with its base.

    Returns:
        Arguments of `Benchmark`, with default values of metrics and settings filled in.

    Raises:
        RequestError: the first problem, with its line and a similar known word.
    """
    definition = source.value
    if not isinstance(definition, dict):
        raise source.refuse((), "a definition is a map with the keys " + ", ".join(REQUIRED_KEYS))
    info = _task_of(source, definition)
    task_keys = {info.settings_key: dict} if info is not None and info.settings_key else {}
    unknown = [key for key in definition if key not in {**REQUIRED_KEYS, **OPTIONAL_KEYS, **task_keys}]
    # Only for unknown keys, as _settings_keys imports all built-in tasks.
    of_other_tasks = [key for key in unknown if isinstance(key, str) and key in _settings_keys()]
    if info is not None and of_other_tasks:
        raise source.refuse((of_other_tasks[0],), f"{info.name} takes no settings of {of_other_tasks[0]}")
    _check_keys(source, (), definition, required=REQUIRED_KEYS, optional={**OPTIONAL_KEYS, **task_keys})
    check_name(source, definition["name"])
    if definition["version"] < 1:
        raise source.refuse(("version",), "version must be at least 1")
    if info is None:
        advice = close(definition["task"], TASKS.names()) or "; see `cosmos-eval list tasks`"
        raise source.refuse(("task",), f"unknown task {short_repr(definition['task'])}{advice}{off_note()}")
    definition = {**definition, "dataset": _with_test_split(source, definition["dataset"], info)}
    _check_dataset(source, definition, info)
    metrics = read_metrics(source, definition, info)
    _check_prompts(source, definition, info)
    _check_transforms(source, definition, info)
    if "published" in definition:
        definition = {**definition, "published": read_differences(source)}
    if "fetch" in definition:
        from cosmos_eval.datasets.fetch.own_sources import read_own_sources  # most definitions have none

        parts = read_own_sources(definition["fetch"], lambda at, message: source.refuse(("fetch", *at), message))
        definition = {**definition, "fetch": parts}
    settings = info.settings(source)
    fields = {key: value for key, value in definition.items() if key != info.settings_key}
    return {**fields, "metrics": metrics, **({"settings": settings} if settings else {})}


def _check_transforms(source: Source, definition: dict[str, Any], info: TaskInfo) -> None:
    try:
        transforms = FeatureTransforms.from_record(definition.get("embeddings", {}))
        transforms.require_defined_for(definition["name"], info.name, info.transforms)
    except RequestError as error:
        raise source.refuse(("embeddings",), f"embeddings: {error}") from error


def check_name(source: Source, name: str) -> None:
    """Check that the name of a benchmark can be a file name."""
    if not name or not all(c.isalnum() or c in "-_." for c in name) or name[0] in "-.":
        raise source.refuse(("name",), f"the name {short_repr(name)} must be letters, digits, '-', '_' and '.'")
    if len(name.encode()) > LONGEST_NAME:
        raise source.refuse(("name",), f"the name has more than {LONGEST_NAME} bytes; it names files: shorten it")


def _task_of(source: Source, definition: dict[Any, Any]) -> TaskInfo | None:
    """Return the task that a definition names; None if there is no such task.

    Raises:
        RequestError: the task is a plug-in's that cannot be used.
    """
    name = definition.get("task")
    if not isinstance(name, str) or name not in TASKS.names():
        return None
    try:
        return task_info(name)
    except RequestError as error:
        raise source.refuse(("task",), str(error)) from error


def _settings_keys() -> set[str]:
    """Return the keys under which built-in tasks have their settings in a definition."""
    return {key for key in (task_info(name).settings_key for name in TASKS.built_in) if key}


def check_suite(source: Source) -> dict[str, Any]:
    """Check the keys of a suite.

    Args:
        source: the suite as read.

    Returns:
        Its map: `benchmarks` (names in order), `published` (papers), `lacks`, and `summary`, `name`, `reproduces`,
        `headline` and `averages` if given. Headlines and averages are not checked here, as that needs the benchmarks
        (`cosmos_eval.protocol.suite`).

    Raises:
        RequestError: the first problem, with its line.
    """
    value = source.value
    if not isinstance(value, dict):
        raise source.refuse((), "a suite is a map with the key benchmarks")
    optional = {"summary": str, "name": str, "averages": list, "published": list, "headline": dict}
    optional |= {"reproduces": str, "lacks": list}
    _check_keys(source, (), value, required={"benchmarks": list}, optional=optional)
    if not value["benchmarks"]:
        raise source.refuse(("benchmarks",), "a suite needs at least one benchmark")
    for i, name in enumerate(value["benchmarks"]):
        _check_type(source, ("benchmarks", i), name, str)
        if name in value["benchmarks"][:i]:
            raise source.refuse(("benchmarks", i), f"{name} is listed twice")
    for i, column in enumerate(value.get("lacks", [])):
        _check_type(source, ("lacks", i), column, str)
    return {**value, "published": read_papers(source), "lacks": tuple(value.get("lacks", ()))}


def _check_keys(
    source: Source, at: Keys, value: dict[Any, Any], required: dict[str, Any], optional: dict[str, Any]
) -> None:
    """Check the keys of a map and the types of its values.

    Args:
        at: keys that lead to the map; empty for the whole definition.
        value: the map.
        required: key -> type; a kind of reader option (a text) instead of a type is checked elsewhere.
        optional: likewise.
    """
    where = f" in {at[-1]}" if at else ""
    for key in value:
        if key not in required and key not in optional:
            known = [*required, *optional]
            raise source.refuse((*at, key), f"unknown key {short_repr(key)}{where}{near(str(key), known)}")
    for key in required:
        if key not in value:
            raise source.refuse(at, f"the key {short_repr(key)} is missing{where}")
    for key, kind in (required | optional).items():
        if key in value and isinstance(kind, type):
            _check_type(source, (*at, key), value[key], kind)


def _check_type(source: Source, at: Keys, value: Any, kind: type) -> None:
    """Check the type of the value at `at`; whole numbers are also floats, but booleans are not numbers."""
    allowed = (int, float) if kind is float else kind
    if isinstance(value, allowed) and not (kind in (int, float) and isinstance(value, bool)):
        return
    name = at[-1] if isinstance(at[-1], str) else f"{at[-2]}[{at[-1]}]"
    raise source.refuse(at, f"{name} must be {_TYPE_NAMES[kind]}, not {_describe(value)}")


def _describe(value: Any) -> str:
    """Describe a wrong value in a message."""
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return "a map" if isinstance(value, dict) else "a list"
    return short_repr(value)


def _with_test_split(source: Source, dataset: dict[str, Any], task: TaskInfo) -> dict[str, Any]:
    """Return `dataset` with the options of `splits.test` in the place of its own: those are of the evaluated split."""
    splits = dataset.get("splits")
    if not task.splits or not isinstance(splits, dict) or EVALUATED not in splits:
        return dataset
    _check_type(source, ("dataset", "splits", EVALUATED), splits[EVALUATED], dict)
    others = {name: options for name, options in splits.items() if name != EVALUATED}
    return {**dataset, **splits[EVALUATED], "splits": others}


def _check_dataset(source: Source, definition: dict[str, Any], task: TaskInfo) -> None:
    """Check `dataset`: its reader, the reader's options, and splits, which repeat those options."""
    dataset = definition["dataset"]
    if "reader" not in dataset:
        raise source.refuse(("dataset",), "the key 'reader' is missing in dataset")
    _check_type(source, ("dataset", "reader"), dataset["reader"], str)
    info = _reader_of(source, ("dataset", "reader"), dataset["reader"])
    _check_keys(
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
        _check_type(source, count_at, count, int)
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
        _check_type(source, at, options, dict)
        readers[name] = info
        if "reader" in options:
            _check_type(source, (*at, "reader"), options["reader"], str)
            readers[name] = _reader_of(source, (*at, "reader"), options["reader"])
            _check_kind(source, (*at, "reader"), options["reader"], readers[name], task)
        own_reader = options.get("reader", dataset["reader"]) != dataset["reader"]
        required = dict(readers[name].required)
        _check_keys(
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
            _check_type(source, at, value, str)
        for i, path in enumerate(value if isinstance(value, list) else []):
            _check_type(source, (*at, i), path, str)
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
        _check_type(source, at, value, list)
        for i, name in enumerate(value):
            _check_type(source, (*at, i), name, str)
    else:
        _check_type(source, at, value, {TEXT: str, NUMBER: int, SWITCH: bool}[kind])
        if kind == NUMBER and value < 0:
            raise source.refuse(at, f"{at[-1]} must be {NUMBER} of at least 0, not {value}")


def _check_colours(source: Source, at: Keys, value: Any, kind: str) -> None:
    """Check a list of colours, or a map from colour to text."""
    _check_type(source, at, value, list if kind == COLOURS else dict)
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


LARGEST_OPTION = 2**31 - 1
"""Of numbers in `metrics`: cut-offs, shots, neighbours and so on are compared with counts in int64 tensors."""


def _refuse_huge_numbers(source: Source, metrics: dict[str, Any]) -> None:
    for key, value in metrics.items():
        numbers = value if isinstance(value, list) else [value]
        if any(isinstance(number, int) and abs(number) > LARGEST_OPTION for number in numbers):
            raise source.refuse(("metrics", key), f"a number of {key} is too large; it is at most {LARGEST_OPTION:,}")


def read_metrics(
    source: Source, definition: dict[str, Any], task: TaskInfo, is_primary_required: bool = True
) -> dict[str, Any]:
    """Check `metrics`, and return it with default values filled in.

    Args:
        is_primary_required: whether `primary` must be given; without it, the task chooses.
    """
    metrics = definition["metrics"]
    for key in metrics:
        if key != "primary" and key not in task.metric_options:
            allowed = " and ".join(["primary", *task.metric_options])
            raise source.refuse(
                ("metrics", key), f"unknown key {short_repr(key)} in metrics; for {task.name} it takes {allowed}"
            )
    required, optional = {"primary": str}, dict(task.metric_options)
    if not is_primary_required:
        required, optional = {}, {**required, **optional}
    _check_keys(source, ("metrics",), metrics, required=required, optional=optional)
    metrics = task.filled_metrics(metrics)
    _refuse_huge_numbers(source, metrics)
    if task.check_metrics is not None:
        task.check_metrics(metrics, lambda at, message: source.refuse(("metrics", *at), message))
    primary = metrics.get("primary")
    if primary is not None and not task.reports(primary, metrics):
        known = near(primary, task.metric_names(metrics))
        raise source.refuse(("metrics", "primary"), f"unknown metric {short_repr(primary)} of {task.name}{known}")
    return metrics


def _check_prompts(source: Source, definition: dict[str, Any], task: TaskInfo) -> None:
    """Check the keys of `prompts`; their words are checked when they are resolved."""
    prompts = definition.get("prompts", {})
    if not task.prompt_keys:
        if prompts:
            raise source.refuse(("prompts",), f"{task.name} takes no prompts")
        return
    at: Keys = ("prompts",) if "prompts" in definition else ()
    for key, advice in task.needed_prompts.items():
        if key not in prompts:
            raise source.refuse(at, f"the key {key!r} is missing in prompts: {advice}")
    for key in prompts:
        if key not in task.prompt_keys:
            known = near(str(key), task.prompt_keys)
            raise source.refuse(("prompts", key), f"unknown key {short_repr(key)} in prompts{known}")
