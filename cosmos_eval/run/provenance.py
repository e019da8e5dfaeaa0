"""Which code computed a result: the task's scoring version, and the plug-ins that provide task, reader or model."""

from dataclasses import dataclass

from cosmos_core.plugins import Plugin
from cosmos_eval.datasets.reader_registry import READERS
from cosmos_eval.models.spec import KINDS, MODELS
from cosmos_eval.protocol.benchmark import Benchmark
from cosmos_eval.protocol.task_registry import TASKS, task_info


@dataclass(frozen=True)
class ScoringCode:
    """The code that reads and scores a benchmark; part of the identity of a result."""

    scoring_version: int
    """Of the task (`TaskInfo.scoring_version`)."""
    plugins: dict[str, str]
    """`task` or `reader` -> distribution and version of the plug-in that provides it; empty if both are built in."""


def find_scoring_code(benchmark: Benchmark) -> ScoringCode:
    """The code that would score a benchmark now."""
    reader = None if benchmark.data is not None else READERS.plugin(benchmark.dataset["reader"])
    providers = {"task": TASKS.plugin(benchmark.task), "reader": reader}
    plugins = {role: _name_and_version(plugin) for role, plugin in providers.items() if plugin is not None}
    return ScoringCode(task_info(benchmark.task).scoring_version, plugins)


def model_plugin_field(spec: str) -> dict[str, str]:
    """The field `plugin` of a result's `model`: distribution and version of the plug-in that provides this kind of
    spec; empty for built-in kinds."""
    kind = spec.partition(":")[0]
    plugin = None if kind in KINDS else MODELS.plugin(kind)
    return {} if plugin is None else {"plugin": _name_and_version(plugin)}


def _name_and_version(plugin: Plugin) -> str:
    return f"{plugin.distribution} {plugin.version}"
