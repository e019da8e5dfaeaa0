"""Checks of models before any is loaded, so that a run over a night does not stop at its second model.

Each kind of spec has a `ModelKind.check(spec, fetch)`, which raises RequestError if the model cannot be loaded, and
else returns a note, which is empty if there is nothing to say. It reads headers of files only; checksums are compared
when the model is loaded. Nothing is downloaded unless `fetch` is true.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cosmos_core.errors import RequestError
from cosmos_core.plugins import resolve
from cosmos_eval.models.spec import model_kind, parse_spec


@dataclass(frozen=True)
class ModelCheck:
    """The outcome of the check of one model."""

    spec: str
    problem: str = ""
    """Why the model cannot be loaded, in one line that names it; empty if the check found nothing wrong."""
    note: str = ""
    """What could not be checked, such as `would be fetched (not checked)`."""


def check_model(spec: str, fetch: bool = False) -> ModelCheck:
    """Check what a spec names: files and their headers, architecture and tag, module and function, tokenizer.

    Args:
        fetch: download what is not in the cache, or the small part of it that shows that the rest can be downloaded; a
            download that fails is a problem. If false, such a model gets a note, and the network is not used.
    """
    try:
        parsed = parse_spec(spec)
        check = model_kind(parsed.kind).check
        return ModelCheck(spec, note=resolve(check)(parsed, fetch) if check is not None else "")
    except RequestError as error:
        return ModelCheck(spec, problem=_with_spec(str(error), spec))
    except OSError as error:  # a name that is too long for any file system, or a file without permission
        return ModelCheck(spec, problem=_with_spec(f"{error.strerror or error}; check the path", spec))


def _with_spec(problem: str, spec: str) -> str:
    return problem if spec in problem else f"{spec}: {problem}"


def check_models(specs: Sequence[str], fetch: bool = False) -> list[ModelCheck]:
    """`check_model` of each spec, in their order."""
    return [check_model(spec, fetch) for spec in specs]


def require_models(specs: Sequence[str], fetch: bool = False) -> None:
    """RequestError if a model cannot be loaded; one line that names all such models."""
    problems = [check.problem for check in check_models(specs, fetch) if check.problem]
    if problems:
        raise RequestError("; ".join(problems))
