"""Checks of a benchmark definition or suite: known keys, right types, values that exist. Errors name file and line."""

from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.plugins import off_note
from cosmos_core.short_repr import short_repr
from cosmos_core.suggestions import close, near
from cosmos_eval.protocol.dataset_option_checks import check_dataset, refuse_misplaced_split, with_test_split
from cosmos_eval.protocol.feature_transforms import FeatureTransforms
from cosmos_eval.protocol.known_differences import read_differences, read_papers
from cosmos_eval.protocol.source import Keys, Source
from cosmos_eval.protocol.task_info import TaskInfo
from cosmos_eval.protocol.task_registry import TASKS, task_info
from cosmos_eval.protocol.value_checks import check_keys, check_type

REQUIRED_KEYS = {"name": str, "version": int, "task": str, "dataset": dict, "metrics": dict}
"""Required keys of a definition -> type."""
OPTIONAL_KEYS = {"prompts": dict, "embeddings": dict, "source": str, "summary": str, "published": list, "fetch": list}
"""Optional keys of a definition -> type; a task may add one of its own."""
LONGEST_NAME = 200
"""Bytes. The name is part of file names with endings, and file systems allow 255 bytes."""
LARGEST_OPTION = 2**31 - 1
"""Of numbers in `metrics`: cut-offs, shots, neighbours and so on are compared with counts in int64 tensors."""


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
    if info is not None:
        refuse_misplaced_split(source, definition, info)
    unknown = [key for key in definition if key not in {**REQUIRED_KEYS, **OPTIONAL_KEYS, **task_keys}]
    # Only for unknown keys, as _settings_keys imports all built-in tasks.
    of_other_tasks = [key for key in unknown if isinstance(key, str) and key in _settings_keys()]
    if info is not None and of_other_tasks:
        raise source.refuse((of_other_tasks[0],), f"{info.name} takes no settings of {of_other_tasks[0]}")
    check_keys(source, (), definition, required=REQUIRED_KEYS, optional={**OPTIONAL_KEYS, **task_keys})
    check_name(source, definition["name"])
    if definition["version"] < 1:
        raise source.refuse(("version",), "version must be at least 1")
    if info is None:
        advice = close(definition["task"], TASKS.names()) or "; see `cosmos-eval list tasks`"
        raise source.refuse(("task",), f"unknown task {short_repr(definition['task'])}{advice}{off_note()}")
    definition = {**definition, "dataset": with_test_split(source, definition["dataset"], info)}
    check_dataset(source, definition, info)
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
    check_keys(source, (), value, required={"benchmarks": list}, optional=optional)
    if not value["benchmarks"]:
        raise source.refuse(("benchmarks",), "a suite needs at least one benchmark")
    for i, name in enumerate(value["benchmarks"]):
        check_type(source, ("benchmarks", i), name, str)
        if name in value["benchmarks"][:i]:
            raise source.refuse(("benchmarks", i), f"{name} is listed twice")
    for i, column in enumerate(value.get("lacks", [])):
        check_type(source, ("lacks", i), column, str)
    return {**value, "published": read_papers(source), "lacks": tuple(value.get("lacks", ()))}


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
    check_keys(source, ("metrics",), metrics, required=required, optional=optional)
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
