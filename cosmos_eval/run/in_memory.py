"""Benchmarks of data that a caller passes in Python: their task, name, metrics and settings."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cosmos_core.errors import RequestError, naming
from cosmos_core.short_repr import short_repr
from cosmos_core.suggestions import near
from cosmos_eval.datasets.data import Data, SplitData
from cosmos_eval.protocol.benchmark import IN_MEMORY, Benchmark
from cosmos_eval.protocol.definition_checks import check_name, read_metrics
from cosmos_eval.protocol.source import Keys, Source
from cosmos_eval.protocol.task_info import TaskInfo
from cosmos_eval.protocol.task_registry import TASKS, find_task, task_info


class GivenInPython(Source):
    """A definition whose values are arguments: messages name the benchmark in place of a file and a line."""

    def __init__(self, name: str, value: dict[str, Any]) -> None:
        super().__init__(Path(name), value, {})

    def refuse(self, keys: Keys, message: str) -> RequestError:
        return RequestError(f"{self.path}: {message}")


def make_benchmark(
    data: Data,
    name: str = "",
    *,
    task: str | None = None,
    metrics: Mapping[str, Any] | None = None,
    prompts: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    version: int = 1,
) -> Benchmark:
    """Make a benchmark of data in memory, which `evaluate` takes beside names and files.

    Lists and arrays of the data are copied now. Images are not: `evaluate` hashes them when it begins, and refuses one
    that changes while it runs.

    Args:
        data: such as `ClassificationData.from_lists(...)`, or of the kind of a plug-in.
        name: of the benchmark in results; by default the name of the data, or `in-memory-TASK`.
        task: name of the task; by default the built-in task for such data, or the only one of plug-ins.
        metrics: as in a definition: `primary`, and options of the task such as `k`.
        prompts: as in a definition, for data that do not bring their prompts: `words` and `templates` of segmentation.
            By default the class names, in "a photo of a {c}.".
        settings: the task's own settings, as in its section of a definition.
        version: raise it if what the data mean has changed.

    Raises:
        RequestError: no data, no task or several tasks for such data, or a value that a definition could not have.
    """
    if not isinstance(data, Data):
        raise RequestError(f"make_benchmark takes data such as ClassificationData, not {short_repr(data)}")
    info = task_info(task) if task is not None else find_task_for(data)
    if not isinstance(data.evaluated, info.data_class):
        raise RequestError(f"the task {info.name} needs {info.data_class.__name__}, not {type(data).__name__}")
    name = name or data.name or f"{IN_MEMORY}-{info.name}"
    if not isinstance(name, str):
        raise RequestError(f"the name of a benchmark is a text, not {short_repr(name)}")
    section = {info.settings_key: dict(settings or {})} if info.settings_key else {}
    if settings and not section:
        raise RequestError(f"{name}: the task {info.name} has no settings; leave settings out")
    definition = {"name": name, "version": version, "task": info.name, "metrics": dict(metrics or {}), **section}
    source = GivenInPython(name, definition)
    check_name(source, name)
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise RequestError(f"{name}: version must be a whole number of at least 1, not {short_repr(version)}")
    _require_splits(name, info, data)
    with naming(name):
        data = data.normalised()
    benchmark = Benchmark(
        name=name,
        version=version,
        task=info.name,
        dataset={"reader": IN_MEMORY},
        metrics=read_metrics(source, definition, info, is_primary_required=False),
        prompts=_read_prompts(name, info, data, prompts),
        settings=info.settings(source),
        source="data handed over in Python",
        data=data,
    )
    with naming(name):
        benchmark.resolve_prompts()  # refuses wrong ones now
    return benchmark


def find_task_for(data: Data) -> TaskInfo:
    """Return the task for data: the built-in one, or the only one of plug-ins.

    Raises:
        RequestError: none, or several of plug-ins.
    """
    splits = tuple(data.other_splits) if isinstance(data, SplitData) else ()
    tasks = [info for name in TASKS.names() if (info := find_task(name)) is not None]
    fitting = [
        info
        for info in tasks
        if isinstance(data.evaluated, info.data_class) and (not splits or _has_splits(info, splits))
    ]
    built_in = [info for info in fitting if info.name in TASKS.built_in and bool(info.splits) == bool(splits)]
    chosen = built_in[:1] if built_in else fitting
    if len(chosen) != 1:
        of_splits = f" with the splits {', '.join(splits)}" if splits else ""
        names = ", ".join(info.name for info in fitting)
        reason = f"several tasks take it ({names}); give one" if fitting else "no task takes it; give its task"
        raise RequestError(
            f"{type(data.evaluated).__name__}{of_splits}: {reason}, as in make_benchmark(data, task=...)"
        )
    return chosen[0]


def _has_splits(info: TaskInfo, given: Iterable[str]) -> bool:
    """Return whether a task needs no other splits than the given ones, and knows all of them."""
    return set(info.splits) <= set(given) <= {*info.splits, *info.optional_splits}


def as_benchmarks(benchmarks: Any) -> list[str | Path | Benchmark]:
    """Return what `evaluate` was given as a list of names, paths and definitions.

    Args:
        benchmarks: one name, path, definition or data; a list of these; or a map from name to data.

    Raises:
        RequestError: anything else, data that are not valid, or two data without a name.
    """
    if isinstance(benchmarks, str | Path | Benchmark | Data):
        benchmarks = [benchmarks]
    if isinstance(benchmarks, Mapping):
        return [
            make_benchmark(_require_data(data, name), str(name)) if not isinstance(data, Benchmark) else data
            for name, data in benchmarks.items()
        ]
    if not isinstance(benchmarks, Iterable):
        raise RequestError(f"benchmarks must be a list of names, paths or data, not {short_repr(benchmarks)}")
    listed = [make_benchmark(item) if isinstance(item, Data) else item for item in benchmarks]
    wrong = next((item for item in listed if not isinstance(item, str | Path | Benchmark)), None)
    if wrong is not None:
        raise RequestError(
            f"{short_repr(wrong)} is not a benchmark; give a name, the path of a YAML file, or data such as "
            "cosmos_eval.ClassificationData.from_lists(images, labels, class_names)"
        )
    return listed


def _require_data(data: Any, name: Any) -> Data:
    if isinstance(data, Data):
        return data
    raise RequestError(
        f"{short_repr(name)}: {short_repr(data)} is no data; a map goes from names to data, such as "
        "cosmos_eval.ClassificationData.from_lists(images, labels, class_names)"
    )


def _require_splits(name: str, info: TaskInfo, data: Data) -> None:
    given = set(data.other_splits) if isinstance(data, SplitData) else set()
    if not _has_splits(info, given):
        needed = f"needs the splits {', '.join(info.splits)}" if info.splits else "has no splits"
        if info.optional_splits:
            needed += f" and takes {', '.join(info.optional_splits)}"
        raise RequestError(
            f"{name}: the task {info.name} {needed}, not {', '.join(sorted(given)) or 'one alone'}; give them as "
            "cosmos_eval.SplitData(test, {'train': ...})"
        )


def _read_prompts(name: str, info: TaskInfo, data: Data, prompts: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return `prompts` of the definition: those of the data, overridden by those given."""
    defaults = {key: value for key, value in data.default_prompts().items() if key in info.prompt_keys}
    for key in prompts or {}:
        if key not in defaults:
            reason = (
                f"unknown key {short_repr(key)} in prompts{near(str(key), defaults)}"
                if defaults
                else f"prompts are part of {type(data).__name__}; give class_names and templates there"
            )
            raise RequestError(f"{name}: {reason}")
    return {**defaults, **(prompts or {})}
