"""Which code measured: the task's scoring version, and the plug-ins that brought task, reader or model."""

from typing import Any

from cosmos_core.plugins import Plugin
from cosmos_eval.datasets.catalog import READERS
from cosmos_eval.models.spec import KINDS, MODELS
from cosmos_eval.protocol.benchmark import Benchmark
from cosmos_eval.protocol.task_registry import TASKS, task_info


def scoring_of(benchmark: Benchmark) -> dict[str, Any]:
    """Fields of a result's `benchmark` that enter its identity: `scoring_version` above 1, and `plugins`, which has
    the distribution and version behind the task and the reader; each only where there is something to say."""
    version = task_info(benchmark.task).scoring_version
    sources = {"task": TASKS.plugin(benchmark.task), "reader": READERS.plugin(benchmark.dataset["reader"])}
    plugins = {what: _stamp(plugin) for what, plugin in sources.items() if plugin is not None}
    return {**({"scoring_version": version} if version != 1 else {}), **({"plugins": plugins} if plugins else {})}


def plugin_of_model(spec: str) -> dict[str, str]:
    """`plugin` of a result's `model`: distribution and version, where a plug-in brings the kind of spec."""
    kind = spec.partition(":")[0]
    plugin = None if kind in KINDS else MODELS.plugin(kind)
    return {} if plugin is None else {"plugin": _stamp(plugin)}


def _stamp(plugin: Plugin) -> str:
    return f"{plugin.distribution} {plugin.version}"
