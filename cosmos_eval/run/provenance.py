"""Which code computed a result: the task's scoring version, and the plug-ins that provide task, reader or model."""

from typing import Any

from cosmos_core.plugins import Plugin
from cosmos_eval.datasets.catalog import READERS
from cosmos_eval.models.spec import KINDS, MODELS
from cosmos_eval.protocol.benchmark import Benchmark
from cosmos_eval.protocol.task_registry import TASKS, task_info


def scoring_provenance(benchmark: Benchmark) -> dict[str, Any]:
    """The fields of a result's `benchmark` that say which code scored it; part of the result's identity.

    Version 1 and built-in code add no field, so that results from before these fields existed keep their identity.

    Returns:
        `scoring_version` of the task if it is above 1; `plugins` with distribution and version of the plug-ins that
        provide the task and the reader, if any do.
    """
    fields: dict[str, Any] = {}
    scoring_version = task_info(benchmark.task).scoring_version
    if scoring_version != 1:
        fields["scoring_version"] = scoring_version
    providers = {"task": TASKS.plugin(benchmark.task), "reader": READERS.plugin(benchmark.dataset["reader"])}
    plugins = {role: _name_and_version(plugin) for role, plugin in providers.items() if plugin is not None}
    if plugins:
        fields["plugins"] = plugins
    return fields


def model_provenance(spec: str) -> dict[str, str]:
    """The field `plugin` of a result's `model`: distribution and version of the plug-in that provides this kind of
    spec; empty for built-in kinds."""
    kind = spec.partition(":")[0]
    plugin = None if kind in KINDS else MODELS.plugin(kind)
    return {} if plugin is None else {"plugin": _name_and_version(plugin)}


def _name_and_version(plugin: Plugin) -> str:
    return f"{plugin.distribution} {plugin.version}"
