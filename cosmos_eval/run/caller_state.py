"""What belongs to the caller of `evaluate` and is afterwards as it was: torch's modes, the model's modes and device."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def own_torch_modes() -> Iterator[None]:
    """Compute without gradients and without the caller's `inference_mode` and `autocast`.

    Tensors that are made in inference mode cannot be used everywhere later, and some are cached; the caller's autocast
    would change numbers, whose precision the engine chooses and records.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield


@contextmanager
def kept_modules(model: Any) -> Iterator[None]:
    """Restore the train or eval mode of each module of a model, and its device, also after an error.

    Args:
        model: what `evaluate` was given: a module, an adapter with modules among its attributes, or a tuple.
    """
    networks = find_networks(model)
    modes = [(module, module.training) for network in networks for module in network.modules()]
    devices = [(network, _device(network)) for network in networks]
    try:
        yield
    finally:
        for module, was_training in modes:  # each on its own: `train()` would reach frozen parts as well
            module.training = was_training
        for network, device in devices:
            if device is not None and _device(network) != device:
                network.to(device)


def find_networks(model: Any) -> list[nn.Module]:
    """Return the modules that a model consists of."""
    if isinstance(model, nn.Module):
        return [model]
    parts = model if isinstance(model, tuple | list) else getattr(model, "__dict__", {}).values()
    return [part for part in parts if isinstance(part, nn.Module)]


def _device(network: nn.Module) -> torch.device | None:
    """Return the device of all parameters; None if there are none, or several devices."""
    devices = {parameter.device for parameter in network.parameters()}
    return devices.pop() if len(devices) == 1 else None
