"""Reads data that were built in Python: the checks are those of data on disk."""

from pathlib import Path
from typing import Any

from cosmos_core.errors import naming
from cosmos_eval.datasets.data.base import Data
from cosmos_eval.datasets.data.splits import SplitData
from cosmos_eval.datasets.dataset_checks import DatasetChecker


def read_in_memory(benchmark: Any) -> Data:
    """Return the data of a benchmark that `cosmos_eval.make_benchmark` made, as they are now, without a fingerprint.

    Raises:
        DataProblems: they are inconsistent.
        RequestError: a value of the wrong type.
    """
    with naming(benchmark.name):
        data: Data = benchmark.data.normalised()
    if isinstance(data, SplitData):  # each split is checked on its own
        for split in (data.test, *data.other_splits.values()):
            DatasetChecker(benchmark, Path()).finish(split)
        return data
    return DatasetChecker(benchmark, Path()).finish(data)
