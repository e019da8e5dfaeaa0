"""Copies to a CUDA device that do not hold it up, and how late the host may read what the device computes.

Inputs are copied by a stream of their own, while the device computes (`copy_to_device`); values come back as
`cosmos_core.host_copy.HostCopy`. Other devices copy at once.
"""

from functools import lru_cache

import torch
from torch import Tensor

LATE_BATCHES = 1
"""How many batches later the values of a batch on CUDA are read: while they are awaited, the device computes the next
one. More would take more memory and hide nothing else."""


def late_batches(device: torch.device) -> int:
    """How many batches later the host may read the values of a batch; 0 where that would save nothing."""
    return LATE_BATCHES if device.type == "cuda" else 0


def copy_to_device(x: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device. From page-locked memory to CUDA it is copied while the device computes."""
    if device.type != "cuda" or x.device.type != "cpu" or not x.is_pinned():
        # on MPS the host must wait: see `cosmos_core.devices.send`
        return x.to(device, non_blocking=device.type == "cuda")
    stream, computing = _copy_stream(device), torch.cuda.current_stream(device)
    with torch.cuda.stream(stream):
        copied = x.to(device, non_blocking=True)
    computing.wait_stream(stream)
    # The memory belongs to the stream of copies: without this, a later copy could overwrite it before it is used.
    copied.record_stream(computing)
    return copied


@lru_cache(maxsize=64)
def _copy_stream(device: torch.device) -> "torch.cuda.Stream":
    return torch.cuda.Stream(device)
