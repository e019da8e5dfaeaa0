"""Adapters: one `Model` for every kind of weights. `load_model` and `parse_spec` import nothing heavy until they are
called."""

from typing import TYPE_CHECKING

from cosmos_core.plugins import resolve
from cosmos_eval.models.spec import KnownModel, ModelKind, ModelSpec, list_models, model_kind, parse_spec, slug

if TYPE_CHECKING:
    import torch

    from cosmos_eval.models.base import Model

__all__ = ["KnownModel", "ModelKind", "ModelSpec", "list_models", "load_model", "parse_spec", "slug"]


def load_model(spec: "str | ModelSpec", device: "str | torch.device" = "cpu") -> "Model":
    """Load the model that a spec names, in eval mode, float32, on `device`.

    Args:
        spec: see `list_models`; text, or parsed.

    Raises:
        RequestError: one line that says what is wrong with the spec, the files or the weights.
    """
    parsed = parse_spec(spec) if isinstance(spec, str) else spec
    model: Model = resolve(model_kind(parsed.kind).load)(parsed, device)
    return model
