"""The tasks: one package each, with a `TaskInfo` (`cosmos_eval.protocol.task_info`) that the registry finds by name."""

from typing import TYPE_CHECKING

from cosmos_core.errors import RequestError
from cosmos_core.plugins import off_note
from cosmos_eval.protocol.task_registry import TASKS, task_info

if TYPE_CHECKING:
    from cosmos_eval.datasets.data import Data
    from cosmos_eval.engine.features import Features
    from cosmos_eval.protocol.benchmark import Benchmark
    from cosmos_eval.protocol.task_info import TaskInfo
    from cosmos_eval.tasks.outcome import Outcome


def validate(benchmark: "Benchmark", data: "Data") -> None:
    """Refuse data that the task cannot measure honestly, before any compute.

    Raises:
        RequestError: an unknown task, data of another kind, a text without an image, an empty class, a label out of
            range, a primary metric that the task does not report; says which.
    """
    if benchmark.task not in TASKS.names():
        there_are = ", ".join(TASKS.names())
        raise RequestError(f"{benchmark.name}: unknown task {benchmark.task!r}; there are {there_are}{off_note()}")
    info = task_info(benchmark.task)
    if not isinstance(data.evaluated, info.data_class):
        raise RequestError(
            f"{benchmark.name}: the task {benchmark.task} needs {info.data_class.__name__}, "
            f"its reader gives {type(data.evaluated).__name__}; change `task` or `reader`"
        )
    with TASKS.at_work(benchmark.task):
        info.checked(benchmark, data)


def run(benchmark: "Benchmark", data: "Data", engine: "Features", seed: int = 0) -> "Outcome":
    """Measure a benchmark.

    Args:
        benchmark: the protocol.
        data: what its reader gave.
        engine: gives features of images and texts.
        seed: of the resampling behind the intervals.

    Raises:
        RequestError: as `validate` says, or an embedding that is zero or not finite.
    """
    validate(benchmark, data)
    info = task_info(benchmark.task)
    with TASKS.at_work(benchmark.task):
        outcome = info.measured(benchmark, data, engine, seed)
    return checked_outcome(outcome, info)


def checked_outcome(outcome: "Outcome", info: "TaskInfo") -> "Outcome":
    """What a task returned, as its `TaskInfo` says it; RequestError in one line otherwise."""
    from cosmos_eval.tasks.outcome import Outcome

    source = TASKS.plugin(info.name)
    task = f"the task {info.name}" + (f" of {source}" if source else "")
    if not isinstance(outcome, Outcome):
        raise RequestError(f"{task} returned a {type(outcome).__name__}; return a cosmos_eval.tasks.outcome.Outcome")
    if outcome.primary not in outcome.metrics:
        raise RequestError(f"{task} returned no metric {outcome.primary!r:.60}, its primary one; correct the task")
    missing = [name for name in (*info.sample_keys, *info.sample_columns) if name not in outcome.samples]
    if missing:
        raise RequestError(
            f"{task} returned samples without the column {missing[0]}, which its sample_keys or sample_columns name; "
            "correct the task"
        )
    return outcome
