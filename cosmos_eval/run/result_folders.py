"""Folders of results: a model's folder, the feature cache beside it, and which stored results may be replaced."""

from pathlib import Path

from cosmos_core.errors import RequestError
from cosmos_core.file_checks import user_path
from cosmos_eval.cache.feature_cache import FOLDER
from cosmos_eval.models.base import Model
from cosmos_eval.models.spec import slug
from cosmos_eval.protocol.benchmark import Benchmark
from cosmos_eval.protocol.definition_changes import describe_changes
from cosmos_eval.protocol.task_registry import task_info
from cosmos_eval.results.record import Result
from cosmos_eval.results.store import RESULT, read_result
from cosmos_eval.run.provenance import ScoringCode


def read_stored_result(folder: Path) -> Result | None:
    """Read the result in a folder; None if there is none, or a damaged one, which is then replaced."""
    path = folder / RESULT
    try:
        return read_result(path) if path.is_file() else None
    except RequestError:
        return None


def require_replaceable(
    stored: Result, path: Path, benchmark: Benchmark, dataset: str, precision: str, limit: int | None
) -> None:
    """Check that a stored result may be replaced by the one about to be computed.

    A full result is not replaced by one of another protocol, other data, another precision or fewer images. A result
    with a limit may be replaced, and so may one of a model without a digest, which has no identity.

    Args:
        stored: the stored result, of the same model and a benchmark of the same name.
        path: its file.
        dataset: fingerprint of the data.

    Raises:
        RequestError: it may not be replaced; says what differs.
    """
    if stored.limit is not None or not stored.identity:
        return
    is_protocol_changed = stored.benchmark.fingerprint != benchmark.fingerprint
    changed = describe_changes(benchmark, stored.benchmark.parts) if is_protocol_changed else []
    if changed:
        change = f"what differs: {', '.join(changed)}"
    else:  # older results do not record the parts of their protocol
        prompts = "templates, class names, " if task_info(benchmark.task).prompt_keys else ""
        change = f"its {prompts}metrics or dataset options were changed"
    differences = {
        "all images": limit is not None,
        f"another definition of {benchmark.name} ({change})": is_protocol_changed,
        # Prompts of a definition are hashed into the dataset's fingerprint too: it changes together with the protocol.
        "other data": not is_protocol_changed and stored.dataset.fingerprint != dataset,
        f"precision {stored.precision}": stored.precision != precision,
    }
    reasons = [reason for reason, differs in differences.items() if differs]
    if reasons:
        raise RequestError(f"{path} was measured with {', '.join(reasons)}; give another --out, or --overwrite")


def describe_repetition(stored: Result, scoring: ScoringCode, model_digest: str) -> str:
    """Say why a stored result of the same protocol and model is computed again.

    Args:
        stored: the stored result.
        scoring: the code that would score the benchmark now.
        model_digest: digest of the model; empty for a `python:` model without one.

    Returns:
        the reasons in words: the model has no digest, or other code would score it now. Empty for another model, or if
        there are no such reasons.
    """
    if stored.model.digest != model_digest:
        return ""
    if not model_digest:
        return "the model has no digest, so it is unknown whether it has changed"
    reasons = []
    version, stored_version = scoring.scoring_version, stored.benchmark.scoring_version
    if version != stored_version:
        reasons.append(f"scoring version {version} of the task, not {stored_version}")
    plugins, stored_plugins = scoring.plugins, stored.benchmark.plugins
    for role in dict.fromkeys([*plugins, *stored_plugins]):  # task, reader
        provider, stored_provider = (names.get(role, "cosmos-eval") for names in (plugins, stored_plugins))
        if provider != stored_provider:
            reasons.append(f"{role} by {provider}, not {stored_provider}")
    return "; ".join(reasons)


def feature_cache_folder(cache: Path | str | bool, out: Path | str | None) -> Path | None:
    """The folder of the feature cache; None keeps none.

    Args:
        cache: as for `evaluate`: a folder, or True for the one in `out`.
        out: the folder for results.
    """
    if isinstance(cache, bool):
        return user_path(out) / FOLDER if cache and out is not None else None
    return user_path(cache)


def model_folder(model: Model) -> str:
    """The name of a model's folder: a readable form of its spec and the first digits of its digest, so that a changed
    checkpoint gets a folder of its own."""
    return folder_of_model(model.spec, model.digest)


def folder_of_model(spec: str, digest: str) -> str:
    """As `model_folder`, by the model's spec and digest."""
    return f"{slug(spec)}-{digest[:8]}" if digest else slug(spec)
