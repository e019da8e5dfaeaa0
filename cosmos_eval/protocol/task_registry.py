"""Registry of tasks: built-in ones, and those of plug-ins (entry points of the group `cosmos_eval.tasks`)."""

from collections.abc import Container, Mapping
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.plugins import SWITCH, Registry, enabled
from cosmos_eval.protocol.task_info import TaskInfo

BUILT_IN = {
    "retrieval": "cosmos_eval.tasks.retrieval:INFO",
    "classification": "cosmos_eval.tasks.classification:INFO",
    "multilabel": "cosmos_eval.tasks.multilabel:INFO",
    "probe": "cosmos_eval.tasks.probe:INFO",
    "segmentation": "cosmos_eval.tasks.segmentation:INFO",
    "perception": "cosmos_eval.tasks.perception:INFO",
    "multiple-choice": "cosmos_eval.tasks.multiple_choice:INFO",
    "multilingual-retrieval": "cosmos_eval.tasks.multilingual_retrieval:INFO",
    "multilingual-classification": "cosmos_eval.tasks.multilingual_classification:INFO",
}
"""Name -> its `TaskInfo`, in the order of tables. To add a task, write a module and add a line here."""


def _problem(candidate: Any) -> str:
    """What is wrong with the object of an entry point; empty if nothing is."""
    if not isinstance(candidate, TaskInfo):
        return f"it is a {type(candidate).__name__}, not a cosmos_eval.TaskInfo"
    return candidate.problem()


TASKS = Registry("cosmos_eval.tasks", "task", BUILT_IN, _problem, named=True)


def task_info(name: str) -> TaskInfo:
    """Return the description of a task.

    Raises:
        RequestError: there is no such task, or it is a plug-in's that cannot be used.
    """
    info: TaskInfo = TASKS.load(name)
    return info


def find_task(name: str) -> TaskInfo | None:
    """Return the description of a task, or None: a result may be of a plug-in that is not installed here."""
    try:
        return task_info(name)
    except RequestError:
        return None


def explain_unusable_task(task: str, plugins: Mapping[str, str]) -> str:
    """Return why the task of a result cannot be used here, and what to install; empty if it can.

    Args:
        task: name of the task.
        plugins: `plugins` in `benchmark` of the result: "task" -> distribution and version that provided it.
    """
    try:
        task_info(task)
    except RequestError as error:
        if task in TASKS.names() or "task" not in plugins:
            return str(error)
        name, _, version = plugins["task"].rpartition(" ")
        if enabled():
            advice = f"but it is not installed here; install it, as in: pip install {name}=={version}"
        else:
            advice = f"but plug-ins are turned off by {SWITCH}=0; unset it"
        return f"the task {task} is provided by the plug-in {name} {version}, {advice}"
    return ""


def headlines(name: str, *primary: str) -> tuple[str, ...]:
    """Return the metrics of a task that tables show first; `primary` if it has none, if it is not among them, or if the
    task is not known here."""
    info = find_task(name)
    return info.headlines(*primary) if info is not None else primary


def measured_headlines(name: str, primary: str, metrics: Container[str]) -> list[str]:
    """Return those of `headlines` that are among `metrics`; `primary` if none is."""
    return [metric for metric in headlines(name, primary) if metric in metrics] or [primary]
