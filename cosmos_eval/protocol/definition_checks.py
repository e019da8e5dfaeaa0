"""Whether a benchmark definition or suite says only what can be carried out; every refusal names file and line."""

from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.plugins import off_note
from cosmos_core.short_repr import short_repr
from cosmos_core.suggestions import close, near
from cosmos_eval.datasets.catalog import CANDIDATES, READERS, reader_info
from cosmos_eval.datasets.reader import ALLOW, APPLY, NAMES, NUMBER, PLACE, SWITCH, TEXT, ReaderInfo
from cosmos_eval.protocol.differences import read_differences, read_papers
from cosmos_eval.protocol.source import Keys, Source
from cosmos_eval.protocol.task_info import TaskInfo
from cosmos_eval.protocol.task_registry import TASKS, task_info

TOP = {"name": str, "version": int, "task": str, "dataset": dict, "metrics": dict}
OPTIONAL = {"prompts": dict, "source": str, "summary": str, "published": list}
LONGEST_NAME = 200
"""Bytes: results are files of that name with an ending, and file systems have names of up to 255."""
_NAMED = {str: "a text", int: "a whole number", dict: "a map", list: "a list", float: "a number", bool: "true or false"}


def check_definition(source: Source) -> dict[str, Any]:
    """The definition as a map with every key known, every type right, and `metrics.k` filled in.

    Raises:
        RequestError: the first thing that is wrong, with its line and the nearest known word.
    """
    value = source.value
    if not isinstance(value, dict):
        raise source.refuse((), "a definition is a map with the keys " + ", ".join(TOP))
    info = _task(source, value)
    own = {info.settings_key: dict} if info is not None and info.settings_key else {}
    unknown = [key for key in value if key not in {**TOP, **OPTIONAL, **own}]
    others = [key for key in unknown if isinstance(key, str) and key in _settings_keys()]  # imports all of our tasks
    if info is not None and others:
        raise source.refuse((others[0],), f"{info.name} takes no settings of {others[0]}")
    _keys(source, (), value, required=TOP, optional={**OPTIONAL, **own})
    if not value["name"] or not all(c.isalnum() or c in "-_." for c in value["name"]) or value["name"][0] in "-.":
        raise source.refuse(
            ("name",), f"the name {short_repr(value['name'])} must be letters, digits, '-', '_' and '.'"
        )
    if len(value["name"].encode()) > LONGEST_NAME:
        raise source.refuse(("name",), f"the name has more than {LONGEST_NAME} bytes; it names files: shorten it")
    if value["version"] < 1:
        raise source.refuse(("version",), "versions count from 1")
    if info is None:
        raise source.refuse(
            ("task",), f"unknown task {short_repr(value['task'])}{near(value['task'], TASKS.names())}{off_note()}"
        )
    _dataset(source, value, info)
    metrics = _metrics(source, value, info)
    _prompts(source, value, info)
    if "published" in value:
        value = {**value, "published": read_differences(source)}
    settings = info.settings(source)
    rest = {key: one for key, one in value.items() if key != info.settings_key}
    return {**rest, "metrics": metrics, **({"settings": settings} if settings else {})}


def _task(source: Source, value: dict[Any, Any]) -> TaskInfo | None:
    """The task of a definition; None where there is none of that name. A plug-in that is broken is refused."""
    name = value.get("task")
    if not isinstance(name, str) or name not in TASKS.names():
        return None
    try:
        return task_info(name)
    except RequestError as error:
        raise source.refuse(("task",), str(error)) from error


def _settings_keys() -> set[str]:
    """Sections of definitions that belong to one of our tasks."""
    return {key for key in (task_info(name).settings_key for name in TASKS.built_in) if key}


def check_suite(source: Source) -> dict[str, Any]:
    """A suite: `benchmarks`, names in order; a `summary`, `averages` (`protocol_suite` reads them) and `published`."""
    value = source.value
    if not isinstance(value, dict):
        raise source.refuse((), "a suite is a map with the key benchmarks")
    optional = {"summary": str, "name": str, "averages": list, "published": list}
    _keys(source, (), value, required={"benchmarks": list}, optional=optional)
    if not value["benchmarks"]:
        raise source.refuse(("benchmarks",), "a suite needs at least one benchmark")
    for i, name in enumerate(value["benchmarks"]):
        _type(source, ("benchmarks", i), name, str)
        if name in value["benchmarks"][:i]:
            raise source.refuse(("benchmarks", i), f"{name} is listed twice")
    return {**value, "published": read_papers(source)}


def _keys(source: Source, at: Keys, value: dict[Any, Any], required: dict[str, Any], optional: dict[str, Any]) -> None:
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
            _type(source, (*at, key), value[key], kind)


def _type(source: Source, at: Keys, value: Any, kind: type) -> None:
    allowed = (int, float) if kind is float else kind
    right = isinstance(value, allowed) and not (kind in (int, float) and isinstance(value, bool))
    if not right:
        found = (
            "nothing"
            if value is None
            else f"{short_repr(value)}"
            if not isinstance(value, dict | list)
            else f"a {_kind(value)}"
        )
        name = at[-1] if isinstance(at[-1], str) else f"{at[-2]}[{at[-1]}]"
        raise source.refuse(at, f"{name} must be {_NAMED[kind]}, not {found}")


def _kind(value: Any) -> str:
    return "map" if isinstance(value, dict) else "list"


def _dataset(source: Source, value: dict[str, Any], task: TaskInfo) -> None:
    dataset = value["dataset"]
    if "reader" not in dataset:
        raise source.refuse(("dataset",), "the key 'reader' is missing in dataset")
    _type(source, ("dataset", "reader"), dataset["reader"], str)
    if dataset["reader"] not in READERS.names():
        known = f"{close(dataset['reader'], READERS.names())}; known: {', '.join(READERS.names())}{off_note()}"
        raise source.refuse(("dataset", "reader"), f"unknown reader {short_repr(dataset['reader'])}{known}")
    try:
        info = reader_info(dataset["reader"])
    except RequestError as error:  # a plug-in that is broken
        raise source.refuse(("dataset", "reader"), str(error)) from error
    _keys(
        source,
        ("dataset",),
        dataset,
        required={"reader": str, **info.required},
        optional={**info.optional, "expected": dict, "needs": str, **({"splits": dict} if task.splits else {})},
    )
    _splits(source, dataset.get("splits", {}), info, task)
    if task.kind.name not in info.kinds:
        fits = ", ".join(info.kinds)
        raise source.refuse(("task",), f"the reader {dataset['reader']} gives data for {fits}, not for {value['task']}")
    _options(source, ("dataset",), dataset, dataset, info, task)
    for name, own in dataset.get("splits", {}).items():
        _options(source, ("dataset", "splits", name), own, {**dataset, **own}, info, task)


def _options(
    source: Source, at: Keys, options: dict[str, Any], together: dict[str, Any], info: ReaderInfo, task: TaskInfo
) -> None:
    """The values of a reader's options, of `dataset` or of one split; `together` are all that hold there."""
    for option, given in options.items():
        kind = info.kind(option)
        if kind is not None:
            _option(source, (*at, option), given, kind)
    for option in CANDIDATES:
        if option in options and option not in task.kind.options:
            raise source.refuse((*at, option), f"{task.name} has no candidate classes; leave {option} out")
    for option, with_ in info.only_with.items():
        if option in options and with_ not in together:
            raise source.refuse((*at, option), f"{option} does nothing without {with_}; add it or leave it out")
    for key, count in options.get("expected", {}).items():
        where: Keys = (*at, "expected", key)
        if key not in task.kind.counted:
            known = ", ".join(task.kind.counted)
            raise source.refuse(where, f"unknown key {short_repr(key)} in expected; for {task.name} it counts {known}")
        _type(source, where, count, int)
        if count < 1:
            raise source.refuse(where, f"expected {key} is at least 1; leave it out where it is not known")


def _splits(source: Source, splits: dict[str, Any], info: ReaderInfo, task: TaskInfo) -> None:
    """`dataset.splits`: for each split that the task needs the options that replace those of `dataset`."""
    at: Keys
    for name in task.splits:
        if name not in splits:
            at = ("dataset", "splits") if splits else ("dataset",)
            raise source.refuse(at, f"{task.name} needs the split {name}: write dataset.splits.{name} with its options")
    for name, options in splits.items():
        at = ("dataset", "splits", name)
        if name not in task.splits:
            raise source.refuse(at, f"{task.name} has no split {short_repr(name)}{near(str(name), task.splits)}")
        _type(source, at, options, dict)
        _keys(source, at, options, required={}, optional={**info.required, **info.optional, "expected": dict})


def _option(source: Source, at: Keys, given: Any, kind: str) -> None:
    if kind == PLACE:
        if not isinstance(given, list):
            _type(source, at, given, str)
        for i, place in enumerate(given if isinstance(given, list) else []):
            _type(source, (*at, i), place, str)
        if not given:
            raise source.refuse(at, f"{at[-1]} must be {PLACE}")
    elif kind in (APPLY, ALLOW):
        if given != kind:
            raise source.refuse(at, f"{at[-1]} must be {kind}, not {given!r}; leave it out where it is not meant")
    elif kind == NAMES:
        _type(source, at, given, list)
        for i, name in enumerate(given):
            _type(source, (*at, i), name, str)
    else:
        _type(source, at, given, {TEXT: str, NUMBER: int, SWITCH: bool}[kind])
        if kind == NUMBER and given < 0:
            raise source.refuse(at, f"{at[-1]} must be {NUMBER} from 0 on, not {given}")


def _metrics(source: Source, value: dict[str, Any], task: TaskInfo) -> dict[str, Any]:
    metrics = value["metrics"]
    for key in metrics:
        if key != "primary" and key not in task.metric_options:
            allowed = " and ".join(["primary", *task.metric_options])
            raise source.refuse(
                ("metrics", key), f"unknown key {short_repr(key)} in metrics; for {task.name} it takes {allowed}"
            )
    _keys(source, ("metrics",), metrics, required={"primary": str}, optional=dict(task.metric_options))
    metrics = task.filled_metrics(metrics)
    if task.check_metrics is not None:
        task.check_metrics(metrics, lambda at, message: source.refuse(("metrics", *at), message))
    primary = metrics["primary"]
    if not task.reports(primary, metrics):
        known = near(primary, task.metric_names(metrics))
        raise source.refuse(("metrics", "primary"), f"unknown metric {short_repr(primary)} of {task.name}{known}")
    return metrics


def _prompts(source: Source, value: dict[str, Any], task: TaskInfo) -> None:
    prompts = value.get("prompts", {})
    if not task.prompt_keys:
        if prompts:
            raise source.refuse(("prompts",), f"{task.name} takes no prompts")
        return
    at: Keys = ("prompts",) if "prompts" in value else ()
    for key, what in task.needed_prompts.items():
        if key not in prompts:
            raise source.refuse(at, f"the key {key!r} is missing in prompts: {what}")
    for key in prompts:
        if key not in task.prompt_keys:
            known = near(str(key), task.prompt_keys)
            raise source.refuse(("prompts", key), f"unknown key {short_repr(key)} in prompts{known}")
