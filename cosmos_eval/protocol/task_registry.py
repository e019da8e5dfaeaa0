"""The tasks by name: ours, and those that other packages add as entry points of the group `cosmos_eval.tasks`."""

from collections.abc import Mapping
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.plugins import SWITCH, Registry, enabled
from cosmos_eval.protocol.task_info import TaskInfo

BUILT_IN = {
    "retrieval": "cosmos_eval.tasks.retrieval:INFO",
    "classification": "cosmos_eval.tasks.classification:INFO",
    "segmentation": "cosmos_eval.tasks.segmentation:INFO",
    "perception": "cosmos_eval.tasks.perception:INFO",
}
"""Task -> its `TaskInfo`, in the order of tables. A new task is a module and a line here."""


def _problem(found: Any) -> str:
    if not isinstance(found, TaskInfo):
        return f"it is a {type(found).__name__}, not a cosmos_eval.TaskInfo"
    return found.problem()


TASKS = Registry("cosmos_eval.tasks", "task", BUILT_IN, _problem, named=True)


def task_info(name: str) -> TaskInfo:
    """What a task tells of itself.

    Raises:
        RequestError: there is no such task, or it is a plug-in's that cannot be used.
    """
    found: TaskInfo = TASKS.load(name)
    return found


def task_if_known(name: str) -> TaskInfo | None:
    """The same for a result, which may be of a plug-in that is not installed here: None then."""
    try:
        return task_info(name)
    except RequestError:
        return None


def why_unusable(task: str, plugins: Mapping[str, str]) -> str:
    """Why the task of a result cannot be asked here, in words with what to install; empty where it can.

    Args:
        plugins: of the result's `benchmark`: who brought its task.
    """
    try:
        task_info(task)
    except RequestError as error:
        if task in TASKS.names() or "task" not in plugins:
            return str(error)
        name, _, version = plugins["task"].rpartition(" ")
        absent = f"plug-ins are turned off by {SWITCH}=0; leave it out" if not enabled() else "it is not installed here"
        install = "" if not enabled() else f"; install it, as in: pip install {name}=={version}"
        return f"the task {task} is of the plug-in {name} {version}, and {absent}{install}"
    return ""


def headlines(name: str, *primary: str) -> tuple[str, ...]:
    """The metrics of a task's benchmarks that people look at first: its own, else `primary`."""
    info = task_if_known(name)
    return info.headline or primary if info is not None else primary
