"""Adapters, one module for each library: `load_model` returns a `Model` whatever library its weights come from.

Importing this package imports neither torch nor any of the libraries; `load_model` does, and `parse_spec` does not.
"""

from typing import TYPE_CHECKING

from cosmos_core.plugins import resolve
from cosmos_eval.models.spec import ListedModel, ModelKind, ModelSpec, list_models, model_kind, parse_spec, slug

if TYPE_CHECKING:
    import torch

    from cosmos_eval.models.base import Model

__all__ = ["ListedModel", "ModelKind", "ModelSpec", "list_models", "load_model", "parse_spec", "slug"]


def load_model(spec: "str | ModelSpec", device: "str | torch.device" = "cpu") -> "Model":
    """Load a model in eval mode and float32 on `device`.

    Args:
        spec: a model spec, as text or parsed; `list_models` shows the forms.

    Raises:
        RequestError: one line that says what is wrong with the spec, the files or the weights, or that memory lacks.
    """
    parsed = parse_spec(spec) if isinstance(spec, str) else spec
    from cosmos_core.memory_errors import report_out_of_memory

    load = resolve(model_kind(parsed.kind).load)
    with report_out_of_memory(f"loading {parsed.text} on {device}; free memory there, or give another --device"):
        model: Model = load(parsed, device)
    return model
