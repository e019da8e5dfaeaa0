"""Model specs: what `--model` takes, parsed without importing torch.

Kinds of spec are ours (`built_in_kinds`) or those that other packages add as entry points of the group
`cosmos_eval.models`: a `ModelKind`, or simply a function or class that is called with what stands behind the colon
(and with `device=`, where it takes one) and returns an adapter as `python:` takes it.
"""

import re
from dataclasses import replace
from functools import partial
from typing import Any

from cosmos_core.plugins import Plugin, Registry, first_sentence, off_note
from cosmos_eval.models.built_in_kinds import BUILT_IN, LOCAL_DIR, QUICK
from cosmos_eval.models.kinds import KnownModel, ModelKind, ModelSpec, refuse_spec

__all__ = [
    "KINDS", "LOCAL_DIR", "MODELS", "QUICK", "KnownModel", "ModelKind", "ModelSpec", "list_models", "model_kind",
    "parse_spec", "slug",
]  # fmt: skip

KINDS = tuple(BUILT_IN)
"""Our kinds of spec."""


def _problem(found: Any) -> str:
    if not isinstance(found, ModelKind):
        return "" if callable(found) else f"it is a {type(found).__name__}, not a function"
    if not callable(found.load) and not isinstance(found.load, str):
        return "its load is neither a function nor module:function"
    if not all(isinstance(line, KnownModel) for line in found.listed):
        return "its listed are not all cosmos_eval.models.KnownModel"
    return ""


MODELS = Registry("cosmos_eval.models", "kind of model", BUILT_IN, _problem)


def model_kind(name: str) -> ModelKind:
    """The kind of spec before the colon; a plug-in is imported.

    Raises:
        RequestError: there is none, or it is a plug-in's that cannot be used.
    """
    found = MODELS.load(name)
    plugin = MODELS.plugin(name)
    if plugin is None:
        kind: ModelKind = found
        return kind
    if isinstance(found, ModelKind):
        return replace(found, name=name, load=partial(_load_of_plugin, plugin, found))
    load = partial(_load_of_plugin, plugin, found)
    listed = (KnownModel(f"{name}:...", "-", first_sentence(found) or "a plug-in's adapter"),)
    return ModelKind(name, f"{name}:... ({plugin})", load=load, listed=listed)


def _load_of_plugin(plugin: Plugin, found: Any, spec: ModelSpec, device: Any = "cpu") -> Any:
    from cosmos_eval.models.plugin import load_plugin_model

    return load_plugin_model(plugin, found, spec, device)


def parse_spec(text: str) -> ModelSpec:
    """Split a model spec into its parts; neither the disk nor torch is touched.

    Raises:
        RequestError: no or an unknown kind, or a part is missing; lists the forms that exist.
    """
    name, colon, rest = text.partition(":")
    if not colon or name not in MODELS.names():
        forms = [model_kind(other).form if other in KINDS else f"{other}:..." for other in MODELS.names()]
        raise refuse_spec(text, f"is of no known kind; write one of: {'; '.join(forms)}{off_note()}")
    kind = model_kind(name)
    if name in KINDS and not rest.strip():
        raise refuse_spec(text, f"names nothing; write {kind.form}")
    return kind.parse(text, kind, rest)


def slug(spec: str) -> str:
    """A folder name for the model: letters, digits, `.`, `_` and `-`, at most 80 characters, no folders of this
    machine.

    Paths keep their last two parts, so that `runs/exp1/last.pt` and `runs/exp2/last.pt` stay apart; whatever else could
    collide is told apart by the digest that follows the slug in a result's folder name.
    """
    parsed = parse_spec(spec)
    words = model_kind(parsed.kind).words(parsed)
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join([parsed.kind, *words])).strip("-.")
    return safe[:80].rstrip("-.")


def list_models() -> list[KnownModel]:
    """Everything that a spec can name, with what each needs on disk or from the network. Imports no torch of ours."""
    return [line for name in MODELS.available() for line in model_kind(name).listed]
