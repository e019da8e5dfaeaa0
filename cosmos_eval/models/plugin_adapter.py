"""Models of plug-ins: call the plug-in's code and check the adapter that it returns, as for a `python:` spec."""

import inspect
from typing import Any

import torch

from cosmos_core.plugins import Plugin, resolve
from cosmos_eval.models.base import Model
from cosmos_eval.models.hf_remote import no_remote_code
from cosmos_eval.models.kinds import ModelKind, ModelSpec
from cosmos_eval.models.python import build_adapter
from cosmos_eval.models.python_adapter import as_request_error


def load_plugin_model(
    plugin: Plugin | None, kind_or_factory: Any, spec: ModelSpec, device: str | torch.device
) -> Model:
    """Build the adapter of a plug-in, and check it.

    Args:
        plugin: named in messages; None for a class in our own table of kinds.
        kind_or_factory: what the entry point names. The `load` of a `ModelKind` is called with the parsed spec and the
            device. A function or class is called with the part of the spec after the colon if it has a parameter for
            it, and with `device=` if it has that parameter.

    Raises:
        RequestError: the code fails or returns no adapter; one line that names the plug-in.
    """
    owner = f"{spec.text} ({plugin})" if plugin else spec.text
    if isinstance(kind_or_factory, ModelKind):

        def load(spec: ModelSpec, device: str | torch.device) -> Any:
            with no_remote_code(owner):
                return resolve(kind_or_factory.load)(spec, device)

        return build_adapter(load, [spec], spec, device, owner)
    with as_request_error(owner):
        takes_name = any(name != "device" for name in inspect.signature(kind_or_factory).parameters)
    with no_remote_code(owner):
        return build_adapter(kind_or_factory, [spec.name] if takes_name else [], spec, device, owner)
