"""Folders of results: how those of a model are called, where its features are kept, and what may not be replaced."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.file_checks import user_path
from cosmos_eval.cache.store import FOLDER
from cosmos_eval.models.base import Model
from cosmos_eval.models.spec import slug
from cosmos_eval.protocol.benchmark import Benchmark
from cosmos_eval.protocol.parts import changed_parts
from cosmos_eval.protocol.task_registry import task_info
from cosmos_eval.results.record import Result
from cosmos_eval.results.store import RESULT, read_result


def stored_result(folder: Path) -> Result | None:
    """The result that is in a folder; None where there is none, or a damaged one, which is measured again."""
    path = folder / RESULT
    try:
        return read_result(path) if path.is_file() else None
    except RequestError:
        return None


def refuse_to_lose(
    there: Result, path: Path, benchmark: Benchmark, dataset: str, precision: str, limit: int | None
) -> None:
    """Refuse to replace a full measurement by a different one; a limited one, or one of unknown weights, may go.

    Args:
        there: the result that would be replaced, which stands in `path`.
    """
    if there.limit is not None or not there.identity:
        return
    edited = there.benchmark["fingerprint"] != benchmark.fingerprint
    words = "templates, class names, " if task_info(benchmark.task).prompt_keys else ""
    changed = changed_parts(benchmark, there.benchmark.get("parts", {})) if edited else []
    told = f"what differs: {', '.join(changed)}" if changed else f"its {words}metrics or dataset options were changed"
    differs = {
        "all images": limit is not None,
        f"another definition of {benchmark.name} ({told})": edited,
        # the words that a definition gives are in the fingerprint of the dataset, too
        "other data": not edited and there.dataset["fingerprint"] != dataset,
        f"precision {there.precision}": there.precision != precision,
    }
    reasons = [reason for reason, holds in differs.items() if holds]
    if reasons:
        raise RequestError(f"{path} was measured with {', '.join(reasons)}; give another --out, or --overwrite")


def why_again(there: Result, now: Mapping[str, Any], model_digest: str) -> str:
    """Why a result that is there is measured again though protocol and model are the same: other code would score it
    now, or the model does not tell what it is. In words; empty where that is not so, or not known.

    Args:
        now: `scoring_of` the benchmark.
    """
    if there.model["digest"] != model_digest:
        return ""
    if not model_digest:
        return "the model has no digest, so that nothing tells whether it is the same"
    versions = [one.get("scoring_version", 1) for one in (now, there.benchmark)]
    told = [f"scoring version {versions[0]} of the task, not {versions[1]}"] if versions[0] != versions[1] else []
    plugins, before = (one.get("plugins", {}) for one in (now, there.benchmark))
    told += [
        f"{what} by {plugins.get(what, 'cosmos-eval')}, not {before.get(what, 'cosmos-eval')}"
        for what in dict.fromkeys([*plugins, *before])
        if plugins.get(what) != before.get(what)
    ]
    return "; ".join(told)


def store_folder(cache: Path | str | bool, out: Path | str | None) -> Path | None:
    """The folder that `cache` of `evaluate` means."""
    if isinstance(cache, bool):
        return user_path(out) / FOLDER if cache and out is not None else None
    return user_path(cache)


def model_folder(model: Model) -> str:
    """The readable part of the spec, and the digest's start: a changed checkpoint gets a folder of its own."""
    return f"{slug(model.spec)}-{model.digest[:8]}" if model.digest else slug(model.spec)
