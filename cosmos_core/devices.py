"""Torch devices by name, for training and evaluation."""

import torch

from cosmos_core.errors import RequestError
from cosmos_core.short_repr import short_repr


def require_device(device: str | torch.device) -> torch.device:
    """Return the device with this name, after a check that it computes on this machine.

    Raises:
        RequestError: not a device, or one that this machine lacks or cannot compute on (`meta` among them).
    """
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise RequestError(f"unknown device {short_repr(device)}; give auto, cpu, cuda or cuda:N") from error
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise RequestError(f"no device {device}: torch sees {torch.cuda.device_count()} CUDA devices; give auto or cpu")
    try:
        torch.ones(1, device=chosen).item()  # reads a number back, which `meta` cannot
    except Exception as error:  # torch raises five kinds here, by device
        line = " ".join(str(error).split())
        raise RequestError(f"no device {device}: {line[:160]}; give auto, cpu, cuda or cuda:N") from error
    return chosen
