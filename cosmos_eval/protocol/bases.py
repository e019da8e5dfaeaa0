"""Definitions that build on others: `base: NAME`, whose keys a definition overrides."""

from pathlib import Path
from typing import Any

from cosmos_core.file_checks import is_file
from cosmos_core.short_repr import short_repr
from cosmos_eval.datasets.reader_registry import reads_same_data
from cosmos_eval.protocol.definition_checks import OPTIONAL_KEYS, REQUIRED_KEYS
from cosmos_eval.protocol.folders import definition_files, suggest_names
from cosmos_eval.protocol.source import Source, read_source


def read_definition(path: Path, before: tuple[Path, ...] = ()) -> Source:
    """Read the YAML of a definition, without checking it; a definition with `base: NAME` overrides that one.

    Maps (`segmentation`, `dataset`, ...) are merged key by key. Options of the base's reader are dropped if the reader
    is another one; metrics, prompts and settings of its task, if the task is another one. A base is a file beside this
    one, or else a shipped definition, and may have a base itself. A user's file may have the name of the shipped
    definition that it overrides.

    Args:
        before: definitions of which this one is a base.

    Raises:
        RequestError: there is no such base, or it leads back to a definition that it is a base of.
    """
    source = read_source(path)
    if not isinstance(source.value, dict) or "base" not in source.value:
        return source
    name = source.value["base"]
    base_path = _find_base(path, name, source)
    if base_path in before:
        raise source.refuse(("base",), f"{name} has this definition as its own base; take out one of the two")
    base = read_definition(base_path, (*before, path))
    if not isinstance(base.value, dict):
        raise source.refuse(("base",), f"{name} is not a map of keys; repair {base_path}")
    value = _override(base.value, source.value)
    del value["base"]
    return Source(path, value, source.lines, base)


def find_same_data(source: Source) -> str:
    """Return the name of the shipped base whose data a definition reads unchanged; empty if there is none."""
    base = source.base
    if base is None or not reads_same_data(source.value.get("dataset", {}), base.value.get("dataset", {})):
        return ""
    return base.path.stem if base.path == definition_files().get(base.path.stem) else find_same_data(base)


def _find_base(path: Path, name: Any, source: Source) -> Path:
    """Find the file of a base: one beside the definition in `path`, or else a shipped one."""
    beside = path.parent / f"{name}.yaml"
    shipped = definition_files().get(name) if isinstance(name, str) else None
    base_path = beside if is_file(beside) and beside != path else shipped
    if not isinstance(name, str) or base_path is None or base_path == path:
        raise source.refuse(
            ("base",),
            f"there is no definition {short_repr(name)}{suggest_names(str(name)[:200], sorted(definition_files()))}",
        )
    return base_path


def _override(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Merge the keys of a definition into those of its base."""
    value = dict(base)
    dataset, base_dataset = changes.get("dataset"), base.get("dataset")
    base_reader = base_dataset.get("reader") if isinstance(base_dataset, dict) else None
    if isinstance(dataset, dict) and dataset.get("reader", base_reader) != base_reader:
        value["dataset"] = {}  # these options are those of the base's reader
    if changes.get("task", base.get("task")) != base.get("task"):
        task_settings = value.keys() - {*REQUIRED_KEYS, *OPTIONAL_KEYS}
        for key in {"metrics", "prompts", "published", *task_settings}:  # these are those of the base's task
            value.pop(key, None)
    for key, change in changes.items():
        both_are_maps = isinstance(change, dict) and isinstance(value.get(key), dict)
        value[key] = {**value[key], **change} if both_are_maps else change
    return value
