"""Options of metrics from the command line, for all benchmarks of a run."""

from collections.abc import Sequence
from dataclasses import replace

from cosmos_core.errors import RequestError
from cosmos_eval.protocol.benchmark import Benchmark
from cosmos_eval.protocol.fingerprint import protocol_fingerprint
from cosmos_eval.protocol.task_registry import task_info

RERANK = "rerank"
"""The key of `metrics` that says how many candidates of a query are scored again as pairs."""


def set_rerank(benchmarks: Sequence[Benchmark], k: int) -> list[Benchmark]:
    """Return the benchmarks with `metrics.rerank`; their fingerprints are as if the definitions had it.

    Benchmarks of tasks without this option stay as they are: there, a model that scores pairs scores all that are
    needed.

    Raises:
        RequestError: k below 1, or no benchmark with this option.
    """
    if k < 1:
        raise RequestError(f"--rerank is the number of candidates that are scored again; give at least 1, not {k}")
    has_option = [RERANK in task_info(benchmark.task).metric_options for benchmark in benchmarks]
    if not any(has_option):
        names = ", ".join(benchmark.name for benchmark in benchmarks)
        raise RequestError(f"--rerank changes nothing: {names} rank no candidates; leave it out")
    return [
        _with_metric(benchmark, RERANK, k) if has else benchmark
        for benchmark, has in zip(benchmarks, has_option, strict=True)
    ]


def _with_metric(benchmark: Benchmark, key: str, value: int) -> Benchmark:
    benchmark = replace(benchmark, metrics={**benchmark.metrics, key: value})
    return replace(benchmark, fingerprint=protocol_fingerprint(benchmark))
