"""One module a family: what a benchmark's task computes from features and data."""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from cosmos_core.errors import RequestError

if TYPE_CHECKING:
    from cosmos_eval.datasets.data import Data
    from cosmos_eval.engine.features import Features
    from cosmos_eval.protocol import Benchmark
    from cosmos_eval.tasks.outcome import Outcome

WHERE = {
    "retrieval": "cosmos_eval.tasks.retrieval",
    "classification": "cosmos_eval.tasks.classification",
    "perception": "cosmos_eval.tasks.perception",
    "segmentation": "cosmos_eval.tasks.segmentation",
}
"""Task name -> module with `DATA` (the class of data it takes), `validate(benchmark, data)` and `run(...)`."""


def validate(benchmark: "Benchmark", data: "Data") -> None:
    """Refuse data that the task cannot measure honestly, before any compute.

    Raises:
        RequestError: an unknown task, data of another family, a text without a picture, an empty class, a label out of
            range, a primary metric that the task does not report; says which.
    """
    module = _module(benchmark)
    if not isinstance(data, module.DATA):
        raise RequestError(
            f"{benchmark.name}: the task {benchmark.task} needs {module.DATA.__name__}, "
            f"its reader gives {type(data).__name__}; change `task` or `reader`"
        )
    module.validate(benchmark, data)


def run(benchmark: "Benchmark", data: "Data", engine: "Features", seed: int = 0) -> "Outcome":
    """Measure a benchmark.

    Args:
        benchmark: the protocol.
        data: what its reader gave.
        engine: gives features of pictures and texts.
        seed: of the resampling behind the intervals.

    Raises:
        RequestError: as `validate` says, or an embedding that is zero or not finite.
    """
    validate(benchmark, data)
    return _module(benchmark).run(benchmark, data, engine, seed)


def _module(benchmark: "Benchmark") -> ModuleType:
    if benchmark.task not in WHERE:
        raise RequestError(f"{benchmark.name}: unknown task {benchmark.task!r}; there are {', '.join(WHERE)}")
    return importlib.import_module(WHERE[benchmark.task])
