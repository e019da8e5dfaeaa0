"""What can be known of models before any of them is loaded, so that a run of a night does not end at its second model.

Each kind of spec says it by its `ModelKind.check(spec, fetch)`: it raises RequestError where the model
cannot be loaded, and returns a note, empty where there is nothing to say. Files are looked at up to their headers;
their bytes are compared with their checksums when they are loaded. Nothing is downloaded unless `fetch` says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cosmos_core.errors import RequestError
from cosmos_core.plugins import resolve
from cosmos_eval.models.spec import model_kind, parse_spec


@dataclass(frozen=True)
class ModelCheck:
    """What is known of one model."""

    spec: str
    problem: str = ""
    """Why it cannot be loaded, in one line that names it; empty where nothing speaks against it."""
    note: str = ""
    """What could not be checked, as `would be fetched (not checked)`."""


def check_model(spec: str, fetch: bool = False) -> ModelCheck:
    """Look at what a spec names: files and their headers, architecture and tag, module and function, tokenizer.

    Args:
        fetch: download what is not in the cache, or as much of it as shows that the rest can be had; a download that
            fails is a problem. Without it such a model gets a note, and the network is not touched.
    """
    try:
        parsed = parse_spec(spec)
        check = model_kind(parsed.kind).check
        return ModelCheck(spec, note=resolve(check)(parsed, fetch) if check is not None else "")
    except (RequestError, OSError) as error:  # an OSError is of a name that no disk takes, or one that is not readable
        line = str(error) if isinstance(error, RequestError) else f"{error.strerror or error}; check the path"
        return ModelCheck(spec, problem=line if spec in line else f"{spec}: {line}")


def check_models(specs: Sequence[str], fetch: bool = False) -> list[ModelCheck]:
    """`check_model` of each, in order."""
    return [check_model(spec, fetch) for spec in specs]


def require_models(specs: Sequence[str], fetch: bool = False) -> None:
    """RequestError that names every model which cannot be loaded, in one line."""
    problems = [check.problem for check in check_models(specs, fetch) if check.problem]
    if problems:
        raise RequestError("; ".join(problems))
