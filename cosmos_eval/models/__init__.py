"""Adapters: one `Model` for every kind of weights. `load_model` and `parse_spec` import nothing heavy until they are
called."""

from typing import TYPE_CHECKING

from cosmos_eval.models.spec import KnownModel, ModelSpec, list_models, parse_spec, slug

if TYPE_CHECKING:
    import torch

    from cosmos_eval.models.base import Model

__all__ = ["KnownModel", "ModelSpec", "list_models", "load_model", "parse_spec", "slug"]


def load_model(spec: str, device: "str | torch.device" = "cpu") -> "Model":
    """Load the model that a spec names, in eval mode, float32, on `device`.

    Args:
        spec: `cosmos:`, `open_clip:`, `hf:`, `python:` or `embeddings:`, see `list_models`.

    Raises:
        RequestError: one line that says what is wrong with the spec, the files or the weights.
    """
    parsed = parse_spec(spec)
    if parsed.kind == "cosmos":
        from cosmos_eval.models.cosmos import load_cosmos

        return load_cosmos(parsed, device)
    if parsed.kind == "open_clip":
        from cosmos_eval.models.open_clip import load_open_clip

        return load_open_clip(parsed, device)
    if parsed.kind == "hf":
        from cosmos_eval.models.hf import load_hf

        return load_hf(parsed, device)
    if parsed.kind == "python":
        from cosmos_eval.models.python import load_python

        return load_python(parsed, device)
    from cosmos_eval.models.embeddings import load_embeddings

    return load_embeddings(parsed, device)
