"""Models of plug-ins: an adapter made by another package's code, behind the checks of `python:`."""

import inspect
from typing import Any

import torch

from cosmos_core.errors import RequestError
from cosmos_core.plugins import Plugin, resolve
from cosmos_eval.models.base import Model, out_of_memory
from cosmos_eval.models.kinds import ModelKind, ModelSpec
from cosmos_eval.models.python import adapted, in_one_line


def load_plugin_model(plugin: Plugin, found: Any, spec: ModelSpec, device: str | torch.device) -> Model:
    """Have a plug-in make its adapter, and check it.

    Args:
        found: what the entry point names: a `ModelKind`, whose `load` is called with the parsed spec and the device; or
            a function or class, called with what stands behind the colon, where it takes that, and `device`, where it
            has such a parameter.

    Raises:
        RequestError: it fails or returns no adapter; one line that names the plug-in.
    """
    try:
        with in_one_line(f"{spec.text} ({plugin})"):
            if isinstance(found, ModelKind):
                adapter, placed = resolve(found.load)(spec, device), True
            else:
                parameters = inspect.signature(found).parameters
                placed = "device" in parameters
                arguments = [spec.name] if any(name != "device" for name in parameters) else []
                adapter = found(*arguments, device=device) if placed else found(*arguments)
        return adapted(adapter, spec.text, device, move=not placed)
    except Exception as error:
        if not out_of_memory(error):
            raise
        raise RequestError(f"{spec.text}: out of memory making the model on {device}; give another --device") from error
