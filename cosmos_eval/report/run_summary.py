"""What a run prints at its end: for each model, a line for each benchmark with its headline metrics and intervals."""

from collections.abc import Sequence
from itertools import groupby

from cosmos_core.printable import plural
from cosmos_eval.protocol.task_registry import measured_headlines
from cosmos_eval.report.evaluations import shown
from cosmos_eval.report.names import short
from cosmos_eval.report.tables import warnings_of
from cosmos_eval.results.record import Result
from cosmos_eval.tasks.outcome import Metric


def summary_lines(results: Sequence[Result]) -> list[str]:
    """The lines of some results, grouped by model in their order, then their warnings.

    A result that was made with `--limit` says so: it is not a measurement of the benchmark.
    """
    width = max((len(result.benchmark_name) for result in results), default=0)
    lines = []
    for label, of_model in groupby(results, key=lambda result: result.label):
        lines.append(f"{label}: percent, with 95 % intervals")
        lines += [f"  {result.benchmark_name:<{width}}  {headline(result)}" for result in of_model]
    return [*lines, *warnings_of(results)]


def headline(result: Result) -> str:
    """The headline metrics of one result: `top-1 51.2 [48.1, 54.3]; on 500 images only (--limit)`."""
    names = measured_headlines(result.benchmark.task, result.primary, result.metrics)
    metrics = ", ".join(f"{short(name)} {with_interval(name, result.metrics[name])}" for name in names)
    count = result.limit or 0
    # spread over the order of the dataset
    return f"{metrics}; on {plural(count, 'image')} only (--limit)" if count else metrics


def with_interval(name: str, metric: Metric) -> str:
    """A metric's value and interval as tables print them."""
    if metric.low is None or metric.high is None:
        return shown(name, metric.value)
    return f"{shown(name, metric.value)} [{shown(name, metric.low)}, {shown(name, metric.high)}]"
