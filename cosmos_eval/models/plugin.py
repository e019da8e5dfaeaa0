"""Models of plug-ins: an adapter made by another package's code, behind the checks of `python:`."""

import inspect
from typing import Any

import torch

from cosmos_core.plugins import Plugin, resolve
from cosmos_eval.models.base import Model
from cosmos_eval.models.kinds import ModelKind, ModelSpec
from cosmos_eval.models.python import call_adapter, in_one_line


def load_plugin_model(plugin: Plugin | None, found: Any, spec: ModelSpec, device: str | torch.device) -> Model:
    """Have a plug-in, or a class of our table, make its adapter, and check it.

    Args:
        found: what the entry point names: a `ModelKind`, whose `load` is called with the parsed spec and the device; or
            a function or class, called with what stands behind the colon, where it takes that, and `device`, where it
            has such a parameter.

    Raises:
        RequestError: it fails or returns no adapter; one line that names the plug-in.
    """
    what = f"{spec.text} ({plugin})" if plugin else spec.text
    if isinstance(found, ModelKind):

        def load(spec: ModelSpec, device: str | torch.device) -> Any:
            return resolve(found.load)(spec, device)

        return call_adapter(load, [spec], spec, device, what)
    with in_one_line(what):
        named = any(name != "device" for name in inspect.signature(found).parameters)
    return call_adapter(found, [spec.name] if named else [], spec, device, what)
