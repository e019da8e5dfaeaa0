"""Adapters: one `Model` for every kind of weights. `load_model` and `parse_spec` import nothing heavy until they are
called."""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from cosmos_eval.models.spec import KnownModel, ModelSpec, list_models, parse_spec, slug

if TYPE_CHECKING:
    import torch

    from cosmos_eval.models.base import Model

__all__ = ["KnownModel", "ModelSpec", "list_models", "load_model", "parse_spec", "slug"]


def load_model(spec: str, device: "str | torch.device" = "cpu") -> "Model":
    """Load the model that a spec names, in eval mode, float32, on `device`.

    Args:
        spec: see `list_models`.

    Raises:
        RequestError: one line that says what is wrong with the spec, the files or the weights.
    """
    parsed = parse_spec(spec)
    return adapter_function("load", parsed.kind)(parsed, device)


def adapter_function(action: str, kind: str) -> Callable[..., Any]:
    """`load_<kind>` or `check_<kind>` of the module of one kind of spec, imported when it is asked for.

    A kind is a word of `cosmos_eval.models.spec.KINDS` and a module of this package.
    """
    return getattr(import_module(f"cosmos_eval.models.{kind}"), f"{action}_{kind}")
