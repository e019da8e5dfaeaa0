"""Model specs: the registry of their kinds, and parsing of what `--model` takes. Imports no torch.

A kind is built in (`built_in_kinds`), or added by another package as an entry point of the group `cosmos_eval.models`.
The entry point names a `ModelKind`, or a function or class that returns an adapter as `python:` takes it. A function
or class is called with the part of the spec after the colon, and with `device=` if it has such a parameter.
"""

import re
from dataclasses import replace
from functools import partial
from typing import Any

from cosmos_core.plugins import Plugin, Registry, first_sentence, off_note
from cosmos_eval.models.built_in_kinds import BUILT_IN
from cosmos_eval.models.kinds import ListedModel, ModelKind, ModelSpec, spec_error
from cosmos_eval.models.spec_kinds.open_clip import HF_HUB, LOCAL_DIR, QUICKGELU_SUFFIX

__all__ = [
    "HF_HUB", "KINDS", "LOCAL_DIR", "MODELS", "QUICKGELU_SUFFIX", "ListedModel", "ModelKind", "ModelSpec",
    "list_models", "model_kind", "parse_spec", "slug",
]  # fmt: skip

KINDS = tuple(BUILT_IN)
"""Names of the built-in kinds of spec."""


def _find_problem(candidate: Any) -> str:
    """Why an object of a plug-in is not a kind of model, in words; empty if it is one."""
    if not isinstance(candidate, ModelKind):
        return "" if callable(candidate) else f"it is a {type(candidate).__name__}, not a function"
    if not callable(candidate.load) and not isinstance(candidate.load, str):
        return "its load is neither a function nor module:function"
    if not all(isinstance(line, ListedModel) for line in candidate.listed):
        return "its listed are not all cosmos_eval.models.ListedModel"
    return ""


MODELS = Registry("cosmos_eval.models", "kind of model", BUILT_IN, _find_problem)


def model_kind(name: str) -> ModelKind:
    """The kind of spec with this name, the word before the colon; imports the plug-in that provides it, if one does.

    Raises:
        RequestError: there is no such kind, or its plug-in cannot be used.
    """
    loaded = MODELS.load(name)
    plugin = MODELS.plugin(name)
    if isinstance(loaded, ModelKind):
        if plugin is None:
            return loaded
        return replace(loaded, name=name, load=partial(_load_adapter, plugin, loaded))
    # A function or class that makes adapters: everything else about its kind has to be derived.
    load = partial(_load_adapter, plugin, loaded)
    listed = (ListedModel(f"{name}:...", "-", first_sentence(loaded) or "an adapter"),)
    return ModelKind(name, f"{name}:..." + (f" ({plugin})" if plugin else ""), load=load, listed=listed)


def _load_adapter(plugin: Plugin | None, kind_or_factory: Any, spec: ModelSpec, device: Any = "cpu") -> Any:
    from cosmos_eval.models.plugin_adapter import load_plugin_model

    return load_plugin_model(plugin, kind_or_factory, spec, device)


def parse_spec(text: str) -> ModelSpec:
    """Split a model spec into its parts, without a look at the disk and without torch.

    Raises:
        RequestError: the kind is missing or unknown, or a part is missing; the message lists the forms.
    """
    name, colon, rest = text.partition(":")
    if not colon or name not in MODELS.names():
        forms = [model_kind(other).form if other in KINDS else f"{other}:..." for other in MODELS.names()]
        raise spec_error(text, f"is of an unknown kind; write one of: {'; '.join(forms)}{off_note()}")
    kind = model_kind(name)
    if name in KINDS and not rest.strip():
        raise spec_error(text, f"has nothing after the colon; write {kind.form}")
    return kind.parse(text, kind, rest)


def slug(spec: str) -> str:
    """A folder name for a model's results: at most 80 letters, digits, `.`, `_` and `-`.

    Of a path it has the last two parts only: enough to tell `runs/exp1/last.pt` from `runs/exp2/last.pt`, without the
    folders of this machine. Two models may have the same slug; the digest that follows it in the name of a result
    folder tells them apart.
    """
    parsed = parse_spec(spec)
    words = model_kind(parsed.kind).slug_words(parsed)
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join([parsed.kind, *words])).strip("-.")
    return safe[:80].rstrip("-.")


def list_models() -> list[ListedModel]:
    """The lines of `list models`: every form of spec, with what it needs. Imports no torch, except in plug-ins."""
    return [line for name in MODELS.available() for line in model_kind(name).listed]
