"""The tasks, one package each. Its `INFO` is a `TaskInfo` (`cosmos_eval.protocol.task_info`), which the registry finds
by the task's name."""

from typing import TYPE_CHECKING

from cosmos_core.errors import RequestError
from cosmos_core.plugins import off_note
from cosmos_eval.protocol.task_registry import TASKS, task_info

if TYPE_CHECKING:
    from cosmos_eval.datasets.data import Data
    from cosmos_eval.engine.task_engine import TaskEngine
    from cosmos_eval.protocol.benchmark import Benchmark
    from cosmos_eval.protocol.task_info import TaskInfo
    from cosmos_eval.tasks.outcome import Outcome


def validate(benchmark: "Benchmark", data: "Data") -> None:
    """Check that the benchmark's task can evaluate this data; no model is needed.

    Raises:
        RequestError: an unknown task, data of another class than the task takes, or what the task's own `validate`
            finds: a text without an image, an empty class, a label out of range, an unknown primary metric.
    """
    if benchmark.task not in TASKS.names():
        tasks = ", ".join(TASKS.names())
        raise RequestError(f"{benchmark.name}: unknown task {benchmark.task!r}; choose one of {tasks}{off_note()}")
    info = task_info(benchmark.task)
    if not isinstance(data.evaluated, info.data_class):
        raise RequestError(
            f"{benchmark.name}: the task {benchmark.task} needs {info.data_class.__name__}, "
            f"and its reader returned {type(data.evaluated).__name__}; change `task` or `reader`"
        )
    with TASKS.at_work(benchmark.task):
        info.check_data(benchmark, data)


def run(benchmark: "Benchmark", data: "Data", engine: "TaskEngine", seed: int = 0) -> "Outcome":
    """Evaluate a model on a benchmark.

    Args:
        benchmark: the protocol.
        data: what the benchmark's reader loaded.
        engine: computes features and scores of images and texts with the model.
        seed: seed of the bootstrap resampling behind the intervals.

    Raises:
        RequestError: as `validate`; or an embedding is zero or not finite; or a plug-in's task returned something
            unusable.
    """
    validate(benchmark, data)
    info = task_info(benchmark.task)
    with TASKS.at_work(benchmark.task):
        outcome = info.measure(benchmark, data, engine, seed)
    return check_outcome(outcome, info)


def check_outcome(outcome: "Outcome", info: "TaskInfo") -> "Outcome":
    """Return `outcome` if it is what the task's `TaskInfo` declares.

    Plug-ins may return anything. Without this check a missing column would be an exception much later, in `regress` or
    `report`.

    Raises:
        RequestError: not an `Outcome`, the primary metric is not among the metrics, or `samples` lacks a column.
    """
    from cosmos_eval.tasks.outcome import Outcome

    plugin = TASKS.plugin(info.name)
    task = f"the task {info.name}" + (f" of {plugin}" if plugin else "")
    if not isinstance(outcome, Outcome):
        raise RequestError(f"{task} returned a {type(outcome).__name__}; return a cosmos_eval.tasks.outcome.Outcome")
    if outcome.primary not in outcome.metrics:
        raise RequestError(
            f"{task} returned no metric {outcome.primary!r:.60}, which it names as primary; correct the task"
        )
    declared_columns = (*info.sample_keys, *info.sample_columns)
    missing_columns = [column for column in declared_columns if column not in outcome.samples]
    if missing_columns:
        raise RequestError(
            f"{task} returned samples without the column {missing_columns[0]}, which its sample_keys or sample_columns "
            "declare; correct the task"
        )
    return outcome
