"""Models of plug-ins: an adapter made by another package's function or class, behind the checks of `python:`."""

import inspect
from collections.abc import Callable
from typing import Any

import torch

from cosmos_core.errors import RequestError
from cosmos_core.plugins import Plugin
from cosmos_eval.models.base import Model, out_of_memory
from cosmos_eval.models.kinds import ModelSpec
from cosmos_eval.models.python import adapted, in_one_line


def load_plugin_model(plugin: Plugin, make: Callable[..., Any], spec: ModelSpec, device: str | torch.device) -> Model:
    """Call what an entry point names, and check the adapter that it returns.

    Args:
        make: takes what stands behind the colon, or nothing, and `device` where it has such a parameter.

    Raises:
        RequestError: it fails or returns no adapter; one line that names the plug-in.
    """
    try:
        with in_one_line(f"{spec.text} ({plugin})"):
            parameters = inspect.signature(make).parameters
            takes_device = "device" in parameters
            takes_name = any(name != "device" for name in parameters)
            arguments = [spec.name] if takes_name else []
            adapter = make(*arguments, device=device) if takes_device else make(*arguments)
        return adapted(adapter, spec.text, device, move=not takes_device)
    except Exception as error:
        if not out_of_memory(error):
            raise
        raise RequestError(f"{spec.text}: out of memory making the model on {device}; give another --device") from error
