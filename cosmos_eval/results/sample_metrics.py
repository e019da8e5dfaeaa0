"""Metrics of results as functions of their samples, for intervals of suite averages."""

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cosmos_core.errors import RequestError
from cosmos_core.plugins import resolve
from cosmos_eval.metrics.average_interval import AverageInterval, Member, average_interval
from cosmos_eval.metrics.paired_samples import UNKNOWN, Hits, name_units
from cosmos_eval.metrics.resampled_metric import ResampledMetric
from cosmos_eval.protocol.task_registry import task_info
from cosmos_eval.results.contents import unit_column
from cosmos_eval.results.record import Result
from cosmos_eval.results.store import RESULT, read_samples

if TYPE_CHECKING:
    import pandas as pd

TOLERANCE = 1e-9
"""Difference allowed between a recorded metric and the one computed from its samples."""


def read_sample_metric(result: Result, metric: str) -> ResampledMetric:
    """Read the samples of a result and return one of its metrics under random weights of the images.

    Raises:
        RequestError: the result was not read from a folder, its samples are missing or damaged, the task has no paired
            test of the metric (which needs the same samples), or they do not give the recorded value.
    """
    return _sample_metric(result, metric, _read(result))


def _read(result: Result) -> "pd.DataFrame":
    if result.folder is None:
        raise RequestError(f"{result.label} on {result.benchmark_name}: its samples are not on disk")
    return read_samples(result.folder / RESULT, result)


def _sample_metric(result: Result, metric: str, frame: "pd.DataFrame") -> ResampledMetric:
    info = task_info(result.benchmark.task)
    where = f"{result.label} on {result.benchmark_name}"
    if not info.can_be_paired(metric):
        raise RequestError(f"{where}: the task {info.name} does not say which samples {metric} is computed from")
    try:
        paired: Any = resolve(info.paired)(metric, (result, result), (frame, frame))
        paired = name_hits(paired, frame)
        resampled: ResampledMetric = paired.of_model(0)
    except (ValueError, AttributeError, KeyError) as error:  # columns of an older version, or a plug-in's own class
        raise RequestError(f"{where}: {metric} cannot be computed from its samples: {error}") from error
    resampled = replace(resampled, names=_complete_names(resampled.names, result))  # type: ignore[type-var]
    value = float(resampled.values(np.ones((1, len(resampled.names))))[0])
    recorded = result.metrics[metric].value
    if not abs(value - recorded) <= TOLERANCE:
        raise RequestError(
            f"{where}: {metric} is {100 * recorded:.4f} in {RESULT}, and its samples give {100 * value:.4f}; measure "
            "it again with run --overwrite"
        )
    return resampled


def name_hits(paired: Any, frame: "pd.DataFrame") -> Any:
    """Name the units of `Hits` that a plug-in left without names, where there is one for each sample."""
    unit = unit_column(frame)
    if isinstance(paired, Hits) and paired.unit_names is None and unit and len(paired.baseline) == len(frame):
        return replace(paired, unit_names=name_units(frame, unit))
    return paired


def _complete_names(names: np.ndarray, result: Result) -> np.ndarray:
    """Names of units whose content is not recorded get the fingerprint of the data: one key may be in many datasets."""
    return np.array(complete_names(names.tolist(), result), dtype=object)


def complete_names(names: Iterable[str], result: Result) -> list[str]:
    """As `_complete_names`, of any names."""
    prefix = result.dataset.fingerprint
    return [prefix + name if name.startswith(UNKNOWN) else name for name in names]


class AverageIntervals:
    """Computes intervals of averages, and reads the samples of each result and metric once.

    Averages whose samples cannot be read have no interval; `problems` says why.
    """

    def __init__(self, results: Iterable[Result]) -> None:
        self.results = list(results)
        self.problems: dict[str, None] = {}
        self._metrics: dict[tuple[int, str], ResampledMetric] = {}
        self._frame: tuple[int, pd.DataFrame] | None = None
        """Samples that were read last: the next metric is often of the same result."""

    def of(self, members: Iterable[tuple[int, str, float]]) -> AverageInterval | None:
        """Return the interval of an average; None if samples are missing.

        Args:
            members: index of the result, name of the metric and weight of each member.
        """
        members = list(members)
        if any(self.results[number].folder is None for number, _, _ in members):
            return None  # measured in this process, and perhaps not written
        try:
            return average_interval([self._member(*member) for member in members])
        except RequestError as error:
            self.problems[str(error)] = None
            return None

    def remarks(self) -> list[str]:
        """Return why averages have no interval: one line, with the first three reasons."""
        if not self.problems:
            return []
        reasons = list(self.problems)
        more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
        return [f"Averages without an interval: {'; '.join(reasons[:3])}{more}."]

    def _member(self, number: int, metric: str, weight: float) -> Member:
        result = self.results[number]
        recorded = result.metrics[metric]
        key = number, metric
        if key not in self._metrics:
            if self._frame is None or self._frame[0] != number:
                self._frame = number, _read(result)
            self._metrics[key] = _sample_metric(result, metric, self._frame[1])
        return Member(weight, recorded.value, recorded.low, recorded.high, recorded.method, self._metrics[key])
