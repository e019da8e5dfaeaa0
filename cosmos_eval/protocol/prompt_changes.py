"""Class names and templates from the command line, for all benchmarks of a run."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.file_checks import user_path
from cosmos_eval.datasets.prompts import resolve_prompts
from cosmos_eval.protocol.benchmark import Benchmark
from cosmos_eval.protocol.fingerprint import protocol_fingerprint
from cosmos_eval.protocol.task_registry import task_info

OPTIONS = {"templates": "--templates", "class_names": "--class-names"}
"""Key of `prompts` -> option of the command line."""


def replace_prompts(benchmarks: Sequence[Benchmark], templates: str = "", class_names: str = "") -> list[Benchmark]:
    """Return the benchmarks with other templates and class names.

    Their fingerprints are as if the definitions had them. Benchmarks of tasks without such prompts stay as they are.

    Args:
        templates, class_names: a named set, or the path of a `.txt` or `.json` file; empty changes nothing.

    Raises:
        RequestError: an unknown set, an unreadable file, or no benchmark with such prompts.
    """
    changed = list(benchmarks)
    for key, value in (("templates", templates), ("class_names", class_names)):
        if not value:
            continue
        words = _read_words(key, value)
        with_key = [key in task_info(benchmark.task).prompt_keys for benchmark in changed]
        if not any(with_key):
            names = ", ".join(benchmark.name for benchmark in changed)
            raise RequestError(f"{OPTIONS[key]} changes nothing: {names} have no {key.replace('_', ' ')}; leave it out")
        changed = [
            _with_prompt(benchmark, key, words) if has_key else benchmark
            for benchmark, has_key in zip(changed, with_key, strict=True)
        ]
    return changed


def _with_prompt(benchmark: Benchmark, key: str, words: Any) -> Benchmark:
    benchmark = replace(benchmark, prompts={**benchmark.prompts, key: words})
    return replace(benchmark, fingerprint=protocol_fingerprint(benchmark))


def _read_words(key: str, value: str) -> Any:
    """Return a named set as it is, and the content of a file as a definition could have it.

    Raises:
        RequestError: neither.
    """
    option = OPTIONS[key]

    def refuse(_: str, message: str) -> RequestError:
        return RequestError(f"{option}: {message}")

    path = user_path(value)
    if path.suffix not in (".txt", ".json"):
        resolve_prompts({key: value}, None, refuse)
        return value
    words = getattr(resolve_prompts({key: path.name}, path.parent, refuse), key)
    return {name: list(entry) for name, entry in words.items()} if _has_lists(words) else _plain(words)


def _has_lists(words: Any) -> bool:
    return isinstance(words, dict) and any(not isinstance(entry, str) for entry in words.values())


def _plain(words: Any) -> Any:
    return dict(words) if isinstance(words, dict) else list(words)
