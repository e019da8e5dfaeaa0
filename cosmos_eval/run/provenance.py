"""Which code measured: the task's scoring version, and the plug-ins that brought task, reader or model."""

from dataclasses import dataclass

from cosmos_core.plugins import Plugin
from cosmos_eval.datasets.catalog import READERS
from cosmos_eval.models.spec import KINDS, MODELS
from cosmos_eval.protocol.benchmark import Benchmark
from cosmos_eval.protocol.task_registry import TASKS, task_info


@dataclass(frozen=True)
class ScoringCode:
    """The code that reads and scores a benchmark; part of the identity of a result."""

    scoring_version: int
    """Of the task."""
    plugins: dict[str, str]
    """`task` or `reader` -> distribution and version of the plug-in that brings it; empty where both are ours."""


def scoring_of(benchmark: Benchmark) -> ScoringCode:
    """Return the code that scores a benchmark today."""
    version = task_info(benchmark.task).scoring_version
    sources = {"task": TASKS.plugin(benchmark.task), "reader": READERS.plugin(benchmark.dataset["reader"])}
    return ScoringCode(version, {what: _stamp(plugin) for what, plugin in sources.items() if plugin is not None})


def plugin_of_model(spec: str) -> dict[str, str]:
    """`plugin` of a result's `model`: distribution and version, where a plug-in brings the kind of spec."""
    kind = spec.partition(":")[0]
    plugin = None if kind in KINDS else MODELS.plugin(kind)
    return {} if plugin is None else {"plugin": _stamp(plugin)}


def _stamp(plugin: Plugin) -> str:
    return f"{plugin.distribution} {plugin.version}"
